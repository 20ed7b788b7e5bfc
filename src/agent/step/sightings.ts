import { unreachable } from '../../common/errors.ts';
import type { InitFault } from '../../init/contract.ts';
import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import { afterExit, type Termination, terminationOf } from '../model/crash-backoff.ts';
import { assumed } from '../model/idle-policy.ts';
import { isAlive } from '../model/plan.ts';
import { type Container, hasEnded, interfaceOf, type Sighting, sizeOf, withProcess, withTmp } from './container.ts';
import { seen } from './container-sight.ts';
import type { Seen } from './events.ts';
import { type Draft, findContainer, goalAt, serves } from './state.ts';

/**
 * Milliseconds that a worker has been awake until the runtime's own tools are told. Longer than the 10 seconds after
 * which most are paused again: those cost nothing (`docs/adr/0008-thaw-below-containerd.md`).
 */
const resyncAfterMs = 15_000;
/** Milliseconds until it is tried again while calls are in the worker, and after a call came in between. */
export const resyncRetryMs = 1_000;

/** When the runtime's tools are to learn that a container was thawed at `now`. */
export function resyncAfter(now: number): { readonly at: number; readonly retryMs: number } {
  return { at: now + resyncAfterMs, retryMs: resyncRetryMs };
}

/** The runtime tells of a container. */
export function see(draft: Draft, containerId: string, sighting: Sighting): void {
  const { now, wall } = draft.at;
  const before = findContainer(draft.state, containerId);
  if (before === undefined) {
    return;
  }
  let container = seen(before, sighting, now);
  const { info: found } = sighting;
  if (found?.task.kind === 'Running' && found.task.unsettled === true && container.activity.kind !== 'Settling') {
    container = { ...container, resync: container.resync ?? resyncAfter(now) };
  }
  const { info } = container.sight;
  if (info !== undefined) {
    container = withTmp(container, info.tmpOnDisk === true);
  }
  if (container.left !== undefined && hasEnded(container)) {
    // The call ended with its process. A later failure to look must not bring it back.
    container = { ...container, left: undefined };
    draft.emit({ kind: interfaceOf(before) === 'Lambda' ? 'Unwatch' : 'Unmark', containerId });
  }
  if (info?.task.kind === 'Paused' && container.process.pausedAt === undefined) {
    container = withProcess(container, { pausedAt: new Date(wall).toISOString() });
  }
  draft.put(container);
  if (info !== undefined) {
    draft.emit({ kind: 'Hold', containerId, memoryMiB: sizeOf(container) });
  }
  if (draft.state.adopting !== undefined && serves(draft.state, container)) {
    adoptIdle(draft, info);
  }
  const isSent = draft.state.places.some((place) => place.kind === 'Sent' && place.containerId === containerId);
  if (isSent && hasEnded(container)) {
    draft.emit({ kind: 'AbortCall', containerId, message: 'the worker exited' });
  }
}

/** Sets the idle clock so that nothing idle is woken or started, and nothing busy is frozen at once. */
function adoptIdle(draft: Draft, info: WorkerInfo | undefined): void {
  const { adopting, confirmed, desired } = draft.state;
  const { now } = draft.at;
  const record = adopting === 'Unrecorded' ? undefined : adopting;
  draft.set({ adopting: undefined });
  const kind = info?.task.kind;
  switch (kind) {
    case 'Running':
      draft.set({ idle: assumed(desired, 'Running', now) });
      return;
    case 'Paused':
      draft.set({ idle: assumed(desired, 'Paused', now), foundPaused: !confirmed });
      return;
    case 'Missing':
    case 'Created':
    case 'Stopped':
    case 'Unanswering':
    case undefined:
      // Nothing runs. One that rested goes to where it rested; everything else is an ordinary start.
      if (record !== undefined && record.rest !== 'Running') {
        draft.set({ idle: assumed(desired, record.rest, now) });
      }
      return;
    default:
      unreachable(kind);
  }
}

/**
 * Counts the end of a process that nothing asked for, once, and before the container is seen to have ended: an end
 * acted upon before it is counted would be followed by a start at once, and not by a restart.
 */
export function countExit(draft: Draft, containerId: string, { info, output }: Seen): void {
  const container = findContainer(draft.state, containerId);
  if (container === undefined || info?.task.kind !== 'Stopped' || container.process.exitCounted) {
    return;
  }
  const { exitCode, exitedAt, oomKilled } = info.task;
  const { adopting, lastTermination } = draft.state;
  const counted =
    serves(draft.state, container) &&
    adopting !== undefined &&
    lastTermination !== undefined &&
    lastTermination.finishedAt === exitedAt?.toISOString();
  draft.put(withProcess(container, { exitCounted: true }));
  if (counted) {
    // An earlier run of the agent has counted it.
    draft.change(containerId, ({ setbacks, ...rest }) => ({
      ...rest,
      setbacks: { ...setbacks, restartPending: true },
    }));
    return;
  }
  exited(draft, containerId, terminationOf(exitCode, oomKilled, exitedAt ?? new Date(draft.at.wall), output));
  draft.save();
}

/**
 * A process ended by itself, after which its worker is put off.
 *
 * @param fault why it could not be initialized again, where that was its end
 */
export function exited(draft: Draft, containerId: string, termination: Termination, fault?: InitFault): void {
  const container = terminated(draft, containerId, termination);
  if (container === undefined) {
    return;
  }
  const { now } = draft.at;
  const aliveMs = now - container.process.startedMonotonic;
  const exit = { termination, runtimeInterface: interfaceOf(container), fault };
  draft.put({ ...container, setbacks: afterExit(container.setbacks, exit, aliveMs, now) });
  draft.emit({
    kind: 'Log',
    level: 'warn',
    fields: { container: containerId, exitCode: termination.exitCode, reason: termination.reason },
    message: 'a worker ended by itself',
  });
}

/** Shows the end of a process. Returns its container where the next start is a restart; undefined where none is wanted. */
export function terminated(draft: Draft, containerId: string, termination: Termination): Container | undefined {
  const before = findContainer(draft.state, containerId);
  if (before === undefined) {
    return undefined;
  }
  if (serves(draft.state, before)) {
    draft.set({ lastTermination: termination });
  }
  const goal = goalAt(draft.state, draft.at.now);
  if (!isAlive(goal) || before.make.shapeHash !== goal.shapeHash) {
    return undefined;
  }
  const container = { ...before, setbacks: { ...before.setbacks, restartPending: true } };
  draft.put(container);
  return container;
}
