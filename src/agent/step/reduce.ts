import { unreachable } from '../../common/errors.ts';
import { afterSuccess, atOnce, failed, hurried, noBackoff, remainingMs, resolveBackoff } from '../model/backoff.ts';
import { failureOf, mended } from '../model/crash-backoff.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { mayWake } from '../model/goal.ts';
import { assumed, idleUnder, renewed } from '../model/idle-policy.ts';
import { isAlive } from '../model/plan.ts';
import { adoptBeside, adoptListed } from './adopt.ts';
import { type Container, expects, noLook } from './container.ts';
import { unknown } from './container-sight.ts';
import type { Effect } from './effects.ts';
import type { WorkerEvent } from './events.ts';
import { acted, progressed } from './reduce-actions.ts';
import { diagnose, diagnosed, hungUp, invoked, returned } from './reduce-calls.ts';
import { initTold, leftCallEnded } from './reduce-init.ts';
import { countExit, see } from './sightings.ts';
import {
  containersOf,
  Draft,
  findContainer,
  goalAt,
  type Moment,
  resolutionOf,
  restOf,
  type WorkerState,
} from './state.ts';

/** Milliseconds until a look that failed is tried again: what made us look may be true all the same. */
const lookRetryMs = 1_000;
const longestResyncMs = 60_000;

/** A state, and what it asks to be done. */
export interface Reduced {
  readonly state: WorkerState;
  readonly effects: readonly Effect[];
}

/** Takes an event into the state. Actions for the worker's goal are for `decide` to choose. */
export function reduce(state: WorkerState, event: WorkerEvent, at: Moment): Reduced {
  const draft = new Draft(state, at);
  take(draft, event);
  if (draft.state.places.length > 0) {
    diagnose(draft);
  }
  return draft;
}

function take(draft: Draft, event: WorkerEvent): void {
  switch (event.kind) {
    case 'Invoked':
      invoked(draft, event);
      return;
    case 'Returned':
      returned(draft, event);
      return;
    case 'HungUp':
      hungUp(draft, event.id);
      return;
    case 'Progressed':
      progressed(draft, event.containerId, event.progress);
      return;
    case 'Acted':
      acted(draft, event);
      return;
    case 'Settled':
      settled(draft, event);
      return;
    case 'Hinted':
      hinted(draft, event);
      return;
    case 'Looked':
      looked(draft, event);
      return;
    case 'Listed':
      listed(draft, event);
      return;
    case 'Begun':
      if (event.unrecorded) {
        draft.save();
      }
      return;
    case 'Applied':
      applied(draft, event.desired, event.ownStamp);
      return;
    case 'Released':
      released(draft);
      return;
    case 'InitTold':
      initTold(draft, event.containerId, event.word);
      return;
    case 'OutputLost':
      draft.change(event.containerId, (container) => ({
        ...container,
        unusable: 'its output is not written since the disk was full',
      }));
      return;
    case 'LeftCallEnded':
      leftCallEnded(draft, event);
      return;
    case 'Resolved':
      resolved(draft, event);
      return;
    case 'Woken':
      draft.touch();
      return;
    case 'Lowered':
      draft.set({ idle: assumed(draft.state.desired, event.rest, draft.at.now) });
      return;
    case 'Retried':
      retried(draft);
      return;
    case 'Ticked':
      return;
    case 'Refusing':
      draft.set({ life: 'Stopping' });
      draft.refuseWhere(() => true, 'Unavailable', 'the agent is stopping');
      draft.show();
      return;
    case 'Stopped':
      stopped(draft, event.stamp, event.unsent);
      return;
    default:
      unreachable(event);
  }
}

/**
 * The resource as it is now. A version older than the API's last word in this run is ignored. The API's first word goes
 * before a record: a cluster that was set back to a backup knows less than its nodes.
 */
function applied(draft: Draft, next: DesiredWorker, ownStamp: boolean): void {
  const { confirmed, desired: before, idle, released: reclaimed } = draft.state;
  const isOlder = next.epoch < before.epoch || (next.epoch === before.epoch && next.generation < before.generation);
  if (confirmed && isOlder) {
    return;
  }
  const desired = confirmed && before.deleting ? { ...next, deleting: true } : next;
  const renews = next.generation !== before.generation;
  draft.set({
    desired,
    confirmed: true,
    released: false,
    foundPaused: false,
    ...(hasGrace(desired) ? {} : { grace: undefined }),
    idle: renews ? renewed(idle, before, next, draft.at.now) : idleUnder(next, idle),
  });
  if (renews) {
    mend(draft);
  }
  if (next.epoch !== before.epoch) {
    draft.refuseWhere((call) => call.epoch !== next.epoch, 'Fenced', `the assignment has epoch ${next.epoch} now`);
  }
  if (desired.deleting && !before.deleting) {
    beginEnd(draft);
  }
  const woken = wakeOnForeignStamp(draft, ownStamp);
  abortUnwantedStart(draft);
  const isNews = renews || next.epoch !== before.epoch || desired.deleting !== before.deleting;
  if (isNews || reclaimed || woken || !hasSameLeave(desired, before)) {
    draft.save();
  }
  draft.show();
}

