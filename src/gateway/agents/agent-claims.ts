import {
  type InvokeFailure,
  type InvokeResponse,
  type InvokeTimings,
  type InvokeTrailer,
  Outcome,
  Phase,
  type WatchEvent,
  type WorkerState,
} from '../../protocol/generated/agent.ts';

/** Longest uid of a resource, and longest text of an error, that is taken from an agent, in characters. */
const MAX_UID_LENGTH = 128;
const MAX_MESSAGE_LENGTH = 4_096;
/** Bytes of output that a call is answered with, as with Lambda. */
const MAX_LOG_TAIL_BYTES = 4_096;
/** Microseconds; a day is more than any call takes. */
const MAX_TIMING = 86_400_000_000;

const CODE = /^[A-Za-z]{1,64}$/;
/** The schema's own pattern of `status.lastInvocationTime`, in UTC. */
const STAMP = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/;

const PHASES: ReadonlySet<string> = new Set(Object.keys(Phase));
const OUTCOMES: ReadonlySet<string> = new Set(Object.keys(Outcome));
const STARTS: ReadonlySet<string> = new Set(['running', 'paused', 'absent']);

/** An agent's report about its workers, checked; impossible workers are left out. */
export function checkedEvent({ snapshot, changed, removed }: WatchEvent): WatchEvent {
  if (snapshot !== undefined) {
    return { snapshot: { workers: snapshot.workers.flatMap((worker) => checkedState(worker) ?? []) } };
  }
  const state = changed === undefined ? undefined : checkedState(changed);
  return state === undefined ? (removed === undefined ? {} : { removed }) : { changed: state };
}

function checkedState(state: WorkerState): WorkerState | undefined {
  const { worker, epoch, inFlight, phase } = state;
  if (worker === null || worker.uid === '' || worker.uid.length > MAX_UID_LENGTH) {
    return undefined;
  }
  return Number.isSafeInteger(epoch)
    ? {
        ...state,
        phase: PHASES.has(phase) ? phase : 'PHASE_UNKNOWN',
        inFlight: Math.max(0, inFlight),
      }
    : undefined;
}

/** A part of an answer, brought into form. */
export function checkedAnswer(answer: InvokeResponse): InvokeResponse {
  return answer.trailer === null ? answer : { ...answer, trailer: checkedTrailer(answer.trailer) };
}

function checkedTrailer(trailer: InvokeTrailer): InvokeTrailer {
  return {
    outcome: OUTCOMES.has(trailer.outcome) ? trailer.outcome : 'OUTCOME_UNSPECIFIED',
    reason: checkedCode(trailer.reason),
    reasonCode: trailer.reasonCode,
    message: checkedMessage(trailer.message),
    stamp: isStamp(trailer.stamp) ? trailer.stamp : '',
    timings: trailer.timings === null ? null : checkedTimings(trailer.timings),
    logTail: trailer.logTail.subarray(-MAX_LOG_TAIL_BYTES),
  };
}

/** The failure of a call, brought into form. */
export function checkedFailure({ code, message, reasonCode }: InvokeFailure): InvokeFailure {
  return { code: checkedCode(code), message: checkedMessage(message), reasonCode };
}

/** A CamelCase code; empty for anything else. */
function checkedCode(code: string): string {
  return CODE.test(code) ? code : '';
}

function checkedMessage(message: string): string {
  return message.slice(0, MAX_MESSAGE_LENGTH);
}

/** Whether the API server would accept a stamp unchanged: there is no 31st of February. */
function isStamp(stamp: string): boolean {
  const time = STAMP.test(stamp) ? Date.parse(stamp) : Number.NaN;
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(stamp.slice(0, 19));
}

function checkedTimings({ queued, wake, run, start }: InvokeTimings): InvokeTimings {
  return {
    queued: checkedTiming(queued),
    wake: checkedTiming(wake),
    run: checkedTiming(run),
    start: STARTS.has(start) ? start : '',
  };
}

function checkedTiming(microseconds: number): number {
  return microseconds >= 0 && microseconds <= MAX_TIMING ? microseconds : 0;
}
