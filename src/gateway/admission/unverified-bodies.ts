import type { Clock } from '../../common/clock.ts';
import type { Caller } from '../lambda/caller.ts';
import { overloaded } from './admission-policy.ts';

/** Bytes of bodies that arrive at once in the name of one access key: one of 6 MB, and some small ones beside it. */
const BYTES_PER_KEY = 8 * 2 ** 20;
/** The least that a body counts for, so that one key has 256 of them. */
const LEAST_BYTES = 32 * 2 ** 10;
/** Milliseconds that a body waits for its place. */
const MAX_WAIT_MS = 10_000;

interface Waiter {
  readonly bytes: number;
  readonly start: () => void;
}

interface KeyShare {
  bytes: number;
  readonly waiting: Waiter[];
}

/**
 * Bodies that have to be read before their sender is proved. Any client may name a key, so bodies of one key share few
 * bytes, and wait for each other only.
 */
export class UnverifiedBodies {
  readonly #clock: Clock;
  readonly #shares = new Map<string, KeyShare>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Room for a body among those of its key; in order, and at once where none waits.
   *
   * @param bytes as announced
   * @returns gives the room back: to be called once
   * @throws {LambdaError} TooManyRequestsException when the wait is too long
   */
  enter(key: string, bytes: number, caller: Caller): (() => void) | Promise<() => void> {
    const counted = Math.min(BYTES_PER_KEY, Math.max(LEAST_BYTES, bytes));
    const share = this.#shares.get(key) ?? { bytes: 0, waiting: [] };
    this.#shares.set(key, share);
    const leave = (): void => {
      share.bytes -= counted;
      this.#advance(key, share);
    };
    if (share.waiting.length === 0 && share.bytes + counted <= BYTES_PER_KEY) {
      share.bytes += counted;
      return leave;
    }
    return this.#wait(key, share, counted, caller).then(() => leave);
  }

  async #wait(key: string, share: KeyShare, bytes: number, caller: Caller): Promise<void> {
    const turn = Promise.withResolvers<void>();
    const waiter: Waiter = { bytes, start: turn.resolve };
    share.waiting.push(waiter);
    const giveUp = (): void => {
      const at = share.waiting.indexOf(waiter);
      if (at >= 0) {
        share.waiting.splice(at, 1);
        turn.reject(overloaded());
        this.#advance(key, share);
      }
    };
    const timer = this.#clock.setTimer(giveUp, MAX_WAIT_MS);
    caller.onGone = giveUp;
    try {
      await turn.promise;
    } finally {
      timer.cancel();
      caller.onGone = undefined;
    }
  }

  #advance(key: string, share: KeyShare): void {
    for (;;) {
      const [next] = share.waiting;
      if (next === undefined || share.bytes + next.bytes > BYTES_PER_KEY) {
        break;
      }
      share.waiting.shift();
      share.bytes += next.bytes;
      next.start();
    }
    if (share.bytes === 0 && share.waiting.length === 0) {
      this.#shares.delete(key);
    }
  }
}
