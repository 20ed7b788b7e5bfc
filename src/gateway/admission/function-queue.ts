import type { Clock } from '../../common/clock.ts';
import type { FleetView, Places } from '../agents/fleet-view.ts';
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
  /** A version without workers is not in it. */
  readonly placesByVersion: ReadonlyMap<number | undefined, Places>;
  readonly shares: number | undefined;
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
  /** Its number among those of all versions. */
  readonly arrival: number;
  readonly enter: () => void;
  readonly refuse: (error: LambdaError) => void;
}

interface Turn {
  readonly of: VersionQueue;
  readonly queue: Set<Waiter>;
  readonly waiter: Waiter;
}

/** The calls of one version in this gateway: those with its workers, and those that wait for them. */
export class VersionQueue implements FunctionUse {
  readonly #all: FunctionQueue;
  readonly #version: number | undefined;
  /** Each in order of arrival. Calls that had a place before, and whose worker was away, go first. */
  readonly returning = new Set<Waiter>();
  readonly arrived = new Set<Waiter>();
  running = 0;

  constructor(all: FunctionQueue, version: number | undefined) {
    this.#all = all;
    this.#version = version;
  }

  get settings(): ConcurrencySettings | undefined {
    return this.#all.target.settings.concurrency;
  }

  get workers(): number {
    return this.#all.target.workers.length;
  }

  /**
   * A call that enters for a worker that is still to come would wait at an agent meanwhile, and not go there. For workers
   * of a version that has none, the invoker waits.
   */
  get places(): number {
    const { places = Number.POSITIVE_INFINITY, readyPlaces = 0 } = this.#places ?? {};
    return (this.mayGrow && readyPlaces) || places;
  }

  /** For a share of a version that has none, the invoker waits as for its workers. */
  get shares(): number | undefined {
    return this.#places?.shares || this.#all.target.shares;
  }

  get sharers(): number {
    return this.#places?.sharers ?? 0;
  }

  get mayGrow(): boolean {
    return this.#all.mayGrow;
  }

  get foreignInFlight(): number {
    return this.#places?.foreignInFlight ?? 0;
  }

  get elsewhere(): number {
    return this.#all.running - this.running;
  }

  get ahead(): number {
    return this.arrived.size;
  }

  get waiting(): number {
    return this.#all.waiting;
  }

  get heldCalls(): number {
    return this.#all.heldCalls;
  }

  get heldBytes(): number {
    return this.#all.heldBytes;
  }

  get answerBytes(): number {
    return this.#all.answerBytes;
  }

  /** Whether one more call may run, be there others that wait or not. */
  get isOpen(): boolean {
    return this.running < runningPlaces(this);
  }

  /** Whether a call that returns may run at once. */
  get hasPlace(): boolean {
    return this.returning.size === 0 && this.isOpen;
  }

  /** A call takes a place. */
  take(): void {
    this.running += 1;
    this.#all.running += 1;
  }

  /** A call leaves its place: the next ones enter. */
  leave(): void {
    this.running -= 1;
    this.#all.running -= 1;
    this.#all.advance();
  }

  /**
   * Waits for a place, which is taken when this resolves.
   *
   * @param returns whether the call had a place before
   * @throws {LambdaError} when the caller hung up, the time is over or the function was switched off
   */
  wait(caller: Caller, returns: boolean): Promise<void> {
    return this.#all.wait(returns ? this.returning : this.arrived, caller);
  }

  get #places(): Places | undefined {
    return this.#all.target.placesByVersion.get(this.#version);
  }
}

/** The calls of one function in this gateway. No version takes the places of another. */
export class FunctionQueue {
  readonly target: QueuedFunction;
  readonly #options: FunctionQueueOptions;
  readonly #versions = new Map<number | undefined, VersionQueue>();
  #arrivals = 0;
  #watching = false;
  running = 0;
  heldCalls = 0;
  heldBytes = 0;
  answerBytes = UNKNOWN_ANSWER_BYTES;

  constructor(target: QueuedFunction, options: FunctionQueueOptions) {
    this.target = target;
    this.#options = options;
  }

  /** @param version undefined for $LATEST */
  of(version: number | undefined): VersionQueue {
    const known = this.#versions.get(version);
    if (known !== undefined) {
      return known;
    }
    const made = new VersionQueue(this, version);
    this.#versions.set(version, made);
    return made;
  }

  get mayGrow(): boolean {
    return this.#options.mayGrow?.(this.target.name) === true;
  }

  /** Without the calls that return: they have waited before. */
  get waiting(): number {
    return this.#versions.values().reduce((sum, { arrived }) => sum + arrived.size, 0);
  }

  answered(bytes: number): void {
    this.answerBytes = largestOfLate(this.answerBytes, bytes);
  }

  /** The wait of {@link VersionQueue.wait}, in one of its queues. */
  async wait(queue: Set<Waiter>, caller: Caller): Promise<void> {
    const turn = Promise.withResolvers<void>();
    this.#arrivals += 1;
    const waiter: Waiter = { arrival: this.#arrivals, enter: turn.resolve, refuse: turn.reject };
    const leave = (error: LambdaError): void => {
      if (queue.delete(waiter)) {
        turn.reject(error);
      }
    };
    queue.add(waiter);
    const { clock, maxWaitMs } = this.#options;
    const timer = clock.setTimer(() => leave(functionBusy(this.target.name)), maxWaitMs);
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

  /** Calls enter for which there is a place now. */
  advance(): void {
    if (!this.#isWaitedFor) {
      return;
    }
    const { name, settings } = this.target;
    // The invoker finds out that the function is gone, or finds the one that has its name now.
    const isGone = this.#options.view.function(name) !== this.target;
    if (!isGone && settings.concurrency?.reserved === 0) {
      this.#refuseAll(functionBusy(name));
      return;
    }
    for (let next = this.#next(isGone); next !== undefined; next = this.#next(isGone)) {
      const { of, queue, waiter } = next;
      queue.delete(waiter);
      // Its answer would have to be held as well.
      if (this.#options.room.freeBytes < 0) {
        waiter.refuse(overloaded());
      } else {
        of.take();
        waiter.enter();
      }
    }
  }

  /** The call whose turn it is: of the first of each version that has a place, the one that has waited longest. */
  #next(isGone: boolean): Turn | undefined {
    return [...this.#versions.values()]
      .flatMap((of) => {
        const queue = of.returning.size > 0 ? of.returning : of.arrived;
        const [waiter] = queue;
        return waiter === undefined || !(isGone || of.isOpen) ? [] : [{ of, queue, waiter }];
      })
      .toSorted((one, other) => one.waiter.arrival - other.waiter.arrival)[0];
  }

  #refuseAll(error: LambdaError): void {
    for (const { arrived, returning } of this.#versions.values()) {
      for (const queue of [returning, arrived]) {
        for (const waiter of queue) {
          waiter.refuse(error);
        }
        queue.clear();
      }
    }
  }

  /** Workers come and go, and settings change, without any call leaving. */
  #watch(): void {
    if (this.#watching || !this.#isWaitedFor) {
      return;
    }
    this.#watching = true;
    this.#options.view.onNextChange(this.target.name, () => {
      this.#watching = false;
      this.advance();
      this.#watch();
    });
  }

  get #isWaitedFor(): boolean {
    return this.#versions.values().some(({ arrived, returning }) => arrived.size + returning.size > 0);
  }
}
