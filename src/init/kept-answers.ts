import type { Clock, Timer } from '../common/clock.ts';

/** Milliseconds in which the bytes of an answer reach the gateway, on a machine that is busy. */
const KEEP_MS = 2_000;
/** Bounds of the answers that one init keeps. */
const MAX_ANSWERS = 32;
const MAX_BYTES = 512 * 1024;
/** Share of the bounds down to which the oldest are forgotten, so that not every call tells the init of another. */
const LEFT = 0.5;

/**
 * Answers that were read in whole, and that their init has yet to forget: an agent that dies before they have left for
 * their callers leaves them to its next run.
 */
export class KeptAnswers {
  readonly #clock: Clock;
  readonly #forget: (ids: readonly string[]) => void;
  /** The oldest first. */
  readonly #answers = new Map<string, { readonly bytes: number; readonly until: number }>();
  #bytes = 0;
  #timer: Timer | undefined;

  /** @param forget tells the init */
  constructor(clock: Clock, forget: (ids: readonly string[]) => void) {
    this.#clock = clock;
    this.#forget = forget;
  }

  keep(id: string, bytes: number): void {
    this.#answers.set(id, { bytes, until: this.#clock.monotonic() + KEEP_MS });
    this.#bytes += bytes;
    this.#forgetOld();
  }

  /** Forgets one now, if it is kept. */
  drop(id: string): void {
    if (this.#remove(id)) {
      this.#forget([id]);
    }
  }

  /** The init is gone, or tells of them again. */
  clear(): void {
    this.#answers.clear();
    this.#bytes = 0;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #remove(id: string): boolean {
    this.#bytes -= this.#answers.get(id)?.bytes ?? 0;
    return this.#answers.delete(id);
  }

  #forgetOld(): void {
    const now = this.#clock.monotonic();
    const old: string[] = [];
    const share = this.#answers.size > MAX_ANSWERS || this.#bytes > MAX_BYTES ? LEFT : 1;
    for (const [id, { until }] of this.#answers) {
      if (until > now && this.#answers.size <= MAX_ANSWERS * share && this.#bytes <= MAX_BYTES * share) {
        this.#timer ??= this.#clock.setTimer(() => {
          this.#timer = undefined;
          this.#forgetOld();
        }, until - now);
        break;
      }
      this.#remove(id);
      old.push(id);
    }
    if (old.length > 0) {
      this.#forget(old);
    }
  }
}
