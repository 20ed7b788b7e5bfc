import { isDeepStrictEqual } from 'node:util';
import type { KernelState, WorkerInfo } from '../../runtime/contract/runtime.ts';
import { type Container, newProcess, pidOf, type Sighting } from './container.ts';
import { awaited } from './init-sight.ts';

/** Why a container is not called while its shim is given up. */
const givenUp = 'its shim does not answer';

/** The runtime says that this is how it is. */
export function seen(container: Container, { info, lost }: Sighting, now: number): Container {
  if (info?.task.kind !== 'Unanswering') {
    return known(answering(container), info, 'Answers', now);
  }
  const { kernel } = info.task;
  const silent = silenced(container, lost, now);
  const byKernel = knownByKernel(silent, kernel, info, now);
  return byKernel ?? (kernel === 'Untold' ? silent : unknown(silent, now));
}

function known(container: Container, info: WorkerInfo | undefined, shim: 'Answers' | 'Silent', now: number): Container {
  const runsAgain = info?.task.kind === 'Running' && container.sight.info?.task.kind !== 'Running';
  const { init } = container;
  return { ...container, sight: { kind: 'Known', info, shim }, init: runsAgain ? awaited(init, now) : init };
}

/** Its shim did not answer. `lost`: by its own fault, so that it is given up. */
export function silenced(container: Container, lost: boolean, now: number): Container {
  const { sight } = container;
  if (lost || (sight.kind === 'Unknown' && sight.shim === 'Lost')) {
    const since = sight.kind === 'Unknown' ? sight.since : now;
    return {
      ...container,
      sight: { kind: 'Unknown', since, info: sight.info, shim: 'Lost' },
      unusable: container.unusable ?? givenUp,
    };
  }
  return { ...container, sight: { ...sight, shim: 'Silent' } };
}

/** Its shim answers, maybe again. */
export function answering(container: Container): Container {
  const { sight, unusable } = container;
  return {
    ...container,
    sight: { ...sight, shim: 'Answers' },
    unusable: unusable === givenUp ? undefined : unusable,
  };
}

/** The container after an event that makes the knowledge of it doubtful. */
export function unknown(container: Container, now: number): Container {
  const { sight } = container;
  return sight.kind === 'Unknown'
    ? container
    : { ...container, sight: { kind: 'Unknown', since: now, info: sight.info, shim: sight.shim } };
}

/**
 * The container as the kernel tells of it where the runtime does not; undefined where the kernel does not say enough.
 *
 * @param found what is known of it beside its task
 */
function knownByKernel(
  container: Container,
  kernel: KernelState,
  found: WorkerInfo | undefined,
  now: number,
): Container | undefined {
  const { sight } = container;
  // A container that is given up takes no calls, even where a process runs in it.
  if (sight.shim === 'Lost' || found === undefined || (kernel !== 'Running' && kernel !== 'Paused')) {
    return undefined;
  }
  return known(container, { ...found, task: { kind: kernel, pid: pidOf(container) } }, sight.shim, now);
}

/** After a failure that ends no process: what the kernel says is as good as a look. */
export function byKernel(container: Container, kernel: KernelState, now: number): Container {
  return knownByKernel(container, kernel, container.sight.info, now) ?? unknown(container, now);
}

/** The container after a freeze or a thaw. */
export function switched(container: Container, kind: 'Running' | 'Paused', now: number): Container {
  const { init, sight } = container;
  const { info } = sight;
  return info === undefined || (info.task.kind !== 'Running' && info.task.kind !== 'Paused')
    ? container
    : {
        ...container,
        sight: { ...sight, info: { ...info, task: { kind, pid: info.task.pid } } },
        init: kind === 'Running' ? awaited(init, now) : init,
      };
}

/** The container right after its start. */
export function started(container: Container, now: number, wall: number): Container {
  return {
    ...forgotten(container),
    process: newProcess(now, new Date(wall).toISOString(), true),
    init: awaited(container.init, now),
  };
}

/** The container right after its removal. A look has to prove that it is gone. */
export function removed(container: Container, now: number): Container {
  return unknown(
    {
      ...forgotten(container),
      traces: false,
      process: newProcess(container.process.startedMonotonic, undefined, false),
      removal: { kind: 'Untried' },
    },
    now,
  );
}

function forgotten(container: Container): Container {
  return { ...answering(container), unusable: undefined, left: undefined };
}

/** Whether a look at the whole node says something of the container that is not known. */
export function isNews({ sight }: Container, info: WorkerInfo | undefined): boolean {
  return sight.kind === 'Unknown' || sight.shim === 'Silent' || !isDeepStrictEqual(sight.info, info);
}
