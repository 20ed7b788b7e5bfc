import { notBefore, unavailableRetryMs, withDelay } from '../model/backoff.ts';
import { abuseOf, refusalFor, startsAt } from '../model/crash-backoff.ts';
import { type Action, isOptional } from '../model/plan.ts';
import { AWAITS_GRANT, GRANT_REFUSED } from '../model/readiness.ts';
import type { Call } from './call.ts';
import {
  type Acting,
  boundOf,
  type Container,
  isOccupied,
  observedOf,
  shownUnknownAt,
  silentAt,
  sizeOf,
  takesCalls,
  withTmp,
} from './container.ts';
import { givenUpFor } from './init-sight.ts';
import type { Reduced } from './reduce.ts';
import { answerFirstMs } from './reduce-actions.ts';
import { rearrange, setAside } from './rollout.ts';
import { hasFreeShare, SHARE_LAPSED } from './share.ts';
import {
  containersOf,
  Draft,
  findContainer,
  goalAt,
  hasFreePlace,
  isEnding,
  isReplaced,
  isUrgent,
  type Moment,
  restOf,
  restsUntil,
  serves,
  type WorkerState,
} from './state.ts';
import { hurry, rest, resync } from './upkeep.ts';

/** Milliseconds that a call waits for a runtime that does not answer. */
const patienceMs = 5_000;

/** Milliseconds that a call waits for the node to have more reserved: a kubelet allocates more within a second or two. */
const roomPatienceMs = 8_000;

/** Effects to carry out now, with the state once they are begun. */
export interface Decision extends Reduced {
  /** Monotonic milliseconds of the next moment at which it comes out otherwise without an event; infinite for none. */
  readonly wakeAt: number;
}

/**
 * Decides what is to be done for the worker's goal: which call is sent, which action begins in which container, which
 * calls are refused, what is saved.
 */
export function decide(state: WorkerState, at: Moment): Decision {
  const draft = new Draft(state, at);
  if (state.life === 'Serving') {
    if (state.listing.kind === 'Unlisted') {
      refuseStale(draft);
    } else {
      act(draft);
    }
  }
  listen(draft);
  saveRecord(draft);
  return { state: draft.state, effects: draft.effects, wakeAt: wakeAt(draft) };
}

function act(draft: Draft): void {
  if (containersOf(draft.state).some(({ removal }) => removal.kind === 'GivenUp')) {
    setAside(draft);
  }
  for (const container of containersOf(draft.state)) {
    look(draft, container);
    if (draft.at.now >= silentAt(container)) {
      draft.change(container.make.id, (before) => ({ ...before, unusable: givenUpFor(before.init) }));
    }
  }
  const mayBeSeveral = draft.state.others.length > 0 || isReplaced(draft.state);
  if (!mayBeSeveral && (send(draft) || isAtRest(draft))) {
    return;
  }
  const goal = goalAt(draft.state, draft.at.now);
  const next = rearrange(draft, goal);
  const { others, present } = draft.state;
  // Between two calls is when a successor takes the place of the present one, or, where there is no room for both, it
  // goes. One that takes several calls may never be between two, and goes once it has no more of them.
  const removal = next.present?.kind === 'Destroy' ? next.present : next.drain;
  const goes = removal !== undefined && mayAct(draft, present, removal);
  const isSent = !goes && send(draft);
  if (next.present !== undefined && !isSent) {
    begin(draft, present, next.present);
  }
  for (const [index, other] of others.entries()) {
    const action = next.others[index];
    if (action !== undefined) {
      begin(draft, other, action);
    }
  }
  for (const container of containersOf(draft.state)) {
    if (container.activity.kind === 'Acting') {
      hurry(draft, container, container.activity);
    } else {
      resync(draft, container);
    }
  }
  rest(draft, goal);
}

/** Whether one container runs as it should, and the plan would ask for nothing: so it is after nearly every call. */
function isAtRest({ at, state }: Draft): boolean {
  const { desired, noRoomBeside, present, released, savedRest, turn, waiting } = state;
  return (
    waiting.length === 0 &&
    !released &&
    !desired.deleting &&
    turn.kind === 'None' &&
    savedRest === 'Running' &&
    noRoomBeside === undefined &&
    takesCalls(present) &&
    !isOccupied(present) &&
    (present.process.warm || desired.warmUpPayload === undefined) &&
    (present.resync === undefined || at.now < present.resync.at) &&
    restOf(state, at.now) === 'Running'
  );
}

