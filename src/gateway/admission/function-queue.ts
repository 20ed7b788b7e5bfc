import type { Clock } from '../../common/clock.ts';
import type { FleetView } from '../agents/fleet-view.ts';
import type { Caller } from '../lambda/caller.ts';
import { type LambdaError, unavailable } from '../lambda/lambda-error.ts';
import {
  type ConcurrencySettings,
  type FunctionUse,
  functionBusy,
  largestOfLate,
  overloaded,
  runningPlaces,
  UNKNOWN_ANSWER_BYTES,
} from './admission-policy.ts';
import type { Room } from './room.ts';

/** The function of a queue, as it is now. */
export interface QueuedFunction {
  readonly name: string;
  readonly workers: readonly unknown[];
  /** Calls that they take at once. */
  readonly places: number;
  /** The same of those that a call reaches now. */
  readonly readyPlaces: number;
  readonly shares: number | undefined;
  readonly sharers: number;
  readonly foreignInFlight: number;
  readonly settings: { readonly concurrency?: ConcurrencySettings | undefined };
}

export interface FunctionQueueOptions {
  /** Tells whether the function still exists, and when anything about it has changed. */
  readonly view: {
    function(name: string): QueuedFunction | undefined;
    readonly onNextChange: FleetView['onNextChange'];
  };
  readonly room: Pick<Room, 'freeBytes'>;
  /** Milliseconds that a call waits at most. */
  readonly maxWaitMs: number;
  readonly mayGrow?: ((functionName: string) => boolean) | undefined;
  readonly clock: Clock;
}

interface Waiter {
  readonly enter: () => void;
  readonly refuse: (error: LambdaError) => void;
}

/** The calls of one function in this gateway: those with its workers, and those that wait. */
export class FunctionQueue implements FunctionUse {
  readonly #target: QueuedFunction;
  readonly #options: FunctionQueueOptions;
  /** Each in order of arrival. Calls that had a place before, and whose worker was away, go first. */
  readonly #returning = new Set<Waiter>();
  readonly #arrived = new Set<Waiter>();
  #watching = false;
  running = 0;
  heldCalls = 0;
  heldBytes = 0;
  answerBytes = UNKNOWN_ANSWER_BYTES;

  constructor(target: QueuedFunction, options: FunctionQueueOptions) {
    this.#target = target;
    this.#options = options;
  }

  get settings(): ConcurrencySettings | undefined {
    return this.#target.settings.concurrency;
  }

  get workers(): number {
    return this.#target.workers.length;
  }

  /** A call that enters for a worker that is still to come would wait at an agent meanwhile, and not go there. */
  get places(): number {
    return (this.mayGrow && this.#target.readyPlaces) || this.#target.places;
  }

  get shares(): number | undefined {
    return this.#target.shares;
  }

  get sharers(): number {
    return this.#target.sharers;
  }

  get mayGrow(): boolean {
    return this.#options.mayGrow?.(this.#target.name) === true;
  }

  get foreignInFlight(): number {
    return this.#target.foreignInFlight;
  }

  /** Without the calls that return: they have waited before. */
  get waiting(): number {
    return this.#arrived.size;
  }

  /** Whether a call that returns may run at once. */
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
    const { clock, maxWaitMs } = this.#options;
    const timer = clock.setTimer(() => leave(functionBusy(this.#target.name)), maxWaitMs);
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
    const { name } = this.#target;
    if (this.#options.view.function(name) !== this.#target) {
      // The invoker finds out that the function is gone, or finds the one that has its name now.
      this.#letInUpTo(Number.POSITIVE_INFINITY);
    } else if (this.settings?.reserved === 0) {
      for (const queue of [this.#returning, this.#arrived]) {
        for (const waiter of queue) {
          waiter.refuse(functionBusy(name));
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
        if (this.#options.room.freeBytes < 0) {
          waiter.refuse(overloaded());
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
    this.#options.view.onNextChange(this.#target.name, () => {
      this.#watching = false;
      this.advance();
      this.#watch();
    });
  }
}
