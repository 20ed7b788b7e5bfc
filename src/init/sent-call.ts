import type { AnswerTaker, Arrival, InitAnswer, InitEnd, InitHead } from './contract.ts';
import { InitBreach } from './frames.ts';

/** Bytes of an answer that an init may send beyond what was acknowledged. */
const WINDOW_BYTES = 64 * 1024;
/** Window of a call whose receiver tells what has arrived, in bytes. */
export const ARRIVAL_WINDOW_BYTES = 256 * 1024;
/** Largest answer that is not streamed, and largest event, in bytes: 6 MiB and what Lambda adds for its envelope. */
export const MAX_BUFFERED_BYTES = 6 * 1024 * 1024 + 100;
const MAX_STREAMED_BYTES = 200 * 1024 * 1024;
/** Bytes of an answer that its caller has and the init need not hold, after which the init is told. */
const STEP_BYTES = 16 * 1024;

/** A part of an answer. */
export interface AnswerPart {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** One call that an init was sent, until its outcome is known. */
export class SentCall {
  readonly #taker: AnswerTaker;
  readonly #window: number;
  readonly #done = Promise.withResolvers<InitAnswer>();
  #head: InitHead | undefined;
  #received = 0;
  #acknowledged = 0;
  /** Bytes that there is room for, as far as was asked. */
  #granted = 0;
  #waits = false;
  #over = false;

  constructor(taker: AnswerTaker, window = WINDOW_BYTES) {
    this.#taker = taker;
    this.#window = window;
  }

  get answer(): Promise<InitAnswer> {
    return this.#done.promise;
  }

  /** The receiver's word of its arrival; undefined for none. */
  get arrival(): Arrival | undefined {
    return this.#taker.arrival?.();
  }

  /** Bytes of the answer that came. */
  get received(): number {
    return this.#received;
  }

  /** Whether the receiver of the answer keeps the call waiting. */
  get waits(): boolean {
    return this.#waits;
  }

  /** Bytes up to which the init was last told to throw the answer away. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Whether the init has all of the answer that is not known to have arrived. */
  get isKept(): boolean {
    return this.#taker.arrival !== undefined || this.#received < WINDOW_BYTES;
  }

  /** Begins with a later part of the answer: an earlier run of the agent had what is before. */
  beginAt(offset: number): void {
    if (this.#received === 0) {
      this.#received = offset;
      this.#acknowledged = offset;
      this.#granted = offset;
    }
  }

  takeHead(head: InitHead): void {
    if (this.#head === undefined) {
      this.#head = head;
      if (!this.#over) {
        this.#taker.onHead(head);
      }
    }
  }

  /**
   * Takes a part of the answer. Says whether there was anything new in it: an init that has connected again repeats
   * what was not acknowledged.
   *
   * @throws {InitBreach}
   */
  takeData({ bytes, offset }: AnswerPart): boolean {
    const end = offset + bytes.length;
    if (this.#head === undefined || offset > this.#received || bytes.length === 0) {
      throw new InitBreach('the init sent a part of an answer out of its order');
    }
    if (end > this.#acknowledged + this.#window) {
      throw new InitBreach('the init sent more of an answer than it was asked for');
    }
    if (end > (this.#head.streaming ? MAX_STREAMED_BYTES : MAX_BUFFERED_BYTES)) {
      throw new InitBreach('the init sent an answer that is too large');
    }
    if (end <= this.#received) {
      return false;
    }
    const fresh = bytes.subarray(this.#received - offset);
    this.#received = end;
    this.#taker.onChunk(fresh);
    return true;
  }

  /**
   * An offset that is to be acknowledged; undefined for none, or none yet: `again` is called once there is room, or
   * more has arrived. Without a word of what has arrived, the first bytes are not before the init has to wait: a short
   * answer is kept whole for the next run of the agent.
   */
  due(again: () => void): number | undefined {
    const received = this.#received;
    if (this.#over || this.#waits || received === this.#acknowledged) {
      return undefined;
    }
    // Most answers are shorter than a step.
    const arrival = received < STEP_BYTES ? undefined : this.#taker.arrival?.();
    const least = arrival === undefined ? (this.#acknowledged === 0 ? WINDOW_BYTES : 1) : STEP_BYTES;
    if (received - this.#acknowledged < least) {
      return undefined;
    }
    if (this.#granted < received) {
      const room = this.#taker.room?.();
      if (room !== undefined) {
        this.#wait(room, again, received);
        return undefined;
      }
      this.#granted = received;
    }
    const there = Math.min(received, arrival?.bytes ?? received);
    if (arrival !== undefined && there - this.#acknowledged < STEP_BYTES) {
      this.#wait(arrival.next(), again, this.#granted);
      return undefined;
    }
    this.#acknowledged = there;
    return there;
  }

  #wait(until: Promise<unknown>, again: () => void, granted: number): void {
    this.#waits = true;
    const go = (): void => {
      this.#waits = false;
      this.#granted = granted;
      again();
    };
    until.then(go, go);
  }

  /** @throws {InitBreach} where bytes of the answer are missing */
  checkEnd(end: InitEnd): void {
    if (end.size !== this.#received) {
      throw new InitBreach('the init ended an answer before its end');
    }
  }

  settle(answer: InitAnswer): void {
    this.#over = true;
    this.#done.resolve(answer);
  }
}