/** Sends the next calls, as far as the present container takes them; whether there was one. */
function send(draft: Draft): boolean {
  const { desired, waiting } = draft.state;
  const { epoch, identity, share } = desired;
  if (share !== undefined && waiting.length > 0 && !draft.at.node.holdsShare(identity.uid, epoch)) {
    draft.refuseWhere(() => true, ...SHARE_LAPSED);
  }
  let isSent = false;
  while (sendNext(draft)) {
    isSent = true;
  }
  return isSent;
}

function sendNext(draft: Draft): boolean {
  const { desired, places, present, readySince, waiting } = draft.state;
  const [call] = waiting;
  if (call === undefined || !takesCalls(present) || !hasFreePlace(draft.state)) {
    return false;
  }
  if (desired.share !== undefined && !hasFreeShare(draft.state)) {
    return false;
  }
  const { now, wall } = draft.at;
  const { id } = present.make;
  const waitedSince = readySince > call.arrivedAt ? readySince : now;
  draft.set({
    waiting: waiting.slice(1),
    waitingBytes: draft.state.waitingBytes - call.bytes,
    places: [
      ...places,
      {
        kind: 'Sent',
        call,
        containerId: id,
        readyAt: call.start === 'running' ? call.arrivedAt : waitedSince,
        until: wall + boundOf(present),
      },
    ],
  });
  draft.emit({ kind: 'Send', containerId: id, call });
  return true;
}

/** Hears when the caller of a call that came last, and waits, hangs up. */
function listen(draft: Draft): void {
  const { heardUpTo, waiting } = draft.state;
  for (const { id } of waiting) {
    if (id > heardUpTo) {
      draft.set({ heardUpTo: id });
      draft.emit({ kind: 'Await', id });
    }
  }
}

/** Looks at a container that something may have happened to. */
function look(draft: Draft, container: Container): void {
  if (container.look.kind === 'Wanted' && draft.at.now >= container.look.at) {
    draft.put({ ...container, look: { kind: 'Looking', again: false } });
    draft.emit({ kind: 'Look', containerId: container.make.id, purpose: 'Verify', delayMs: 0 });
  }
}

/** Begins an action, unless something else is being done to the container or it has to wait; whether it began. */
function begin(draft: Draft, { make }: Container, action: Action): boolean {
  const container = findContainer(draft.state, make.id);
  if (container === undefined || container.activity.kind === 'Acting') {
    return false;
  }
  if (container.activity.kind === 'Settling') {
    draft.emit({ kind: 'Abort', containerId: make.id });
    return false;
  }
  if (!mayAct(draft, container, action)) {
    return false;
  }
  const { now } = draft.at;
  const activity: Acting = {
    kind: 'Acting',
    action,
    since: now,
    urgent: isUrgent(draft.state, container),
    ...(action.kind === 'WarmUp' ? { call: warmUpCall(draft, container) } : {}),
  };
  draft.change(make.id, (before) => ({ ...before, activity, turn: before.turn + 1 }));
  if (action.kind === 'Ensure') {
    beginEnsure(draft, container);
  } else if (action.kind === 'Resume') {
    // A wake is over sooner than it is shown, and a call waits for it: only one that takes long is.
    draft.set({ quietUntil: now + answerFirstMs });
  }
  draft.emit({ kind: 'Run', containerId: make.id, action });
  return true;
}

function warmUpCall({ at }: Draft, container: Container): NonNullable<Acting['call']> {
  return { requestId: `warm-up-${at.wall.toString(36)}`, until: at.wall + boundOf(container) };
}

/** The container as a start makes it: one that has no process is made again, on the medium that there is now. */
function toBeMade(container: Container, node: Moment['node']): Container {
  const { kind } = observedOf(container);
  return kind === 'Running' || kind === 'Paused' ? container : withTmp(container, node.tmpOnDisk);
}

function beginEnsure(draft: Draft, before: Container): void {
  const container = toBeMade(before, draft.at.node);
  const { id } = container.make;
  draft.change(id, (each) => ({ ...each, make: container.make }));
  draft.emit({ kind: 'Hold', containerId: id, memoryMiB: sizeOf(container) });
  const { restartPending } = container.setbacks;
  draft.change(id, (before) => ({
    ...before,
    traces: true,
    setbacks: restartPending ? { ...before.setbacks, restartPending: false } : before.setbacks,
  }));
  if (restartPending && serves(draft.state, container)) {
    draft.set({ restartCount: draft.state.restartCount + 1 });
  }
}

