import type { AnswerTaker, FoundCall, InitAnswer, InitHead } from './contract.ts';
import type { CallTold } from './messages.ts';
import { type AnswerPart, SentCall } from './sent-call.ts';

/** Bytes of answers that wait to be asked for, of one init. */
const MAX_WAITING_BYTES = 256 * 1024;

export interface FoundCallsListener {
  /** The init may throw the answer away. */
  onLost(id: string): void;
  /** The answer has ended, and was passed on in whole. */
  onRead(id: string, bytes: number): void;
}

/** Calls of an earlier run of the agent, which an init names when it connects. Their answers wait to be asked for. */
export class FoundCalls {
  readonly #listener: FoundCallsListener;
  readonly #calls = new Map<string, FoundAnswer>();

  constructor(listener: FoundCallsListener) {
    this.#listener = listener;
  }

  get list(): readonly FoundCall[] {
    return [...this.#calls].map(([requestId, { ended }]) => ({ requestId, ended }));
  }

  has(id: string): boolean {
    return this.#calls.has(id);
  }

  /** Calls whose answers are read, by id. */
  get read(): readonly (readonly [string, SentCall])[] {
    return [...this.#calls].flatMap(([id, { sent }]) => (sent === undefined ? [] : [[id, sent] as const]));
  }

  /**
   * Takes what the init tells of a call. Says whether it has ended with that.
   *
   * @throws {InitBreach}
   */
  told({ end, head, id }: CallTold): boolean {
    const call = this.#calls.get(id) ?? new FoundAnswer();
    this.#calls.set(id, call);
    if (head !== undefined) {
      call.sent?.takeHead(head);
    }
    if (end === undefined || call.ended) {
      return false;
    }
    call.ended = true;
    if (call.sent?.received === 0 && end.size > 0) {
      this.#lose(id, call);
    }
    call.sent?.checkEnd(end);
    call.sent?.settle({ kind: 'Ended', end });
    this.#noteRead(id, call);
    return true;
  }

  /**
   * Takes a part of an answer. Says whether there was anything new in it.
   *
   * @throws {InitBreach}
   */
  takeData(part: AnswerPart & { readonly id: string }): boolean {
    const { id, offset } = part;
    const call = this.#calls.get(id);
    if (call?.sent === undefined) {
      return false;
    }
    if (call.sent.received === 0 && offset > 0) {
      // The run of the agent before had the beginning.
      this.#lose(id, call);
      return false;
    }
    const isNew = call.sent.takeData(part);
    if (isNew && this.#waitingBytes > MAX_WAITING_BYTES) {
      this.#lose(id, call);
    }
    return isNew;
  }

  /** Passes the whole answer of a call on, once; undefined where it is not there. */
  recover(id: string, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    const call = this.#calls.get(id);
    if (call?.sent === undefined || call.taken) {
      return undefined;
    }
    call.take(taker);
    this.#noteRead(id, call);
    return call.sent.answer;
  }

  /** Forgets a call that has ended: another with its id begins. Says whether the id is free. */
  drop(id: string): boolean {
    const call = this.#calls.get(id);
    if (call?.ended === true) {
      this.#lose(id, call);
      this.#calls.delete(id);
    }
    return !this.#calls.has(id);
  }

  /** Gives up the answers that were not asked for in time. */
  expire(): void {
    for (const [id, call] of this.#calls) {
      if (!call.taken) {
        this.#lose(id, call);
      }
    }
  }

  /** The connection to the init has ended. */
  close(message: string): void {
    for (const { sent } of this.#calls.values()) {
      sent?.settle({ kind: 'Unknown', message });
    }
  }

  get #waitingBytes(): number {
    return [...this.#calls.values()].reduce((sum, { waitingBytes }) => sum + waitingBytes, 0);
  }

  #noteRead(id: string, { ended, sent, taken }: FoundAnswer): void {
    if (ended && taken && sent !== undefined) {
      this.#listener.onRead(id, sent.received);
    }
  }

  #lose(id: string, call: FoundAnswer): void {
    if (call.sent !== undefined) {
      call.lose('the beginning of the answer was lost with the agent');
      this.#listener.onLost(id);
    }
  }
}

/** The answer of one call, kept until a taker comes. */
class FoundAnswer {
  readonly #room = Promise.withResolvers<void>();
  #head: InitHead | undefined;
  #chunks: Buffer[] = [];
  #taker: AnswerTaker | undefined;
  ended = false;
  /** Undefined once the answer is thrown away. */
  sent: SentCall | undefined = new SentCall({
    onHead: (head) => {
      this.#head = head;
      this.#taker?.onHead(head);
    },
    onChunk: (chunk) => {
      if (this.#taker === undefined) {
        // The chunk is a part of what was read at once.
        this.#chunks.push(Buffer.from(chunk));
      } else {
        this.#taker.onChunk(chunk);
      }
    },
    room: () => (this.#taker === undefined ? this.#room.promise : this.#taker.room?.()),
  });

  get taken(): boolean {
    return this.#taker !== undefined;
  }

  get waitingBytes(): number {
    return this.#chunks.reduce((sum, { length }) => sum + length, 0);
  }

  take(taker: AnswerTaker): void {
    this.#taker = taker;
    if (this.#head !== undefined) {
      taker.onHead(this.#head);
    }
    for (const chunk of this.#chunks.splice(0)) {
      taker.onChunk(chunk);
    }
    this.#room.resolve();
  }

  lose(message: string): void {
    this.sent?.settle({ kind: 'Unknown', message });
    this.sent = undefined;
    this.#chunks = [];
  }
}
