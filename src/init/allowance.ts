import type { Clock } from '../common/clock.ts';

/** Work that an init may cause at once, and in a second from then on. A piece of it is a small part of an answer. */
const BURST = 4_000;
const PER_SECOND = 2_000;
/** Bytes from which a part of an answer, or a read, is free: the window of its call bounds it. */
const FREE_BYTES = 1024;
/** Work that each call allows beyond. */
const FOR_CALL = 100;
const FOR_READ = 4;
const FOR_WORDS = 10;
/** Bytes of words that count as one piece of work. */
const WORD_BYTES = 256;
/** Milliseconds that a pause takes at least: each costs as much as some reads. */
const LEAST_PAUSE_MS = 20;

/**
 * Bounds the work that one init causes in the agent. A worker whose code takes the place of its init may say what it
 * likes: what goes beyond this is read later, so that the work is the kernel's and the worker's, and not the agent's.
 */
export class Allowance {
  readonly #clock: Clock;
  #left = BURST;
  #at: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#at = clock.monotonic();
  }

  /** Counts a read. Bytes that wait come together, so a later one costs less. */
  spendRead(bytes: number): void {
    this.#left -= bytes < FREE_BYTES ? FOR_READ : 0;
  }

  /** Counts a part of an answer. */
  spendPart(bytes: number): void {
    this.#left -= bytes < FREE_BYTES ? 1 : 0;
  }

  /** Counts words of an init, which lead to decisions. */
  spendWords(bytes: number): void {
    this.#left -= FOR_WORDS + bytes / WORD_BYTES;
  }

  allowCall(): void {
    this.#left += FOR_CALL;
  }

  /** Milliseconds until more may be read; 0 for at once. */
  waitMs(): number {
    const now = this.#clock.monotonic();
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) / 1_000) * PER_SECOND);
    this.#at = now;
    return this.#left > 0 ? 0 : Math.max(LEAST_PAUSE_MS, Math.ceil((-this.#left / PER_SECOND) * 1_000) + 1);
  }
}
