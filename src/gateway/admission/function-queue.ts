import { perWorkerOf } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { FleetView } from '../agents/fleet-view.ts';
import type { Caller } from '../lambda/caller.ts';
import { type LambdaError, unavailable } from '../lambda/lambda-error.ts';
import { functionBusy, largestOfLate, overloaded, refusalFor, UNKNOWN_ANSWER_BYTES } from './admission-policy.ts';
import type { Load, Room } from './room.ts';
import { type AllVersions, type Heading, type QueuedFunction, VersionQueue, type Waiter } from './version-queue.ts';

export interface FunctionQueueOptions {
  /** Tells whether the function still exists, and when anything about it has changed. */
  readonly view: {
    function(name: string): QueuedFunction | undefined;
    readonly onNextChange: FleetView['onNextChange'];
  };
  /** Of calls that come by no other room. */
  readonly room: Pick<Room, 'freeBytes'>;
  /** Milliseconds that a call waits at most. */
  readonly maxWaitMs: number;
  readonly mayGrow?: ((functionName: string) => boolean) | undefined;
  /** Another value once aliases of the function may name other versions; they never do when absent. */
  readonly meaningOf?: ((functionName: string) => unknown) | undefined;
  readonly clock: Clock;
}

/** The room that a call is in, and the bytes of its payload. */
export interface Held {
  readonly room: Room;
  readonly bytes: number;
}

/** The calls of one function in this gateway. No version takes the places of another. */
export class FunctionQueue implements AllVersions {
  readonly target: QueuedFunction;
  readonly #options: FunctionQueueOptions;
  readonly #versions = new Map<number | undefined, VersionQueue>();
  readonly #held = new Map<Waiter['room'], Load>();
  #arrivals = 0;
  #watching = false;
  #meaning: unknown;
  running = 0;
  answerBytes = UNKNOWN_ANSWER_BYTES;

  constructor(target: QueuedFunction, options: FunctionQueueOptions) {
    this.target = target;
    this.#options = options;
  }

  /**
   * The queue of a version, until no call is in it: a function has ever new versions.
   *
   * @param version undefined for $LATEST
   */
  of(version: number | undefined): VersionQueue {
    const known = this.#versions.get(version);
    if (known !== undefined) {
      return known;
    }
    for (const other of this.#versions.values()) {
      if (other.isIdle) {
        this.#versions.delete(other.version);
      }
    }
    const made = new VersionQueue(this, version);
    this.#versions.set(version, made);
    return made;
  }

  runningBeside(of: VersionQueue): number {
    let running = 0;
    for (const { outstanding, resource } of this.target.leaving) {
      running += Math.min(outstanding, perWorkerOf(resource));
    }
    for (const other of this.#versions.values()) {
      running += other === of ? 0 : other.able;
    }
    return running;
  }

  get mayGrow(): boolean {
    return this.#options.mayGrow?.(this.target.name) === true;
  }

  /** Without the calls that return: they have waited before. */
  get waiting(): number {
    return this.#versions.values().reduce((sum, { arrived }) => sum + arrived.size, 0);
  }

  /** Calls of the function in a room: those that run or wait, with their payloads, and answers that are not read yet. */
  heldIn(room: Waiter['room']): Load {
    return this.#held.get(room) ?? { requests: 0, bytes: 0 };
  }

  /** Counts one more call in its room, or one fewer. */
  hold({ room, bytes }: Held, change: 1 | -1): void {
    const held = this.heldIn(room);
    const requests = held.requests + change;
    if (requests === 0) {
      this.#held.delete(room);
    } else {
      this.#held.set(room, { requests, bytes: held.bytes + change * bytes });
    }
  }

  answered(bytes: number): void {
    this.answerBytes = largestOfLate(this.answerBytes, bytes);
  }

  /** As {@link VersionQueue.wait}. */
  async wait(
    of: VersionQueue,
    caller: Caller,
    returns: boolean,
    since: number,
    heading?: Heading,
    room = this.#options.room,
  ): Promise<VersionQueue> {
    const turn = Promise.withResolvers<VersionQueue>();
    this.#arrivals += 1;
    const waiter: Waiter = {
      arrival: this.#arrivals,
      returns,
      heading,
      room,
      of,
      enter: turn.resolve,
      refuse: turn.reject,
    };
    const leave = (error: LambdaError): void => {
      if (waiter.of.queue(waiter).delete(waiter)) {
        turn.reject(error);
      }
    };
    of.queue(waiter).add(waiter);
    const { clock, maxWaitMs } = this.#options;
    const leftMs = Math.max(0, since + maxWaitMs - clock.monotonic());
    const timer = clock.setTimer(() => leave(functionBusy(this.target.name)), leftMs);
    caller.onGone = () => leave(unavailable('The caller hung up.'));
    if (caller.gone) {
      leave(unavailable('The caller hung up.'));
    }
    // The function may have gone, or been switched off, since this call had its place.
    this.advance();
    this.#watch();
    try {
      return await turn.promise;
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
      const { of } = next;
      of.queue(next).delete(next);
      // Its answer would have to be held as well.
      const { freeBytes } = next.room;
      if (freeBytes < 0) {
        next.refuse(overloaded());
      } else if (this.heldIn(next.room).bytes > freeBytes) {
        next.refuse(refusalFor('FunctionInvocationRateLimitExceeded', name));
      } else {
        of.take();
        next.enter(of);
      }
    }
  }

  /** The call whose turn it is: of the first of each version that has a place, the one that has waited longest. */
  #next(isGone: boolean): Waiter | undefined {
    return [...this.#versions.values()]
      .flatMap((of) => {
        const [waiter] = of.returning.size > 0 ? of.returning : of.arrived;
        return waiter === undefined || !(isGone || of.isOpen) ? [] : [waiter];
      })
      .toSorted(byArrival)[0];
  }

  /** Calls whose alias names another version now wait for that one, among its calls in the order of arrival. */
  #redirect(): void {
    const meaning = this.#options.meaningOf?.(this.target.name);
    if (meaning === this.#meaning) {
      return;
    }
    this.#meaning = meaning;
    const waiters = [...this.#versions.values()].flatMap(({ arrived, returning }) => [...returning, ...arrived]);
    for (const waiter of waiters.toSorted(byArrival)) {
      const { heading, of } = waiter;
      of.queue(waiter).delete(waiter);
      if (heading !== undefined) {
        waiter.of = this.of(heading.version());
        heading.move(waiter.of.version);
      }
      waiter.of.queue(waiter).add(waiter);
    }
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
      this.#redirect();
      this.advance();
      this.#watch();
    });
  }

  get #isWaitedFor(): boolean {
    for (const { arrived, returning } of this.#versions.values()) {
      if (arrived.size + returning.size > 0) {
        return true;
      }
    }
    return false;
  }
}

function byArrival(one: Waiter, other: Waiter): number {
  return one.arrival - other.arrival;
}