/** Whether what is planned may be done now. Where it has to wait, calls are told that need not wait with it. */
function mayAct(draft: Draft, container: Container, action: Action): boolean {
  const { node, now } = draft.at;
  if (now < notBefore(container.retries, action.kind)) {
    refuseStale(draft);
    return false;
  }
  if (action.kind === 'Ensure') {
    return mayStart(draft, container);
  }
  const canWait =
    action.kind === 'Pause' || (action.kind === 'Destroy' && isOptional(action) && !isEnding(draft.state));
  if (canWait && node.runtimeDown) {
    // A pause would keep calls waiting for nothing. Calls need no runtime as long as the container runs.
    draft.changeRetries(container.make.id, (retries) => withDelay(retries, action.kind, now + unavailableRetryMs));
    return false;
  }
  return true;
}

/** Whether a container may be made now; otherwise the calls that wait for it are told. */
function mayStart(draft: Draft, container: Container): boolean {
  const isServing = serves(draft.state, container);
  if (startsAt(container.setbacks) > draft.at.now) {
    if (isServing) {
      draft.refuseWhere(() => true, ...refusalFor(container.setbacks));
    }
    return false;
  }
  if (draft.state.desired.awaitsGrant === true) {
    if (draft.state.desired.grantRefused === true) {
      draft.refuseWhere(() => true, 'NodeFull', GRANT_REFUSED);
    } else {
      refuseLate(draft, AWAITS_GRANT);
    }
    return false;
  }
  // For one beside another the room was looked for when that was decided.
  if (!isServing) {
    return true;
  }
  const { node } = draft.at;
  const needs = [container.make.id, sizeOf(toBeMade(container, node)), draft.given()] as const;
  if (!node.fits(...needs)) {
    const nodeFull = draft.noRoom();
    draft.set({ nodeFull });
    if (!node.mayFitLater(...needs)) {
      draft.refuseWhere(() => true, 'NodeFull', nodeFull);
    } else {
      refuseLate(draft, nodeFull);
    }
    return false;
  }
  if (draft.state.nodeFull !== undefined) {
    draft.set({ nodeFull: undefined });
  }
  return true;
}

/** Refuses calls that have waited for long for room. */
function refuseLate(draft: Draft, message: string): void {
  const isLate = (call: Call): boolean => draft.at.now - call.arrivedAt >= roomPatienceMs;
  if (draft.state.waiting.some(isLate)) {
    draft.refuseWhere(isLate, 'NodeFull', message);
  }
}

/** Refuses calls that have waited for long for a runtime that does not answer. */
function refuseStale(draft: Draft): void {
  const { retries, setbacks } = draft.state.present;
  const { now } = draft.at;
  if (retries.failingSince !== undefined && now - retries.failingSince >= patienceMs) {
    draft.refuseWhere(
      (call) => now - call.arrivedAt >= patienceMs,
      'Unavailable',
      `the worker cannot be made ready: ${setbacks.failure?.message ?? 'the container runtime does not answer'}`,
    );
  }
}

function saveRecord(draft: Draft): void {
  const { desired, others, present, released, unsaved } = draft.state;
  if (unsaved === 'None') {
    return;
  }
  const isGone = others.length === 0 && observedOf(present).kind === 'Missing';
  draft.set({ unsaved: 'None' });
  if (!released && !(desired.deleting && isGone)) {
    draft.set({ savedRest: restOf(draft.state, draft.at.now) });
    // Before all else: what is removed because another one serves waits for the record to say so.
    draft.effects.unshift({ kind: 'Save', change: unsaved });
  }
}

/** The next moment at which a decision comes out otherwise without an event. */
function wakeAt({ at, state }: Draft): number {
  const { now } = at;
  let next = Number.POSITIVE_INFINITY;
  const consider = (time: number): void => {
    next = time > now && time < next ? time : next;
  };
  if (state.life !== 'Serving') {
    return next;
  }
  consider(restsUntil(state, now));
  consider(shownUnknownAt(state.present));
  if (state.lastTermination !== undefined) {
    consider(abuseOf(state.lastTermination, at)?.until ?? next);
  }
  consider(state.quietUntil);
  if (state.nodeFull !== undefined || state.desired.awaitsGrant === true) {
    for (const { arrivedAt } of state.waiting) {
      consider(arrivedAt + roomPatienceMs);
    }
  }
  consider(state.grace?.until ?? next);
  consider(state.resolution?.kind === 'Failed' ? state.resolution.backoff.until : next);
  for (const container of containersOf(state)) {
    const { look: looks, resync: due, retries, setbacks } = container;
    consider(silentAt(container));
    consider(setbacks.crashes.until);
    consider(setbacks.starts.until);
    consider(setbacks.silences.until);
    consider(retries.putOff?.until ?? next);
    consider(retries.inspectAt);
    consider(looks.kind === 'Wanted' ? looks.at : next);
    consider(due?.at ?? next);
  }
  if (state.listing.kind === 'Unlisted') {
    consider(now + unavailableRetryMs);
  }
  return next;
}
