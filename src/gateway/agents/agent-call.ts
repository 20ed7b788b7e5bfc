import { MAX_RESPONSE_BYTES } from '../../common/emulator-answer.ts';
import { unreachable } from '../../common/errors.ts';
import { GrowingBuffer } from '../../common/growing-buffer.ts';
import type {
  InvokeFailure,
  InvokeHead,
  InvokeRequest,
  InvokeResponse,
  InvokeTrailer,
} from '../../protocol/generated/agent.ts';
import { reasonIn } from '../../protocol/reasons.ts';
import type { AnswerHold } from '../lambda/caller.ts';
import type { Refusal } from './refusals.ts';

/** Largest streamed answer, in bytes, as in Lambda. */
export const MAX_STREAMED_BYTES = 200 * 1024 * 1024;
/** Unread bytes of a streamed answer after which its agent does not keep to the window. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

const NO_HEAD: InvokeHead = { status: 0, contentType: '', streaming: false };

/** A call as it is sent. The way that it goes says whether the agent is told what has arrived. */
export type NewCall = Omit<InvokeRequest, 'acknowledges' | 'confirms' | 'atOnce' | 'waitedMs' | 'keeps'> &
  Partial<Pick<InvokeRequest, 'atOnce' | 'waitedMs' | 'keeps'>>;

/** How a call ended, as far as its agent or the loss of it tells. */
export type AgentAnswer =
  | {
      /** By the emulator, or with a known end of the function, which the trailer has. */
      readonly kind: 'Answered';
      readonly head: InvokeHead;
      /** Cut off beyond {@link MAX_RESPONSE_BYTES}. */
      readonly body: Buffer;
      /** Bytes that the worker sent. */
      readonly size: number;
      /** Whether the bytes have gone to the sink. There is no body then. */
      readonly streamed: boolean;
      readonly trailer: InvokeTrailer;
    }
  | { readonly kind: 'TimedOut'; readonly trailer: InvokeTrailer }
  | Refusal
  | {
      readonly kind: 'Unknown';
      /** The reason of the gateway or the agent; any word of an agent's error where that is no reason. */
      readonly reason: string;
      readonly message: string;
      /** As far as the answer came, where the agent's next run may know the rest. */
      readonly soFar?: AnswerSoFar;
    };

/** The beginning of an answer. */
export interface AnswerSoFar {
  readonly head: InvokeHead;
  readonly body: GrowingBuffer;
  /** Bytes that came. */
  readonly size: number;
  readonly read: ReadBytes;
  readonly streamed: boolean;
}

/**
 * Bytes of an answer that its caller has read. Those that are on their way to the caller when an agent ends are counted
 * when they are read, for the run of the agent that goes on with the answer.
 */
export class ReadBytes {
  #bytes = 0;
  /** Hears each change. */
  onRead: ((bytes: number) => void) | undefined;

  get bytes(): number {
    return this.#bytes;
  }

  note(bytes: number): void {
    this.#bytes += bytes;
    this.onRead?.(this.#bytes);
  }
}

/** An answer of which nothing has come. */
export function nothingSoFar(streamed = false): AnswerSoFar {
  return { head: NO_HEAD, body: new GrowingBuffer(), size: 0, read: new ReadBytes(), streamed };
}

/** `Recovery`: of a call that was sent before, which nothing but the word of an agent shows not to have begun. */
type CallAim = 'Call' | 'Recovery';

/** The way that a call went to its agent. */
export interface CallWay {
  /** Whether it is certain that the agent has not looked at the call. */
  readonly neverSeen: boolean;
  /** Cancels the call at the agent: its caller is gone. */
  cancel(): void;
  /** Asks the agent to refuse the call if it waits; absent where it cannot be asked. */
  withdraw?(): void;
  /** Hears how many bytes of the answer, from the first one on, have been read; absent where the agent does not ask. */
  onRead?(bytes: number): void;
  /** Hears how many bytes of the answer have arrived. */
  onArrived?(bytes: number): void;
  /** Hears that the whole answer is there. */
  onWhole?(): void;
}

/** The receiver of an answer that a runtime streams. */
export interface AnswerSink {
  /** Called before the call is given to a worker, with the version of that, and again for another worker. */
  routed?(version: string): void;
  /**
   * Called before the first chunk.
   *
   * @param contentType as the runtime says; empty for none
   */
  begin(contentType: string): void;
  /** @param taken called once the caller has read the bytes */
  chunk(bytes: Buffer, taken: () => void): void;
}

/** One call that an agent is at work on, on a stream of its own or a shared one. The first end counts. */
export class AgentCall {
  /** Undefined until it is on its way. */
  way: CallWay | undefined;
  readonly #limit: number;
  readonly #onSettled: () => void;
  readonly #answered = Promise.withResolvers<AgentAnswer>();
  #head: InvokeHead;
  readonly #body: GrowingBuffer;
  #size: number;
  readonly #read: ReadBytes;
  #settled = false;
  readonly #sink: AnswerSink | undefined;
  #streamed: boolean;
  readonly #aim: CallAim;
  readonly #hold: AnswerHold | undefined;

