import { loadAgentProto } from '../../protocol/agent-proto.ts';
import {
  type FunctionEnd,
  FunctionOutcome,
  type InitFault,
  type InvokeFailure,
  type InvokeHead,
  type InvokeManyRequest,
  type InvokeManyResponse,
  type InvokeResponse,
  type InvokeStreamedRequest,
  type InvokeTimings,
  type InvokeTrailer,
  Outcome,
  Phase,
  type RecoverRequest,
  type WatchEvent,
  type WorkerState,
} from '../../protocol/generated/agent.ts';
import type { Sparse } from '../../protocol/sparse.ts';

/** Longest uid of a resource, and longest text of an error, that is taken from an agent, in characters. */
const MAX_UID_LENGTH = 128;
const MAX_MESSAGE_LENGTH = 4_096;
/** Most calls that a worker takes at once: the bound of the resource definition. */
const MAX_PLACES = 1_600;
/** Longest name of an error of a function, and longest JSON of one that is no answer's body, in characters. */
const MAX_ERROR_TYPE_LENGTH = 1_024;
const MAX_ERROR_LENGTH = 64 * 1024;
/** Bytes of output that a call is answered with, as with Lambda. */
const MAX_LOG_TAIL_BYTES = 4_096;
/** Microseconds; a day is more than any call takes. */
const MAX_TIMING = 86_400_000_000;

const CODE = /^[A-Za-z]{1,64}$/;
/** A media type that a header can carry. */
const CONTENT_TYPE = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:[ \t]*;[\t\x20-\x7e]*)?$/;
const MAX_CONTENT_TYPE_LENGTH = 256;

const PHASES: ReadonlySet<string> = new Set(Object.keys(Phase));
const OUTCOMES: ReadonlySet<string> = new Set(Object.keys(Outcome));
const FUNCTION_OUTCOMES: ReadonlySet<string> = new Set(Object.keys(FunctionOutcome));
const STARTS: ReadonlySet<string> = new Set(['running', 'paused', 'absent']);

/**
 * The messages of the agent's API that a gateway sends and reads, as bytes. A message of an agent is not trusted: the
 * decoded form is checked.
 */
export interface AgentProtocol {
  readonly invokeManyPath: string;
  readonly invokeStreamedPath: string;
  readonly recoverPath: string;
  readonly watchPath: string;
  decodeInvoke(bytes: Buffer): InvokeResponse;
  encodeInvokeMany(request: Sparse<InvokeManyRequest>): Buffer;
  decodeInvokeMany(bytes: Buffer): InvokeManyResponse;
  /** Answers are those of an Invoke. */
  encodeInvokeStreamed(request: Sparse<InvokeStreamedRequest>): Buffer;
  /** Answers are those of an Invoke. */
  encodeRecover(request: Sparse<RecoverRequest>): Buffer;
  encodeWatch(): Buffer;
  decodeWatch(bytes: Buffer): WatchEvent;
}

/** The codec over proto/esb/agent/v1/agent.proto. */
export function loadAgentProtocol(): AgentProtocol {
  const { agent } = loadAgentProto();
  const { Invoke: invoke, InvokeMany: invokeMany, InvokeStreamed: streamed, Recover: recover, Watch: watch } = agent;
  return {
    invokeManyPath: invokeMany.path,
    invokeStreamedPath: streamed.path,
    recoverPath: recover.path,
    watchPath: watch.path,
    decodeInvoke: (bytes) => checkedAnswer(invoke.responseDeserialize(bytes)),
    encodeInvokeMany: invokeMany.requestSerialize,
    decodeInvokeMany(bytes) {
      const { call, answer, failure } = invokeMany.responseDeserialize(bytes);
      return {
        call,
        answer: answer === null ? null : checkedAnswer(answer),
        failure: failure === null ? null : checkedFailure(failure),
      };
    },
    encodeInvokeStreamed: streamed.requestSerialize,
    encodeRecover: recover.requestSerialize,
    encodeWatch: () => watch.requestSerialize({}),
    decodeWatch: (bytes) => checkedEvent(watch.responseDeserialize(bytes)),
  };
}

