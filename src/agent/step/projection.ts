import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import { snapshotOf } from '../model/backoff.ts';
import { statusOf } from '../model/conditions.ts';
import { abuseOf } from '../model/crash-backoff.ts';
import { type Goal, mayWake } from '../model/goal.ts';
import { isAlive } from '../model/plan.ts';
import type { Replacement, StatusInput } from '../model/status-input.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import type { WorkerView } from '../model/worker-state.ts';
import {
  type Activity,
  actionOf,
  type Container,
  interfaceOf,
  mayBeCalled,
  observedOf,
  perWorkerOf,
  shownUnknownAt,
} from './container.ts';
import { successorOf } from './rollout.ts';
import { shareInForce } from './share.ts';
import {
  callersOf,
  callUntilOf,
  goalAt,
  inFlightOf,
  isCallable,
  isInUse,
  isOutdated,
  type Moment,
  placesOf,
  resolutionOf,
  restOf,
  type WorkerState,
} from './state.ts';

/** How many stamps a record keeps, which are told from those of others after a restart of the agent. */
export const KEPT_STAMPS = 16;

/**
 * Everything that a view shows beside the number of calls and the stamp of the last one, to be compared by value with
 * that of another moment.
 */
export function signsOf(state: WorkerState, at: Moment): readonly unknown[] {
  const { now } = at;
  const { desired, lastTermination, others, present } = state;
  const goal = goalAt(state, now);
  const successor = others.length === 0 ? undefined : successorOf({ state }, desired.shapeHash);
  return [
    desired,
    goal.kind,
    restOf(state, now),
    state.life,
    state.nodeFull,
    state.resolution,
    state.noRoomBeside,
    state.restartCount,
    lastTermination,
    lastTermination !== undefined && abuseOf(lastTermination, at) !== undefined,
    state.observedStamp,
    others.length > 0,
    present.make,
    present.sight,
    present.process,
    present.traces,
    present.unusable,
    shownUnknownAt(present) <= now,
    ...signsOfWork(present),
    ...(successor === undefined ? [] : signsOfWork(successor)),
    goal.kind === 'Gone' ? callUntilOf(state) : undefined,
  ];
}

function signsOfWork({ activity, setbacks }: Container): readonly unknown[] {
  const { detail, step } = progressOf(activity);
  return [activity.kind === 'Acting' ? activity.action : undefined, step, detail, setbacks.failure];
}

function progressOf(activity: Activity): Pick<Replacement, 'step' | 'detail'> {
  return activity.kind === 'Acting'
    ? { step: activity.step, detail: activity.detail }
    : { step: undefined, detail: undefined };
}

/** The worker as gateways and its status are to have it. */
export function viewOf(state: WorkerState, at: Moment, previous: WorkerView | undefined): WorkerView {
  const { now } = at;
  const { activeStamp, desired, lastTermination, observedStamp, others, present } = state;
  const { process, setbacks, sight, traces } = present;
  const { info } = sight;
  const goal = goalAt(state, now);
  const observed = observedOf(present).kind;
  const status = statusOf({
    desired,
    goal,
    observed,
    shownUnknown: shownUnknownAt(present) <= now,
    traces: traces || others.length > 0,
    info,
    acting: actionOf(present),
    ...progressOf(present.activity),
    failure: setbacks.failure,
    callUntil: callUntilOf(state),
    nodeFull: state.nodeFull,
    wakes: mayWake(desired.wakePolicy, restOf(state, now)),
    resolution: shownResolution(state),
    outdated: isOutdated(state),
    replacement: replacementOf(state, goal),
    abuse: lastTermination === undefined ? undefined : abuseOf(lastTermination, at)?.message,
    loadTimedOut: process.load === 'TimedOut',
    cold: desired.warmUpPayload !== undefined && !process.warm,
    previous,
  });
  const { pausedAt, startedAt } = process;
  return {
    identity: desired.identity,
    epoch: desired.epoch,
    ...status,
    inFlight: inFlightOf(state),
    callers: callersOf(state),
    ...(perWorkerOf(present) === 1 ? {} : { perWorker: perWorkerOf(present), places: placesOf(state) }),
    callable: isCallable(state, goal, restOf(state, now)),
    ...(desired.share === undefined ? {} : { share: shareInForce(state) }),
    observedGeneration: desired.generation,
    ...(info === undefined ? {} : { containerId: info.containerId }),
    ...(info === undefined || info.image === '' ? {} : { image: info.image }),
    ...addressOf(info),
    ...(info === undefined || startedAt === undefined ? {} : { startedAt }),
    ...(observed !== 'Paused' || pausedAt === undefined ? {} : { pausedAt }),
    restartCount: state.restartCount,
    ...(lastTermination === undefined ? {} : { lastTermination }),
    ...(observedStamp === undefined ? {} : { observedInvocationTime: observedStamp }),
    ...(activeStamp === undefined ? {} : { lastInvocationTime: activeStamp }),
  };
}

