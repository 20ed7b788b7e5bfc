import { takenMiB } from '../../api/worker-resources.ts';
import { unreachable } from '../../common/errors.ts';
import type { EnsureStep, RuntimeEvent, RuntimeInterface, WorkerInfo } from '../../runtime/contract/runtime.ts';
import { noRetries, type Retries } from '../model/backoff.ts';
import type { ContainerMake } from '../model/container-spec.ts';
import { noSetbacks, type Setbacks } from '../model/crash-backoff.ts';
import type { LeftCall } from '../model/marked-call.ts';
import type { Action, Observed } from '../model/plan.ts';
import { givenUpAt, heard, type InitSight, type InitWord, takesCall } from './init-sight.ts';

/** Milliseconds after its timeout until a worker counts as silent: its own answer to that comes first. */
const timeoutMarginMs = 1_500;
/** Milliseconds that the first call after a start may take on top, for the runtime and the function to load. */
const initialisationMs = 10_000;
/** Milliseconds for which a container that nothing is known of is shown as it was before. */
const unknownShownMs = 5_000;

/** Knowledge of a container. `shim`: whether its shim answered the last look. */
export type Sight =
  /** By the runtime or, where its shim is silent, by the kernel. No `info`: there is no container. */
  | { readonly kind: 'Known'; readonly info: WorkerInfo | undefined; readonly shim: 'Answers' | 'Silent' }
  /** `info`: as it was known before. A `Lost` shim is silent by its own fault: the container is given up. */
  | {
      readonly kind: 'Unknown';
      /** Monotonic milliseconds. */
      readonly since: number;
      readonly info: WorkerInfo | undefined;
      readonly shim: 'Answers' | 'Silent' | 'Lost';
    };

/** A process in a container, from its start on. */
export interface Process {
  /** Whether its port was seen open. */
  readonly ready: boolean;
  /** Whether its function has been loaded and called since it was started. */
  readonly warm: boolean;
  /** Whether the next call has to wait until the function is loaded. `TimedOut`: the last one ended before that. */
  readonly load: Load;
  /** Whether its end has been counted. */
  readonly exitCounted: boolean;
  /** Monotonic milliseconds. */
  readonly startedMonotonic: number;
  /** ISO 8601. */
  readonly startedAt: string | undefined;
  readonly pausedAt: string | undefined;
}

export type Load = 'Unloaded' | 'Loaded' | 'TimedOut';

/** Action under way on a container. No call gets in meanwhile, but the one that warms it up. */
export type Activity =
  | { readonly kind: 'None' }
  | Acting
  /** The runtime's own tools are told that it runs; it may be frozen for a few milliseconds. */
  | { readonly kind: 'Settling' };

export interface Acting {
  readonly kind: 'Acting';
  readonly action: Action;
  /** Monotonic milliseconds. */
  readonly since: number;
  /** Whether a call waits for the end of it. */
  readonly urgent: boolean;
  /** How far an `Ensure` is. */
  readonly step?: EnsureStep;
  /** More of how far it is, for people. */
  readonly detail?: string;
  /** The call of a `WarmUp`, with the wall-clock milliseconds at which its time is over. */
  readonly call?: { readonly requestId: string; readonly until: number };
}

/** A look at a container, beside all that is being done to it. Times are monotonic milliseconds. */
export type Look =
  | { readonly kind: 'None' }
  | { readonly kind: 'Wanted'; readonly at: number }
  /** `again`: an event came meanwhile, so that another look follows. */
  | { readonly kind: 'Looking'; readonly again: boolean };

/**
 * When the runtime's tools are to be told that a container runs, which was thawed below them. Monotonic milliseconds.
 */
export interface Resync {
  readonly at: number;
  /** Delay of the next attempt. */
  readonly retryMs: number;
}

/** One container of a worker. */
export interface Container {
  readonly make: ContainerMake;
  readonly sight: Sight;
  /** Whether something of a container that is no more may be left, such as a log. */
  readonly traces: boolean;
  readonly process: Process;
  readonly init: InitSight;
  /** Why it must not get another call; undefined when it may. */
  readonly unusable: string | undefined;
  /** The call that an earlier run of the agent has left in it. */
  readonly left: LeftCall | undefined;
  readonly activity: Activity;
  /** Counts actions begun, to tell that a look taken meanwhile is out of date. */
  readonly turn: number;
  readonly look: Look;
  readonly resync: Resync | undefined;
  readonly setbacks: Setbacks;
  readonly retries: Retries;
  /** Resumes that failed in a row. */
  readonly failedResumes: number;
  readonly removal: Removal;
}

