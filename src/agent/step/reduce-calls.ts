import { takenMiB } from '../../api/worker-resources.ts';
import { unreachable } from '../../common/errors.ts';
import { refusalFor, startsAt } from '../model/crash-backoff.ts';
import type { Closing, InvocationTimings, UnknownReason } from '../model/invocation.ts';
import type { Observed } from '../model/plan.ts';
import { type Call, waitsSince } from './call.ts';
import { actionOf, hasEnded, type Load, observedOf, withProcess } from './container.ts';
import { unknown } from './container-sight.ts';
import type { CallOutcome, WorkerEvent } from './events.ts';
import { runningOf, whyUnshared } from './share.ts';
import {
  closingOf,
  type Draft,
  findContainer,
  inFlightOf,
  isEnding,
  type Place,
  placesOf,
  restOf,
  type WorkerState,
} from './state.ts';

/** Attempts to send a call of which not a byte was sent. */
export const MAX_ATTEMPTS = 3;
/**
 * Milliseconds before each look that is to tell why a connection broke: the runtime may hear of an exit a moment late.
 */
const diagnosisDelaysMs = [0, 50, 150];

/** A call asks to be let in. */
export function invoked(draft: Draft, event: Extract<WorkerEvent, { kind: 'Invoked' }>): void {
  const { call } = event;
  const { state } = draft;
  const refusal = refusalOf(draft, event);
  if (refusal !== undefined) {
    draft.refuse(call, refusal);
    return;
  }
  const start = actionOf(state.present) === 'Pause' ? 'paused' : startOf(observedOf(state.present).kind);
  // The one goes first that has waited longest, whichever gateway it came by.
  const before = state.waiting.findLastIndex((other) => waitsSince(other) <= waitsSince(call));
  draft.touch({
    waiting: state.waiting.toSpliced(before + 1, 0, { ...call, start, attempts: 0 }),
    waitingBytes: state.waitingBytes + call.bytes,
  });
}

/** Why a call is refused before it waits for anything; undefined when it is let in. */
function refusalOf({ at, state }: Draft, event: Extract<WorkerEvent, { kind: 'Invoked' }>): Closing | undefined {
  const {
    atOnce = false,
    call: { epoch },
    gone,
  } = event;
  const { desired, nodeFull, present, queueLimits, waiting, waitingBytes } = state;
  const closing = closingOf(state);
  if (closing !== undefined) {
    return closing;
  }
  if (epoch !== desired.epoch) {
    return ['Fenced', `the call has epoch ${epoch}, the assignment ${desired.epoch}`];
  }
  if (gone) {
    return ['CallerGone', 'the caller hung up'];
  }
  const unshared = desired.share === undefined ? undefined : whyUnshared({ at, state });
  if (unshared !== undefined) {
    return unshared;
  }
  if (desired.wakePolicy === 'Never' && restOf(state, at.now) !== 'Running') {
    return ['PausedByOwner', 'the worker is paused by its owner'];
  }
  const putOff = whyPutOff(state, at.now);
  if (putOff !== undefined) {
    return putOff;
  }
  if (nodeFull !== undefined) {
    const needs = [present.make.id, takenMiB(desired, at.node.tmpOnDisk), []] as const;
    if (!at.node.fits(...needs) && !at.node.mayFitLater(...needs)) {
      return ['NodeFull', nodeFull];
    }
  }
  const taken = desired.share === undefined ? inFlightOf(state) : runningOf(state) + waiting.length;
  if (atOnce && taken >= placesOf(state)) {
    return ['Busy', 'other calls have all places of the worker'];
  }
  // As many as it takes at once come together while it wakes.
  const most = Math.max(queueLimits.calls, desired.perWorker ?? 1);
  return waiting.length >= most || waitingBytes >= queueLimits.bytes
    ? ['QueueFull', `${waiting.length} calls wait for this worker already`]
    : undefined;
}

/** Why there is nothing that runs, and nothing is started either; undefined when it is or could be. */
export function whyPutOff({ present }: WorkerState, now: number): Closing | undefined {
  const { activity, setbacks, sight } = present;
  const task = sight.info?.task.kind;
  const down = task !== 'Running' && task !== 'Paused';
  return down && sight.kind === 'Known' && activity.kind !== 'Acting' && startsAt(setbacks) > now
    ? refusalFor(setbacks)
    : undefined;
}