  /**
   * @param limit monotonic milliseconds after which the call counts as lost at the agent
   * @param onSettled called once, before the answer resolves
   * @param sink gets an answer that the runtime streams; all others are gathered
   * @param soFar beginning of an answer that is asked for again
   * @param hold counts the bytes of an answer that is gathered
   */
  constructor(limit: number, onSettled: () => void, sink?: AnswerSink, soFar?: AnswerSoFar, hold?: AnswerHold) {
    this.#hold = hold;
    this.#aim = soFar === undefined ? 'Call' : 'Recovery';
    this.#head = soFar?.head ?? NO_HEAD;
    this.#body = soFar?.body ?? new GrowingBuffer();
    this.#size = soFar?.size ?? 0;
    this.#read = soFar?.read ?? new ReadBytes();
    this.#read.onRead = (bytes) => this.way?.onRead?.(bytes);
    this.#streamed = soFar?.streamed ?? false;
    this.#limit = limit;
    this.#onSettled = onSettled;
    this.#sink = sink;
  }

  get answer(): Promise<AgentAnswer> {
    return this.#answered.promise;
  }

  get isSettled(): boolean {
    return this.#settled;
  }

  take({ head, chunk, trailer }: InvokeResponse): void {
    if (this.#settled) {
      return;
    }
    if (head !== null) {
      this.#head = head;
      if (head.streaming && this.#sink !== undefined && !this.#streamed && this.#size === 0) {
        this.#streamed = true;
        this.#sink.begin(head.contentType);
      }
    }
    if (chunk.length > 0) {
      this.#size += chunk.length;
      if (this.#streamed) {
        this.#pass(chunk);
      } else {
        if (this.#size <= MAX_RESPONSE_BYTES) {
          const before = this.#body.memory;
          this.#body.append(chunk);
          if (this.#hold?.takeAnswer(this.#body.memory - before, this.#size) === false) {
            // The settled call gives back all of its memory, these bytes included.
            this.#hold.add(this.#body.memory - before);
            const message = 'the gateway had no memory left for the answer';
            this.#settle({ kind: 'Unknown', reason: 'GatewayFull', message });
            this.way?.cancel();
            return;
          }
        }
        this.#read.note(chunk.length);
      }
      this.way?.onArrived?.(this.#size);
    }
    if (trailer !== null) {
      this.#settle(this.#answerOf(trailer));
      this.way?.onWhole?.();
    }
  }

  /** The agent ended it with an error. An error that is no reason of a refusal leaves the outcome unknown. */
  fail({ code, message, reasonCode }: InvokeFailure): void {
    const reason = reasonIn(reasonCode);
    if (this.#aim === 'Recovery') {
      const more = code === 'Unavailable' ? { soFar: this.#soFar } : {};
      this.#settle({ kind: 'Unknown', reason: code, message, ...more });
      return;
    }
    this.#settle(
      reason?.started === 'no'
        ? { kind: 'Refused', reason: reason.name, message }
        : { kind: 'Unknown', reason: reason?.name ?? code, message },
    );
  }

  /** The agent has never looked at it. */
  refuse(message: string): void {
    this.#settle(this.#aim === 'Call' ? notTaken(message) : this.#lost(message));
  }

  /** The way to the agent is gone. */
  lose(message: string): void {
    if (this.way?.neverSeen ?? true) {
      this.refuse(message);
    } else {
      this.#settle(this.#lost(message));
    }
  }

  /** The caller is gone. The agent takes the call out of its queue, or lets it run to its end. */
  abandon(): void {
    this.#settle({ kind: 'Unknown', reason: 'CallerGone', message: 'the caller hung up' });
    this.way?.cancel();
  }

  /** Another worker would take the call. The agent refuses it, unless it has begun. */
  withdraw(): void {
    if (!this.#settled) {
      this.way?.withdraw?.();
    }
  }

  checkLimit(now: number): void {
    if (now > this.#limit) {
      this.lose('the agent has not ended the call long after its time was over');
      this.way?.cancel();
    }
  }

  #pass(chunk: Buffer): void {
    if (this.#size > MAX_STREAMED_BYTES || this.#size - this.#read.bytes > MAX_UNREAD_BYTES) {
      const message = 'the agent sent more of a streamed answer than was asked for';
      this.#settle({ kind: 'Unknown', reason: 'InvalidAnswer', message });
      this.way?.cancel();
    } else {
      this.#sink?.chunk(chunk, () => this.#read.note(chunk.length));
    }
  }

