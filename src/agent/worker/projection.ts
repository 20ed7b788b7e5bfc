import { statusOf } from '../model/conditions.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { type Goal, mayWake } from '../model/goal.ts';
import type { Rest } from '../model/idle-policy.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { WorkerActivity } from './activity.ts';
import type { WorkerContainer } from './container.ts';
import type { Rollout } from './rollout.ts';

/** What is shown of a worker, and kept of it on disk, is made of this. */
export interface WorkerFacts {
  readonly desired: DesiredWorker;
  readonly rest: Rest;
  readonly containers: Rollout;
  readonly activity: WorkerActivity;
  readonly restartCount: number;
  readonly lastTermination: WorkerView['lastTermination'];
}

/** What only its view shows. */
export interface ViewFacts {
  readonly goal: Goal;
  readonly stopping: boolean;
  readonly inFlight: number;
  /** Wall-clock milliseconds at which the calls that are in it are over at the latest; undefined for none. */
  readonly callUntil: number | undefined;
  /** Why the node has no room for it, when it has none and nothing serves. */
  readonly nodeFull: string | undefined;
  readonly previous: WorkerView | undefined;
}

/** The worker as gateways and its status are to have it. */
export function viewOf(worker: WorkerFacts, facts: ViewFacts): WorkerView {
  const { containers, desired, lastTermination, rest } = worker;
  const { callUntil, goal, inFlight, nodeFull, previous, stopping } = facts;
  const { acting, container, detail, setbacks, step } = containers.present;
  const { info, pausedAt, startedAt } = container;
  const observed = container.state.kind;
  const { observedStamp } = worker.activity;
  const status = statusOf({
    desired,
    goal,
    observed,
    shownUnknown: container.isShownUnknown,
    traces: container.traces || containers.others.length > 0,
    info,
    acting: acting?.kind,
    step,
    detail,
    failure: setbacks.failure,
    callUntil,
    nodeFull,
    outdated: containers.isOutdated,
    replacement: containers.replacement(goal),
    loadTimedOut: container.loadTimedOut,
    cold: desired.warmUpPayload !== undefined && !container.warm,
    previous,
  });
  return {
    identity: desired.identity,
    epoch: desired.epoch,
    ...status,
    inFlight,
    callable: goal.kind !== 'Gone' && !stopping && mayWake(desired.wakePolicy, rest),
    observedGeneration: desired.generation,
    ...(info === undefined ? {} : { containerId: info.containerId }),
    ...(info === undefined || info.image === '' ? {} : { image: info.image }),
    ...(info?.address === undefined ? {} : { address: info.address }),
    ...(info === undefined || startedAt === undefined ? {} : { startedAt }),
    ...(observed !== 'Paused' || pausedAt === undefined ? {} : { pausedAt }),
    restartCount: worker.restartCount,
    ...(lastTermination === undefined ? {} : { lastTermination }),
    ...(observedStamp === undefined ? {} : { observedInvocationTime: observedStamp }),
  };
}

/** What the next run of the agent has to know of it. */
export function recordOf(worker: WorkerFacts): WorkerRecord {
  const { desired, lastTermination, rest } = worker;
  const { container, setbacks } = worker.containers.present;
  const { keptStamps, observedStamp } = worker.activity;
  const { id, make, pausedAt, startedAt, warm } = container;
  const served = servedOf(container);
  return {
    version: 1,
    desired,
    rest,
    container: make,
    ...(served === undefined ? {} : { served }),
    ...(warm ? { warmContainer: id } : {}),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(pausedAt === undefined ? {} : { pausedAt }),
    restartCount: worker.restartCount,
    ...(lastTermination === undefined ? {} : { lastTermination }),
    crashes: setbacks.crashes,
    ...(observedStamp === undefined ? {} : { observedInvocationTime: observedStamp }),
    stamps: keptStamps,
  };
}

function servedOf({ info, state }: WorkerContainer): WorkerRecord['served'] {
  const isAlive = state.kind === 'Running' || state.kind === 'Paused';
  if (!isAlive || info?.address === undefined) {
    return undefined;
  }
  const { address, createdAt, epoch, image } = info;
  return { address, image, epoch, createdAt: createdAt.toISOString() };
}