/** An agent's report about its workers, checked; impossible workers are left out. */
function checkedEvent({ snapshot, changed, removed }: WatchEvent): WatchEvent {
  if (snapshot !== undefined) {
    const workers = snapshot.workers.flatMap((worker) => checkedState(worker) ?? []);
    return { snapshot: { workers, run: snapshot.run.slice(0, MAX_UID_LENGTH) } };
  }
  const state = changed === undefined ? undefined : checkedState(changed);
  return state === undefined ? (removed === undefined ? {} : { removed }) : { changed: state };
}

function checkedState(state: WorkerState): WorkerState | undefined {
  const { worker, epoch, inFlight, others, othersPlaced, phase, places } = state;
  if (worker === null || worker.uid === '' || worker.uid.length > MAX_UID_LENGTH) {
    return undefined;
  }
  return Number.isSafeInteger(epoch)
    ? {
        ...state,
        phase: PHASES.has(phase) ? phase : 'PHASE_UNKNOWN',
        inFlight: Math.max(0, inFlight),
        others: Math.max(0, others),
        othersPlaced: Math.max(0, othersPlaced),
        places: Math.min(MAX_PLACES, Math.max(1, places)),
      }
    : undefined;
}

function checkedAnswer(answer: InvokeResponse): InvokeResponse {
  const { head, trailer } = answer;
  return head === null && trailer === null
    ? answer
    : {
        ...answer,
        head: head === null ? null : checkedHead(head),
        trailer: trailer === null ? null : checkedTrailer(trailer),
      };
}

function checkedHead(head: InvokeHead): InvokeHead {
  const { contentType } = head;
  const isType = contentType.length <= MAX_CONTENT_TYPE_LENGTH && CONTENT_TYPE.test(contentType);
  return { ...head, contentType: isType ? contentType : '' };
}

/** An outcome of a later release is left unspecified. */
function checkedEnd({ outcome, errorType, lateError }: FunctionEnd): FunctionEnd {
  return {
    outcome: FUNCTION_OUTCOMES.has(outcome) ? outcome : 'FUNCTION_OUTCOME_UNSPECIFIED',
    errorType: errorType.slice(0, MAX_ERROR_TYPE_LENGTH),
    lateError: lateError.length <= MAX_ERROR_LENGTH ? lateError : '',
  };
}

function checkedFault({ errorType, message, body }: InitFault): InitFault {
  return {
    errorType: errorType.slice(0, MAX_ERROR_TYPE_LENGTH),
    message: message.slice(0, MAX_MESSAGE_LENGTH),
    body: body.length <= MAX_ERROR_LENGTH ? body : '',
  };
}

function checkedTrailer(trailer: InvokeTrailer): InvokeTrailer {
  return {
    outcome: OUTCOMES.has(trailer.outcome) ? trailer.outcome : 'OUTCOME_UNSPECIFIED',
    reason: checkedCode(trailer.reason),
    reasonCode: trailer.reasonCode,
    message: trailer.message.slice(0, MAX_MESSAGE_LENGTH),
    stamp: '',
    timings: trailer.timings === null ? null : checkedTimings(trailer.timings),
    logTail: trailer.logTail.subarray(-MAX_LOG_TAIL_BYTES),
    functionEnd: trailer.functionEnd === null ? null : checkedEnd(trailer.functionEnd),
    initFault: trailer.initFault === null ? null : checkedFault(trailer.initFault),
  };
}

function checkedFailure({ code, message, reasonCode }: InvokeFailure): InvokeFailure {
  return { code: checkedCode(code), message: message.slice(0, MAX_MESSAGE_LENGTH), reasonCode };
}

/** A CamelCase code; empty for anything else. */
function checkedCode(code: string): string {
  return CODE.test(code) ? code : '';
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
