import type { Clock, Timer } from '../common/clock.ts';
import type { Arrival } from './contract.ts';

/** Milliseconds that an answer is kept for the next run of the agent where no word of its arrival comes. */
const KEEP_MS = 60_000;
/** Milliseconds until the init hears which answers have arrived, unless the next call goes there before. */
const GATHER_MS = 100;
/** Most calls that an init may know when it connects. */
export const MAX_KNOWN = 2_048;
/** Bounds of the answers that one init keeps, the bytes for each call that its worker takes at once. */
const MAX_ANSWERS = 1_024;
const MAX_BYTES = 512 * 1024;
/** Bytes that an init holds of a call beside its answer. */
const CALL_BYTES = 1_024;
/** Share of the bounds down to which the oldest are forgotten, so that not every call tells the init of another. */
const LEFT = 0.5;

interface KeptAnswer {
  readonly bytes: number;
  readonly until: number;
}

/**
 * Answers that were read in whole, and that their init has yet to forget: an agent that dies before they have arrived at
 * their gateways leaves them to its next run.
 */
export class KeptAnswers {
  readonly #clock: Clock;
  readonly #forget: (ids: readonly string[]) => void;
  /** The oldest first. */
  readonly #answers = new Map<string, KeptAnswer>();
  /** Ids of answers that have arrived. */
  readonly #arrived = new Set<string>();
  #bytes = 0;
  #timer: Timer | undefined;
  #gathering: Timer | undefined;

  /** @param forget tells the init */
  constructor(clock: Clock, forget: (ids: readonly string[]) => void) {
    this.#clock = clock;
    this.#forget = forget;
  }

  /**
   * @param arrival word of the gateway; undefined for none
   * @param places calls that the worker takes at once
   */
  keep(id: string, bytes: number, arrival: Arrival | undefined, places: number): void {
    this.release(id);
    const answer = { bytes: bytes + CALL_BYTES, until: this.#clock.monotonic() + KEEP_MS };
    this.#answers.set(id, answer);
    this.#bytes += answer.bytes;
    // Half of the room is for answers that have arrived, of which the init has yet to hear.
    this.#forgetOld(MAX_BYTES * places, Math.min(MAX_ANSWERS, (MAX_KNOWN - places) / 2));
    arrival?.onWhole(() => {
      if (this.#answers.get(id) === answer) {
        this.release(id);
        this.#arrived.add(id);
        this.#gathering ??= this.#clock.setTimer(() => this.#forgetArrived(), GATHER_MS);
      }
    });
  }

  /** Ids of answers that have arrived. The caller tells the init. */
  takeArrived(): readonly string[] {
    this.#gathering?.cancel();
    this.#gathering = undefined;
    const ids = [...this.#arrived];
    this.#arrived.clear();
    return ids;
  }

  /** Forgets one now, if it is kept. */
  drop(id: string): void {
    if (this.release(id)) {
      this.#forget([id]);
    }
  }

  /** Keeps one no more, without a word to the init. Says whether it was kept. */
  release(id: string): boolean {
    this.#bytes -= this.#answers.get(id)?.bytes ?? 0;
    return this.#answers.delete(id) || this.#arrived.delete(id);
  }

  /** The init is gone, or tells of them again. */
  clear(): void {
    this.#answers.clear();
    this.takeArrived();
    this.#bytes = 0;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #forgetArrived(): void {
    const ids = this.takeArrived();
    if (ids.length > 0) {
      this.#forget(ids);
    }
  }

  #forgetOld(maxBytes: number, most: number): void {
    const now = this.#clock.monotonic();
    const old: string[] = [];
    const share = this.#answers.size > most || this.#bytes > maxBytes ? LEFT : 1;
    for (const [id, { until }] of this.#answers) {
      if (until > now && this.#answers.size <= most * share && this.#bytes <= maxBytes * share) {
        this.#timer ??= this.#clock.setTimer(() => {
          this.#timer = undefined;
          this.#forgetOld(maxBytes, most);
        }, until - now);
        break;
      }
      this.release(id);
      old.push(id);
    }
    if (old.length > 0) {
      this.#forget(old);
    }
  }
}
