import type { AnswerTaker, Arrival, InitHead } from './contract.ts';
import { SentCall } from './sent-call.ts';

/** How the agent hears of an answer. */
type Hearing =
  /** The words of the init are for the taker, or wait for one. */
  | { readonly kind: 'Listening' }
  /** There was no room for what waited. The init has it. */
  | { readonly kind: 'Deaf' }
  /** The init was asked to tell once more, and what it told before may be on its way. */
  | { readonly kind: 'Awaiting'; readonly order: number }
  /** The answer is thrown away. */
  | { readonly kind: 'Lost' };

/** The answer of one call of an earlier run of the agent, kept until a taker comes. */
export class FoundAnswer implements AnswerTaker {
  #hearing: Hearing = { kind: 'Listening' };
  #room = Promise.withResolvers<void>();
  #head: InitHead | undefined;
  #chunks: Buffer[] = [];
  waitingBytes = 0;
  #taken: { readonly taker: AnswerTaker; readonly from: number } | undefined;
  /** First byte that the init has kept; undefined before it is known. */
  #base: number | undefined;
  /** Bytes that came, from the first one on. */
  #end = 0;
  /** Whether the call has ended. */
  ended = false;
  /** Whether the end was told after the answer. */
  isWhole = false;
  #sent = new SentCall(this);

  /** Undefined while the answer is not read. */
  get sent(): SentCall | undefined {
    return this.#hearing.kind === 'Deaf' || this.#hearing.kind === 'Lost' ? undefined : this.#sent;
  }

  get taken(): boolean {
    return this.#taken !== undefined;
  }

  /** Whether somebody has taken the answer and waits for it. */
  get isAwaited(): boolean {
    return this.#taken !== undefined && this.#taken.taker.signal?.aborted !== true;
  }

  /** Whether the init has to tell of the answer once more for the next taker. */
  get needsTelling(): boolean {
    return this.#hearing.kind === 'Deaf' || (this.#hearing.kind !== 'Lost' && this.taken);
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

  /**
   * Says whether words of the init are for the taker.
   *
   * @param order that the words begin to follow
   */
  hears(order: number | undefined): boolean {
    if (this.#hearing.kind === 'Awaiting' && this.#hearing.order === order) {
      this.#hearing = { kind: 'Listening' };
    }
    return this.#hearing.kind === 'Listening';
  }

  /** Says whether the answer is there for its taker: an earlier run of the agent had what is before this byte. */
  begin(offset: number): boolean {
    if (this.#base === undefined) {
      this.#base = offset;
      this.#end = offset;
      this.#sent.beginAt(offset);
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

  /** Drops what waits. The init has it still. */
  drop(): void {
    this.#hearing = { kind: 'Deaf' };
    this.#clear();
  }

  /** Begins again with the words of the init that follow an order. */
  awaitTelling(order: number): void {
    this.#sent.settle({ kind: 'Unknown', message: 'the answer was asked for once more, and has gone there' });
    this.#hearing = { kind: 'Awaiting', order };
    this.#clear();
    this.#sent = new SentCall(this);
    this.#room = Promise.withResolvers<void>();
    this.#taken = undefined;
    this.#head = undefined;
    this.#base = undefined;
    this.#end = 0;
    this.isWhole = false;
  }

  /** Throws the answer away. Says whether it was there. */
  lose(message: string): boolean {
    const wasThere = this.#hearing.kind !== 'Lost';
    this.#hearing = { kind: 'Lost' };
    this.#sent.settle({ kind: 'Unknown', message });
    this.#clear();
    return wasThere;
  }

  #clear(): void {
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