  #answerOf(trailer: InvokeTrailer): AgentAnswer {
    const { message } = trailer;
    const reason = reasonIn(trailer.reasonCode);
    if (trailer.functionEnd !== null) {
      return this.#whole(trailer);
    }
    switch (trailer.outcome) {
      case 'OUTCOME_ANSWERED':
        return this.#whole(trailer);
      case 'OUTCOME_TIMED_OUT':
        return { kind: 'TimedOut', trailer };
      case 'OUTCOME_REFUSED':
        // The outcome says that the call was not started. A reason of a later release passes, as `Unavailable` does.
        return {
          kind: 'Refused',
          reason: reason?.started === 'no' ? reason.name : 'Unavailable',
          message,
          ...(trailer.initFault && { fault: trailer.initFault }),
        };
      case 'OUTCOME_UNKNOWN':
      case 'OUTCOME_UNSPECIFIED':
        return {
          kind: 'Unknown',
          reason: reason?.name ?? (trailer.reason === '' ? 'ConnectionLost' : trailer.reason),
          message,
          ...(this.#aim === 'Call' && reason?.name === 'AgentStopped' ? { soFar: this.#soFar } : {}),
        };
      default:
        return unreachable(trailer.outcome);
    }
  }

  get #soFar(): AnswerSoFar {
    return { head: this.#head, body: this.#body, size: this.#size, read: this.#read, streamed: this.#streamed };
  }

  #lost(message: string): AgentAnswer {
    return { kind: 'Unknown', reason: 'ConnectionLost', message, soFar: this.#soFar };
  }

  #whole(trailer: InvokeTrailer): AgentAnswer {
    const [head, streamed] = [this.#head, this.#streamed];
    return { kind: 'Answered', head, body: this.#body.whole(), size: this.#size, streamed, trailer };
  }

  #settle(answer: AgentAnswer): void {
    if (!this.#settled) {
      this.#settled = true;
      if (answer.kind !== 'Unknown' || answer.soFar === undefined) {
        if (answer.kind !== 'Answered') {
          this.#hold?.add(-this.#body.memory);
        }
        this.#body.clear();
      }
      this.#onSettled();
      // An answer that has begun was no refusal, even by the word of its agent.
      this.#answered.resolve(answer.kind === 'Refused' && this.#streamed ? { ...answer, kind: 'Unknown' } : answer);
    }
  }
}

function notTaken(message: string): AgentAnswer {
  return { kind: 'Refused', reason: 'ConnectionLost', message };
}