function addressOf(info: WorkerInfo | undefined): Pick<WorkerView, 'address'> {
  const address = info?.address ?? (info?.ip === undefined ? undefined : { ip: info.ip });
  return address === undefined ? {} : { address };
}

function shownResolution(state: WorkerState): StatusInput['resolution'] {
  const known = resolutionOf(state);
  return known?.kind === 'Known' ? 'Known' : (known?.failure ?? 'Asking');
}

/** How the replacement of the present container goes; undefined when there is none, or it does not serve. */
function replacementOf(state: WorkerState, goal: Goal): Replacement | undefined {
  const { kind } = observedOf(state.present);
  const alive = kind === 'Running' || kind === 'Paused';
  if (!isAlive(goal) || !alive || !isOutdated(state)) {
    return undefined;
  }
  const successor = successorOf({ state }, goal.shapeHash);
  return {
    ...progressOf(successor?.activity ?? { kind: 'None' }),
    failure: successor?.setbacks.failure,
    nodeFull: state.noRoomBeside,
  };
}

/**
 * Record of the worker for the next run of the agent.
 *
 * @param stamps the latest that this node has issued for it
 */
export function recordOf(state: WorkerState, { now, wall }: Moment, stamps: readonly string[]): WorkerRecord {
  const { desired, lastTermination, observedStamp, present } = state;
  const { pausedAt, startedAt, warm } = present.process;
  const served = servedOf(present);
  return {
    version: 1,
    desired,
    rest: restOf(state, now),
    // Another may have been made under its name since.
    container: { ...present.make, runtimeInterface: interfaceOf(present) },
    ...(served === undefined ? {} : { served }),
    ...(warm ? { warmContainer: present.make.id } : {}),
    ...(startedAt === undefined ? {} : { startedAt }),
    // The next run of the agent takes a container with this for one without a call.
    ...(pausedAt === undefined || isInUse(state, present) || mayBeCalled(present) ? {} : { pausedAt }),
    restartCount: state.restartCount,
    ...(lastTermination === undefined ? {} : { lastTermination }),
    crashes: snapshotOf(present.setbacks.crashes, now, wall),
    ...(observedStamp === undefined ? {} : { observedInvocationTime: observedStamp }),
    ...(state.resolution?.kind === 'Known' ? { knownImage: state.resolution.image } : {}),
    stamps,
  };
}

function servedOf(container: Container): WorkerRecord['served'] {
  const { kind } = observedOf(container);
  const { info } = container.sight;
  const isServed = info?.address !== undefined || interfaceOf(container) === 'Lambda';
  if ((kind !== 'Running' && kind !== 'Paused') || info === undefined || !isServed) {
    return undefined;
  }
  const { address, createdAt, epoch, image, ip } = info;
  return {
    ...(address === undefined ? {} : { address }),
    ...(ip === undefined ? {} : { ip }),
    image,
    epoch,
    createdAt: createdAt.toISOString(),
  };
}
