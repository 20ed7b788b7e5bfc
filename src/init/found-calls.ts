import type { AnswerTaker, Arrival, FoundCall, InitAnswer, InitHead } from './contract.ts';
import type { CallTold } from './messages.ts';
import { type AnswerPart, SentCall } from './sent-call.ts';

/** Bytes of answers that wait to be asked for, of one init. */
const MAX_WAITING_BYTES = 256 * 1024;

export interface FoundCallsListener {
  /** The init may throw the answer away. */
  onLost(id: string): void;
  /** The answer has ended, and was passed on in whole. */
  onRead(id: string, call: SentCall): void;
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
    if (this.#calls.size === 0) {
      // Asked for after each read of the connection.
      return [];
    }
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
    if (!call.begin(end.size)) {
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
    if (!call.begin(offset)) {
      this.#lose(id, call);
      return false;
    }
    const isNew = call.sent.takeData(part);
    if (isNew && this.#waitingBytes > MAX_WAITING_BYTES) {
      this.#lose(id, call);
    }
    return isNew;
  }

  /** Passes the answer of a call on from a byte on, once; undefined where it is not there from that one on. */
  recover(id: string, from: number, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    const call = this.#calls.get(id);
    if (call?.take(from, taker) !== true) {
      return undefined;
    }
    this.#noteRead(id, call);
    return call.sent?.answer;
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
      this.#listener.onRead(id, sent);
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
class FoundAnswer implements AnswerTaker {
  readonly #room = Promise.withResolvers<void>();
  #head: InitHead | undefined;
  #chunks: Buffer[] = [];
  waitingBytes = 0;
  #taken: { readonly taker: AnswerTaker; readonly from: number } | undefined;
  /** First byte that the init has kept; undefined before it is known. */
  #base: number | undefined;
  /** Bytes that came, from the first one on. */
  #end = 0;
  ended = false;
  /** Undefined once the answer is thrown away. */
  sent: SentCall | undefined = new SentCall(this);

  get taken(): boolean {
    return this.#taken !== undefined;
  }

  arrival(): Arrival | undefined {
    return this.#taken?.taker.arrival?.();
  }

  onHead(head: InitHead): void {
    this.#head = head;
    this.#taken?.taker.onHead(head);
  }

  onChunk(chunk: Buffer): void {
    if (this.#taken === undefined) {
      // The chunk is a part of what was read at once.
      this.#chunks.push(Buffer.from(chunk));
      this.waitingBytes += chunk.length;
    } else {
      this.#pass(chunk);
    }
  }

  room(): Promise<unknown> | undefined {
    return this.#taken === undefined ? this.#room.promise : this.#taken.taker.room?.();
  }

  /** Says whether the answer is there for its taker: an earlier run of the agent had what is before this byte. */
  begin(offset: number): boolean {
    if (this.#base === undefined) {
      this.#base = offset;
      this.#end = offset;
      this.sent?.beginAt(offset);
    }
    return this.#taken === undefined || this.#taken.from >= this.#base;
  }

  /** Says whether the answer is there from that byte on. */
  take(from: number, taker: AnswerTaker): boolean {
    if (this.sent === undefined || this.taken || from < (this.#base ?? 0)) {
      return false;
    }
    this.#taken = { taker, from };
    if (this.#head !== undefined) {
      taker.onHead(this.#head);
    }
    for (const chunk of this.#chunks.splice(0)) {
      this.#pass(chunk);
    }
    this.waitingBytes = 0;
    this.#room.resolve();
    return true;
  }

  lose(message: string): void {
    this.sent?.settle({ kind: 'Unknown', message });
    this.sent = undefined;
    this.#chunks = [];
    this.waitingBytes = 0;
  }

  #pass(chunk: Buffer): void {
    const { from = 0, taker } = this.#taken ?? {};
    const rest = chunk.subarray(Math.max(0, from - this.#end));
    this.#end += chunk.length;
    if (rest.length > 0) {
      taker?.onChunk(rest);
    }
  }
}