/** How the removal of a container goes. */
export type Removal =
  | { readonly kind: 'Untried' }
  /** The removal fails since then, in monotonic milliseconds. */
  | { readonly kind: 'Failing'; readonly since: number }
  /** The removal has failed for too long: the worker goes on without the container. */
  | { readonly kind: 'GivenUp'; readonly message: string };

/** A container as the runtime tells of it. `lost`: its shim is silent, and that is shown to be its own fault. */
export interface Sighting {
  readonly info: WorkerInfo | undefined;
  readonly lost: boolean;
}

const idle: Activity = { kind: 'None' };
export const noLook: Look = { kind: 'None' };

/** @param word of its init, where there may be one already */
export function newContainer(make: ContainerMake, now: number, word?: InitWord): Container {
  const away: InitSight = { kind: 'Away', since: now };
  return {
    make,
    sight: { kind: 'Unknown', since: now, info: undefined, shim: 'Answers' },
    traces: true,
    process: newProcess(now, undefined, false),
    init: word === undefined ? away : heard(away, word, now),
    unusable: undefined,
    left: undefined,
    activity: idle,
    turn: 0,
    look: noLook,
    resync: undefined,
    setbacks: noSetbacks,
    retries: noRetries,
    failedResumes: 0,
    removal: { kind: 'Untried' },
  };
}

export function newProcess(startedMonotonic: number, startedAt: string | undefined, ready: boolean): Process {
  return {
    ready,
    warm: false,
    load: 'Unloaded',
    exitCounted: false,
    startedMonotonic,
    startedAt,
    pausedAt: undefined,
  };
}

/** Memory that the container takes of the node while it exists, MiB. */
export function sizeOf({ make }: Container): number {
  return takenMiB(make, make.tmpOnDisk === true);
}

/** The container with the medium that its `/tmp` is on, or will be. */
export function withTmp(container: Container, tmpOnDisk: boolean): Container {
  const { make } = container;
  return (make.tmpOnDisk === true) === tmpOnDisk ? container : { ...container, make: { ...make, tmpOnDisk } };
}

/** The side that speaks the Runtime API in it: by its label, once it is there. */
export function interfaceOf({ make, sight }: Container): RuntimeInterface {
  return sight.info?.runtimeInterface ?? make.runtimeInterface;
}

/** Its state as the plan is made from it. */
export function observedOf(container: Container): Observed {
  const { process, sight, traces, unusable } = container;
  if (sight.kind === 'Unknown') {
    const { shim } = sight;
    return {
      kind: 'Unknown',
      ...(shim === 'Answers' ? {} : { doubt: shim === 'Lost' ? shim : 'Unanswering' }),
    };
  }
  const { info } = sight;
  if (info === undefined) {
    return { kind: 'Missing', traces };
  }
  const { task } = info;
  switch (task.kind) {
    case 'Missing':
    case 'Created':
      return { kind: 'Created' };
    case 'Stopped':
      return { kind: 'Stopped' };
    case 'Unanswering':
      return { kind: 'Unknown' };
    case 'Running':
    case 'Paused':
      return {
        kind: task.kind,
        usable: unusable === undefined && isReachable(container),
        ready: process.ready,
        warm: process.warm,
        // The last words of an init before a freeze hold until its end.
        ...(task.kind === 'Running' || container.init.kind === 'Connected' ? { init: standOf(container) } : {}),
        ...(mayBeCalled(container) ? { init: 'Awaited' } : {}),
      };
    default:
      return unreachable(task);
  }
}

/** Whether there is a way for calls to it. The one of an init is told by the init. */
function isReachable(container: Container): boolean {
  return interfaceOf(container) === 'Lambda' || container.sight.info?.address !== undefined;
}

/** Whether it was found frozen, maybe by another party and with a call in it. */
export function mayBeCalled({ init, sight }: Container): boolean {
  return sight.info?.task.kind === 'Paused' && init.kind === 'Away' && init.unheard === true;
}

/** Its stand by its init; undefined where nothing stands against a freeze. */
function standOf(container: Container): Extract<Observed, { readonly kind: 'Running' | 'Paused' }>['init'] {
  const { init } = container;
  if (interfaceOf(container) === 'Emulator') {
    return undefined;
  }
  if (init.kind === 'Away') {
    return 'Awaited';
  }
  if (!takesCall(init)) {
    return 'Unready';
  }
  return init.idle ? undefined : 'Busy';
}

export function actionOf({ activity }: Container): Action['kind'] | undefined {
  return activity.kind === 'Acting' ? activity.action.kind : undefined;
}

/** Monotonic milliseconds from which on it is shown that nothing is known of it. */
export function shownUnknownAt({ sight }: Container): number {
  return sight.kind === 'Known' ? Number.POSITIVE_INFINITY : sight.since + unknownShownMs;
}

