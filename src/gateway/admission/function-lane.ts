import type { Clock, Timer } from '../../common/clock.ts';
import type { Caller } from '../lambda/caller.ts';
import { type LambdaError, unavailable } from '../lambda/lambda-error.ts';
import {
  type ConcurrencySettings,
  type FunctionUse,
  largestOfLate,
  runningPlaces,
  UNKNOWN_ANSWER_BYTES,
} from './admission-policy.ts';

/** The function of a lane, as it is now. */
export interface LaneFunction {
  readonly name: string;
  readonly workers: readonly unknown[];
  readonly settings: { readonly concurrency: ConcurrencySettings | undefined };
}

export interface LaneOptions {
  readonly clock: Clock;
  /** Milliseconds that a call waits at most. */
  readonly maxWaitMs: number;
  /** Whether this still is the function of its name. */
  readonly isKnown: (target: LaneFunction) => boolean;
  /** Calls `listener` once, at the next change of a function. */
  readonly onNextChange: (functionName: string, listener: () => void) => void;
  /** Why no call may be let in now, whichever function it is of; undefined when that is not so. */
  readonly overload: () => LambdaError | undefined;
  /** What calls are told that the function does not run, or not in time. */
  readonly refusal: (functionName: string) => LambdaError;
}

interface Waiter {
  readonly enter: () => void;
  readonly refuse: (error: LambdaError) => void;
}

/** The calls of one function in this gateway: those that are with its workers, and the queue of those that are to be. */
export class FunctionLane implements FunctionUse {
  readonly #target: LaneFunction;
  readonly #options: LaneOptions;
  /** Each in order of arrival. Calls that ran before and whose worker was away go first. */
  readonly #returning = new Set<Waiter>();
  readonly #arrived = new Set<Waiter>();
  #watching = false;
  running = 0;
  heldCalls = 0;
  heldBytes = 0;
  answerBytes = UNKNOWN_ANSWER_BYTES;

  constructor(target: LaneFunction, options: LaneOptions) {
    this.#target = target;
    this.#options = options;
  }

  get settings(): ConcurrencySettings | undefined {
    return this.#target.settings.concurrency;
  }

  get workers(): number {
    return this.#target.workers.length;
  }

  /** Those that come back are not counted: they had their turn in the queue. */
  get waiting(): number {
    return this.#arrived.size;
  }

  /** Whether a call that comes back may run at once. */
  get hasPlace(): boolean {
    return this.#returning.size === 0 && this.running < runningPlaces(this);
  }

  answered(bytes: number): void {
    this.answerBytes = largestOfLate(this.answerBytes, bytes);
  }

  /**
   * Waits for a place, which is taken when this resolves.
   *
   * @param returns whether the call had a place before
   * @throws {LambdaError} when the caller hung up, the time is over or the function was switched off
   */
  async wait(caller: Caller, returns: boolean): Promise<void> {
    const queue = returns ? this.#returning : this.#arrived;
    const turn = Promise.withResolvers<void>();
    const waiter: Waiter = { enter: turn.resolve, refuse: turn.reject };
    const leave = (error: LambdaError): void => {
      if (queue.delete(waiter)) {
        turn.reject(error);
      }
    };
    queue.add(waiter);
    const { clock, maxWaitMs, refusal } = this.#options;
    const timer: Timer = clock.setTimer(() => leave(refusal(this.#target.name)), maxWaitMs);
    caller.onGone = () => leave(unavailable('The caller hung up.'));
    if (caller.gone) {
      leave(unavailable('The caller hung up.'));
    }
    // The function may have gone, or been switched off, since this call had its place.
    this.advance();
    this.#watch();
    try {
      await turn.promise;
    } finally {
      timer.cancel();
      caller.onGone = undefined;
    }
  }

  /** A call has left its place: the next ones enter. */
  advance(): void {
    if (this.#returning.size > 0 || this.#arrived.size > 0) {
      this.#letIn();
    }
  }

  #letIn(): void {
    if (!this.#options.isKnown(this.#target)) {
      // Whoever runs them finds that out, or the function of the same name that has come since.
      this.#letInUpTo(Number.POSITIVE_INFINITY);
    } else if (this.settings?.reserved === 0) {
      for (const queue of [this.#returning, this.#arrived]) {
        for (const waiter of queue) {
          waiter.refuse(this.#options.refusal(this.#target.name));
        }
        queue.clear();
      }
    } else {
      this.#letInUpTo(runningPlaces(this));
    }
  }

  #letInUpTo(places: number): void {
    for (const queue of [this.#returning, this.#arrived]) {
      for (const waiter of queue) {
        if (this.running >= places) {
          return;
        }
        queue.delete(waiter);
        // Its answer would have to be held as well.
        const overload = this.#options.overload();
        if (overload !== undefined) {
          waiter.refuse(overload);
          continue;
        }
        this.running += 1;
        waiter.enter();
      }
    }
  }

  /** Workers come and go, and settings change, without any call leaving. */
  #watch(): void {
    if (this.#watching || (this.#returning.size === 0 && this.#arrived.size === 0)) {
      return;
    }
    this.#watching = true;
    this.#options.onNextChange(this.#target.name, () => {
      this.#watching = false;
      this.advance();
      this.#watch();
    });
  }
}