/**
 * Takes note of a stamp that is to be acknowledged. One that is not our own wakes the worker; whether there was one.
 */
export function wakeOnForeignStamp(draft: Draft, own: boolean): boolean {
  const { desired, observedStamp } = draft.state;
  const { lastInvocationTime, observedInvocationTime, wakePolicy } = desired;
  if (lastInvocationTime === undefined || lastInvocationTime === observedStamp) {
    return false;
  }
  draft.set({ observedStamp: lastInvocationTime });
  if (own || lastInvocationTime === observedInvocationTime) {
    return false;
  }
  draft.set({ activeStamp: lastInvocationTime });
  if (mayWake(wakePolicy, restOf(draft.state, draft.at.now))) {
    draft.touch();
  }
  return true;
}

/** Something that may have been the cause of every failure has changed. */
function mend(draft: Draft): void {
  draft.changeAll((container) => ({
    ...container,
    setbacks: mended(container.setbacks),
    retries: afterSuccess(atOnce(container.retries)),
  }));
  draft.set({ nodeFull: undefined });
  askAgain(draft);
}

/** The registry was asked for an image that no call waits for. */
function resolved(draft: Draft, { error, image }: Extract<WorkerEvent, { kind: 'Resolved' }>): void {
  const before = resolutionOf(draft.state);
  if (before?.kind !== 'Asking' || before.image !== image) {
    return;
  }
  const { now } = draft.at;
  if (error === undefined) {
    draft.set({ resolution: { kind: 'Known', image, backoff: noBackoff } });
    // After a loss of power the registry is asked again.
    draft.save('Rest');
  } else if (error.code === 'Aborted') {
    draft.set({ resolution: undefined });
  } else {
    const backoff = failed(before.backoff, resolveBackoff, now);
    const failure = failureOf(error, Math.ceil(remainingMs(backoff, now) / 1_000));
    draft.set({ resolution: { kind: 'Failed', image, backoff, failure } });
  }
  draft.show();
}

/** Something that may have been the cause is over: a registry that had no image may be asked at once. */
function askAgain(draft: Draft): void {
  const { resolution } = draft.state;
  if (resolution?.kind === 'Failed') {
    draft.set({ resolution: { ...resolution, backoff: noBackoff } });
  }
}

function released(draft: Draft): void {
  if (!draft.state.released) {
    draft.set({ released: true });
    beginEnd(draft);
    abortUnwantedStart(draft);
    draft.show();
  }
}

/** The worker is to go for good, after the calls that are in it. */
export function beginEnd(draft: Draft): void {
  draft.refuseWhere(() => true, 'NotFound', 'the worker is being removed');
  const { desired, grace } = draft.state;
  if (hasGrace(desired) && grace === undefined) {
    const graceMs = desired.terminationGraceSeconds * 1_000;
    draft.set({ grace: { until: draft.at.now + graceMs, wall: draft.at.wall + graceMs } });
  }
  draft.changeAll((container) => ({ ...container, retries: hurried(container.retries) }));
  abortWarmUps(draft, () => true, 'the worker is being removed');
}

/** Whether the calls in it have a grace period and no more. */
function hasGrace({ deleting, letsCallsEnd }: DesiredWorker): boolean {
  return deleting && letsCallsEnd !== true;
}

/** Whether quotas and policy say the same of two versions of a resource. Both may change without the spec. */
function hasSameLeave(one: DesiredWorker, other: DesiredWorker): boolean {
  return one.awaitsGrant === other.awaitsGrant && one.permission?.kind === other.permission?.kind;
}

function abortWarmUps(draft: Draft, condition: (container: Container) => boolean, message: string): void {
  for (const container of containersOf(draft.state)) {
    const { activity, make } = container;
    if (activity.kind === 'Acting' && activity.action.kind === 'WarmUp' && condition(container)) {
      draft.emit({ kind: 'AbortCall', containerId: make.id, message });
    }
  }
}

/** Ends a start, or a call to warm up, whose result is not wanted any more. */
function abortUnwantedStart(draft: Draft): void {
  const goal = goalAt(draft.state, draft.at.now);
  const isWanted = ({ make }: Container): boolean => isAlive(goal) && goal.shapeHash === make.shapeHash;
  for (const container of containersOf(draft.state)) {
    const { activity, make } = container;
    if (activity.kind !== 'Acting') {
      continue;
    }
    if (activity.action.kind === 'Pause' && goal.kind !== 'Paused') {
      draft.emit({ kind: 'Abandon', containerId: make.id });
    } else if (activity.action.kind === 'Ensure' && !isWanted(container)) {
      draft.emit({ kind: 'Abort', containerId: make.id });
    }
  }
  const { present } = draft.state;
  abortWarmUps(draft, (container) => !isWanted(container) && container !== present, 'another shape is wanted by now');
}