/** Whether it is known to have ended. */
export function hasEnded({ sight }: Container): boolean {
  return sight.kind === 'Known' && (sight.info === undefined || sight.info.task.kind === 'Stopped');
}

/** Whether a call that an earlier run of the agent has left may still run in it. */
export function isOccupied(container: Container): boolean {
  return container.left !== undefined && !hasEnded(container);
}

/** Calls that an earlier run of the agent has left in it. */
export function leftIn(container: Container): number {
  const { init } = container;
  const found = init.kind === 'Connected' ? Math.min(init.found, perWorkerOf(container)) : 0;
  return isOccupied(container) ? Math.max(1, found) : 0;
}

/** Calls in it whose time is over, and that go on. A runtime that takes one call is started again instead. */
export function heldIn(container: Container): number {
  const { init } = container;
  return init.kind === 'Connected' && !hasEnded(container) && takesSeveral(container)
    ? Math.min(init.held, perWorkerOf(container))
    : 0;
}

/** Calls that it takes at once, as far as its runtime has shown. */
export function capacityOf(container: Container): number {
  const { init } = container;
  const perWorker = perWorkerOf(container);
  return init.kind === 'Connected' && takesSeveral(container)
    ? Math.max(0, Math.min(init.places, perWorker) - init.held)
    : perWorker;
}

/** Places of a container for calls of this run of the agent. */
export function placesIn(container: Container): number {
  return capacityOf(container) - leftIn(container);
}

/** Whether it takes several calls at once. */
export function takesSeveral(container: Container): boolean {
  return perWorkerOf(container) > 1;
}

/** Calls at once that it was made for. */
export function perWorkerOf(container: Container): number {
  return interfaceOf(container) === 'Lambda' ? (container.make.perWorker ?? 1) : 1;
}

/** Whether calls go to it, where it has a place for them: it runs, listens, and nothing is done to it. */
export function takesCalls(container: Container): boolean {
  const { activity, init, process, sight, unusable } = container;
  return (
    activity.kind === 'None' &&
    sight.kind === 'Known' &&
    process.ready &&
    sight.info?.task.kind === 'Running' &&
    isReachable(container) &&
    (interfaceOf(container) === 'Emulator' || takesCall(init)) &&
    unusable === undefined
  );
}

/** Monotonic milliseconds from which on it is given up, since its init is away or not ready; infinite for never. */
export function silentAt(container: Container): number {
  const { activity, init, sight, unusable } = container;
  const isAwaited =
    interfaceOf(container) === 'Lambda' &&
    unusable === undefined &&
    activity.kind !== 'Acting' &&
    sight.kind === 'Known' &&
    sight.info?.task.kind === 'Running';
  return isAwaited ? givenUpAt(init) : Number.POSITIVE_INFINITY;
}

/** Its first process; 0 where the runtime has not told. */
export function pidOf({ sight: { info } }: Container): number {
  return info?.task.kind === 'Running' || info?.task.kind === 'Paused' ? info.task.pid : 0;
}

/** Whether an event says what is known already. */
export function expects(container: Container, event: RuntimeEvent['kind']): boolean {
  const { kind } = observedOf(container);
  switch (event) {
    case 'Paused':
      return kind === 'Paused';
    case 'Resumed':
    case 'Created':
      return kind === 'Running';
    case 'Deleted':
      return kind === 'Missing';
    case 'Exited':
    case 'OutOfMemory':
      return kind === 'Missing' || kind === 'Stopped';
    case 'LimitReached':
    case 'Disconnected':
    case 'Reconnected':
      return false;
    default:
      return unreachable(event);
  }
}

/** Whether two states of a container look the same; its init is not shown. */
export function isAlikeContainer(one: Container, other: Container): boolean {
  return (
    one === other ||
    (one.make === other.make &&
      one.sight === other.sight &&
      one.process === other.process &&
      one.activity === other.activity &&
      one.unusable === other.unusable &&
      one.left === other.left &&
      one.setbacks === other.setbacks &&
      one.traces === other.traces)
  );
}

export function withProcess(container: Container, change: Partial<Process>): Container {
  return { ...container, process: { ...container.process, ...change } };
}

/** Milliseconds that the next call in it takes at most. */
export function boundOf(container: Container): number {
  const { make, process } = container;
  // Where it takes several, one may wait in it until its runtime asks for the next, for as long as a call may take.
  const seconds = make.timeoutSeconds * (takesSeveral(container) ? 2 : 1);
  return callBoundMs(seconds, interfaceOf(container) === 'Lambda' || process.load === 'Loaded');
}

/** Milliseconds that a call in a container with that timeout takes at most. */
export function callBoundMs(timeoutSeconds: number, loaded: boolean): number {
  return timeoutSeconds * 1_000 + timeoutMarginMs + (loaded ? 0 : initialisationMs);
}