/** State that a call which arrives now would find. */
function startOf(kind: Observed['kind']): InvocationTimings['start'] {
  switch (kind) {
    case 'Running':
      return 'running';
    case 'Paused':
      return 'paused';
    case 'Unknown':
    case 'Missing':
    case 'Created':
    case 'Stopped':
      return 'absent';
    default:
      return unreachable(kind);
  }
}

/** The caller of a call that waits hung up. One that is in the worker goes on. */
export function hungUp(draft: Draft, id: number): void {
  const call = draft.state.waiting.find((waiting) => waiting.id === id);
  if (call !== undefined) {
    draft.set({
      waiting: draft.state.waiting.filter((waiting) => waiting !== call),
      waitingBytes: draft.state.waitingBytes - call.bytes,
    });
    draft.refuse(call, ['CallerGone', 'the caller hung up while the call was waiting']);
  }
}

/** An attempt to serve a call that is in the worker is over. */
export function returned(draft: Draft, { containerId, id, outcome }: Extract<WorkerEvent, { kind: 'Returned' }>): void {
  const place = draft.state.places.find(({ call }) => call.id === id);
  if (place === undefined) {
    return;
  }
  takeLoad(draft, containerId, outcome);
  if (place.kind === 'Left') {
    draft.set({ places: draft.placesWithout(place.call) });
    return;
  }
  switch (outcome.kind) {
    case 'NotSent':
      notSent(draft, place, outcome);
      return;
    case 'Unknown':
      if (outcome.fault) {
        retire(draft, containerId, 'serving a call failed');
        finishUnknown(draft, place.call, 'ConnectionLost', outcome);
        return;
      }
      broke(draft, place, outcome);
      return;
    case 'CutOff':
      // A process in it still writes. The caller sees by the size what is wrong.
      retire(draft, containerId, 'an answer was larger than a function may give');
      finishAnswered(draft, place, outcome);
      return;
    case 'TimedOut':
      retire(draft, containerId, 'a call was not answered in time');
      finishAnswered(draft, place, outcome);
      return;
    case 'Answered':
      finishAnswered(draft, place, outcome);
      return;
    default:
      unreachable(outcome);
  }
}

/** Takes what a call has shown of the function in its container. */
export function takeLoad(draft: Draft, containerId: string, outcome: CallOutcome): void {
  const container = findContainer(draft.state, containerId);
  if (container === undefined) {
    return;
  }
  const { load, warm } = container.process;
  const next: Load = outcome.kind === 'NotSent' ? (load === 'Loaded' ? 'Unloaded' : load) : outcome.load;
  const warmed = outcome.kind !== 'NotSent' && outcome.warmed && !warm;
  if (next !== load || warmed) {
    draft.put(withProcess(container, { load: next, warm: warm || warmed }));
  }
  if (warmed) {
    draft.save();
  }
}

function retire(draft: Draft, containerId: string, why: string): void {
  draft.change(containerId, (container) => ({ ...container, unusable: why }));
}

function finishAnswered(
  draft: Draft,
  { call, containerId, readyAt }: Place,
  outcome: Extract<CallOutcome, { kind: 'Answered' | 'CutOff' | 'TimedOut' }>,
): void {
  const { answeredAt, end, kind, logTail, sentAt, stamp } = outcome;
  const rest = {
    stamp,
    timings: {
      wake: microseconds(readyAt - call.arrivedAt),
      queued: microseconds(sentAt - readyAt),
      run: microseconds(answeredAt - sentAt),
      start: call.start,
    },
    ...(logTail === undefined ? {} : { logTail }),
  };
  const timeoutSeconds = findContainer(draft.state, containerId)?.make.timeoutSeconds ?? 0;
  draft.touch({ places: draft.placesWithout(call), activeStamp: stamp });
  draft.answer(
    call.id,
    kind === 'TimedOut'
      ? { kind, message: `Task timed out after ${timeoutSeconds}.00 seconds`, ...rest }
      : { kind: 'Answered', ...rest, ...(end === undefined ? {} : { end }) },
  );
}

function microseconds(milliseconds: number): number {
  return Math.max(0, Math.round(milliseconds * 1_000));
}

