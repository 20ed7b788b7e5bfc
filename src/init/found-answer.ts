import type { AnswerTaker, Arrival, InitHead } from './contract.ts';
import type { CallTold } from './messages.ts';
import { type AnswerPart, SentCall } from './sent-call.ts';

/** The answer of one call of an earlier run of the agent, on its way to somebody who asked for it. */
export class FoundAnswer implements AnswerTaker {
  readonly #taker: AnswerTaker;
  readonly #from: number;
  readonly #order: number;
  /** Whether the words of the init follow the order to tell of the call: others may have been on their way. */
  #hears = false;
  /** First byte that the init has kept; undefined before it is known. */
  #base: number | undefined;
  /** Bytes that came, from the first one on. */
  #end = 0;
  readonly sent = new SentCall(this);

  /**
   * @param from first byte that the taker has not
   * @param order number of the order to tell of the call
   */
  constructor(taker: AnswerTaker, from: number, order: number) {
    this.#taker = taker;
    this.#from = from;
    this.#order = order;
  }

  /** Whether somebody waits for the answer. */
  get isAwaited(): boolean {
    return this.#taker.signal?.aborted !== true;
  }

  arrival(): Arrival | undefined {
    return this.#taker.arrival?.();
  }

  onHead(head: InitHead): void {
    this.#taker.onHead(head);
  }

  onChunk(chunk: Buffer): void {
    const rest = chunk.subarray(Math.max(0, this.#from - this.#end));
    this.#end += chunk.length;
    if (rest.length > 0) {
      this.#taker.onChunk(rest);
    }
  }

  room(): Promise<unknown> | undefined {
    return this.#taker.room?.();
  }

  /**
   * Takes what the init tells of the call.
   *
   * @throws {InitBreach}
   */
  told({ again, end, head }: CallTold): 'Goes on' | 'Read' | 'Gone' {
    this.#hears ||= again === this.#order;
    if (!this.#hears) {
      return 'Goes on';
    }
    if (head !== undefined) {
      this.sent.takeHead(head);
    }
    if (end === undefined) {
      return 'Goes on';
    }
    if (!this.#begin(end.size)) {
      return 'Gone';
    }
    this.sent.checkEnd(end);
    this.sent.settle({ kind: 'Ended', end });
    return 'Read';
  }

  /**
   * Takes a part of the answer. `Old` where there was nothing new in it.
   *
   * @throws {InitBreach}
   */
  takeData(part: AnswerPart): 'New' | 'Old' | 'Gone' {
    if (!this.#hears) {
      return 'Old';
    }
    if (!this.#begin(part.offset)) {
      return 'Gone';
    }
    return this.sent.takeData(part) ? 'New' : 'Old';
  }

  /** Says whether the answer is there for its taker: an earlier run of the agent had what is before this byte. */
  #begin(offset: number): boolean {
    if (this.#base === undefined) {
      this.#base = offset;
      this.#end = offset;
      this.sent.beginAt(offset);
    }
    return this.#from >= this.#base;
  }
}