function hinted(draft: Draft, { containerId, event }: Extract<WorkerEvent, { kind: 'Hinted' }>): void {
  draft.change(containerId, (container) =>
    container.activity.kind === 'Acting' || expects(container, event)
      ? container
      : {
          ...container,
          look:
            container.look.kind === 'Looking' ? { kind: 'Looking', again: true } : { kind: 'Wanted', at: draft.at.now },
        },
  );
}

/** A look is over. One that failed, or that something overtook, says nothing. */
function looked(draft: Draft, { containerId, purpose, seen, turn }: Extract<WorkerEvent, { kind: 'Looked' }>): void {
  const container = findContainer(draft.state, containerId);
  const isCurrent = container?.turn === turn;
  if (purpose === 'Diagnose') {
    const task = seen?.info?.task;
    const isGone = task?.kind === 'Unanswering' && task.kernel === 'Gone';
    const ended = isCurrent && seen !== undefined && (task === undefined || task.kind === 'Stopped');
    if (ended) {
      countExit(draft, containerId, seen);
      see(draft, containerId, seen);
    }
    diagnosed(draft, containerId, isGone || ended);
    return;
  }
  if (container === undefined) {
    return;
  }
  const { activity, look } = container;
  const at = draft.at.now;
  const again = look.kind === 'Looking' && look.again;
  const retry = seen === undefined && isCurrent && activity.kind !== 'Acting';
  draft.put({
    ...container,
    look: again ? { kind: 'Wanted', at } : retry ? { kind: 'Wanted', at: at + lookRetryMs } : noLook,
  });
  if (seen !== undefined && isCurrent && draft.state.life === 'Serving') {
    countExit(draft, containerId, seen);
    see(draft, containerId, seen);
    draft.show();
  }
}

function listed(draft: Draft, { news, own }: Extract<WorkerEvent, { kind: 'Listed' }>): void {
  const { listing } = draft.state;
  if (listing.kind === 'Unlisted') {
    draft.changeRetries(draft.state.present.make.id, afterSuccess);
    adoptListed(draft, listing.record, listing.mark, own);
    retried(draft);
  } else if (listing.kind === 'Partial') {
    draft.set({ listing: { kind: 'Complete' } });
    adoptBeside(draft, undefined, listing.mark, own);
  }
  for (const { containerId, sighting } of news) {
    see(draft, containerId, sighting);
  }
  draft.show();
}

function settled(draft: Draft, { containerId, outcome }: Extract<WorkerEvent, { kind: 'Settled' }>): void {
  const { now } = draft.at;
  draft.change(containerId, (container) => {
    const retryMs = container.resync?.retryMs ?? 0;
    const next: Container = {
      ...container,
      activity: { kind: 'None' },
      turn: container.turn + 1,
      resync:
        !outcome.settled && outcome.runs
          ? { at: now + retryMs, retryMs: Math.min(retryMs * 2, longestResyncMs) }
          : undefined,
    };
    return outcome.runs ? next : unknown(next, now);
  });
}

/** Lets actions that waited for something outside be tried again now. */
function retried(draft: Draft): void {
  draft.changeAll((container) => ({ ...container, retries: atOnce(container.retries) }));
  askAgain(draft);
}

/** The agent ends, and touches no worker: what goes on in it is for the next run of the agent. */
function stopped(draft: Draft, stamp: string, unsent: readonly number[]): void {
  draft.set({ life: 'Stopping' });
  for (const { call, kind } of draft.state.places) {
    if (kind === 'Sent' && unsent.includes(call.id)) {
      draft.refuse(call, ['Unavailable', 'the agent is stopping']);
    } else if (kind !== 'Left') {
      draft.answer(call.id, {
        kind: 'Unknown',
        reason: 'AgentStopped',
        message: 'the agent stopped before the worker answered; the worker ends the call',
        stamp,
      });
    }
  }
  draft.set({ places: draft.state.places.map((place) => ({ ...place, kind: 'Left' })) });
  for (const { activity, make } of containersOf(draft.state)) {
    if (activity.kind !== 'None') {
      draft.emit({ kind: 'Abort', containerId: make.id });
    }
  }
  // A warm-up call may take as long as any call, and goes on in the worker.
  abortWarmUps(draft, () => true, 'the agent is stopping');
  draft.emit({ kind: 'Turn', want: 'Give', resting: false });
  draft.save();
  draft.show();
}