function finishUnknown(
  draft: Draft,
  call: Call,
  reason: UnknownReason,
  { message, stamp }: { readonly message: string; readonly stamp: string },
): void {
  draft.touch({ places: draft.placesWithout(call), activeStamp: stamp });
  draft.answer(call.id, { kind: 'Unknown', reason, message, stamp });
}

/** Nothing was sent: the call is still ours, and goes first once it is known what the worker is. */
function notSent(
  draft: Draft,
  { call, containerId }: Place,
  { gone, message, own }: Extract<CallOutcome, { kind: 'NotSent' }>,
): void {
  const { state } = draft;
  const last = call.attempts + 1 >= MAX_ATTEMPTS;
  draft.set({ places: draft.placesWithout(call) });
  if (!own) {
    draft.change(containerId, (container) => unknown(container, draft.at.now));
  }
  const closing = closingOf(state);
  if (last && own) {
    draft.refuse(call, ['Unavailable', `the node cannot connect to the worker now: ${message}`]);
  } else if (last) {
    retire(draft, containerId, 'it does not listen');
    draft.refuse(call, ['StartFailed', `the worker does not listen: ${message}`]);
  } else if (gone) {
    draft.refuse(call, ['CallerGone', 'the caller hung up']);
  } else if (closing !== undefined) {
    draft.refuse(call, closing);
  } else {
    draft.set({
      waiting: [{ ...call, attempts: call.attempts + 1 }, ...state.waiting],
      waitingBytes: state.waitingBytes + call.bytes,
    });
    draft.emit({ kind: 'Await', id: call.id });
  }
}

/** The connection broke in the middle of a call. */
function broke(draft: Draft, place: Place, { message, stamp }: Extract<CallOutcome, { kind: 'Unknown' }>): void {
  const { containerId } = place;
  const other = draft.state.places.find((each) => each.kind === 'Broken' && each.containerId === containerId);
  const looks = other?.kind === 'Broken' ? other.looks : 0;
  draft.set({ places: [...draft.placesWithout(place.call), { ...place, kind: 'Broken', message, stamp, looks }] });
  diagnose(draft);
  if (other === undefined) {
    lookWhy(draft, containerId);
  }
}

/** Tells the callers of calls whose connection broke why, once that is known or cannot be. */
export function diagnose(draft: Draft): void {
  for (const place of draft.state.places) {
    const reason = place.kind === 'Broken' ? reasonOf(draft.state, place) : undefined;
    if (place.kind !== 'Broken' || reason === undefined) {
      continue;
    }
    if (reason === 'ConnectionLost') {
      retire(draft, place.containerId, 'the connection was lost in the middle of a call');
    }
    finishUnknown(draft, place.call, reason, place);
  }
}

/** Looks at a container in which the connection of a call broke. One look is for all such calls. */
function lookWhy(draft: Draft, containerId: string): void {
  const place = draft.state.places.find((each) => each.kind === 'Broken' && each.containerId === containerId);
  if (place?.kind === 'Broken') {
    draft.emit({ kind: 'Look', containerId, purpose: 'Diagnose', delayMs: diagnosisDelaysMs[place.looks] ?? 0 });
  }
}

function reasonOf(state: WorkerState, place: Extract<Place, { kind: 'Broken' }>): UnknownReason | undefined {
  const container = findContainer(state, place.containerId);
  if (container === undefined || hasEnded(container)) {
    return 'WorkerExited';
  }
  if (actionOf(container) === 'Destroy' || isEnding(state)) {
    return 'Restarted';
  }
  if (state.life !== 'Serving') {
    return 'AgentStopped';
  }
  return place.looks >= diagnosisDelaysMs.length ? 'ConnectionLost' : undefined;
}

/** A look that is to tell why a connection broke is over. `ended`: it has shown that the process is gone. */
export function diagnosed(draft: Draft, containerId: string, ended: boolean): void {
  for (const place of draft.state.places) {
    if (place.kind === 'Broken' && place.containerId === containerId && ended) {
      finishUnknown(draft, place.call, 'WorkerExited', place);
    }
  }
  draft.set({
    places: draft.state.places.map((place) =>
      place.kind === 'Broken' && place.containerId === containerId ? { ...place, looks: place.looks + 1 } : place,
    ),
  });
  diagnose(draft);
  lookWhy(draft, containerId);
}
