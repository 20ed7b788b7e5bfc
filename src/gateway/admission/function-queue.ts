import { perWorkerOf } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { FleetView, Places, WorkerEntry } from '../agents/fleet-view.ts';
import type { Caller } from '../lambda/caller.ts';
import { type LambdaError, unavailable } from '../lambda/lambda-error.ts';
import {
  type ConcurrencySettings,
  type FunctionUse,
  functionBusy,
  largestOfLate,
  overloaded,
  refusalFor,
  runningPlaces,
  UNKNOWN_ANSWER_BYTES,
} from './admission-policy.ts';
import type { Load, Room } from './room.ts';

/** The function of a queue, as it is now. */
export interface QueuedFunction {
  readonly name: string;
  readonly workers: readonly unknown[];
  /** Workers that are gone, and their calls that have not ended. */
  readonly leaving: Iterable<Pick<WorkerEntry, 'outstanding' | 'resource'>>;
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

/** Where a call goes that waits. */
export interface Heading {
  /** The version that the call goes to as things are; undefined for $LATEST. */
  readonly version: () => number | undefined;
  /** Hears that the call waits for this version now. */
  readonly move: (version: number | undefined) => void;
}

interface Waiter {
  /** Its number among those of all versions. */
  readonly arrival: number;
  /** Whether the call had a place before. */
  readonly returns: boolean;
  /** Undefined for a call that stays with its version. */
  readonly heading: Heading | undefined;
  /** The room that the call is in. */
  readonly room: Pick<Room, 'freeBytes'>;
  /** The version that the call waits for. */
  of: VersionQueue;
  readonly enter: (of: VersionQueue) => void;
  readonly refuse: (error: LambdaError) => void;
}

/** The calls of one version in this gateway: those with its workers, and those that wait for them. */
export class VersionQueue implements FunctionUse {
  readonly #all: FunctionQueue;
  readonly version: number | undefined;
  /** Each in order of arrival. Calls that had a place before, and whose worker was away, go first. */
  readonly returning = new Set<Waiter>();
  readonly arrived = new Set<Waiter>();
  #taken = 0;

  constructor(all: FunctionQueue, version: number | undefined) {
    this.#all = all;
    this.version = version;
  }

  get settings(): ConcurrencySettings | undefined {
    return this.#all.target.settings.concurrency;
  }

  get workers(): number {
    return this.#all.target.workers.length;
  }

  /**
   * Places of the version's workers; only ready ones while the function may get more workers: a call that entered for a
   * worker that is not ready would wait at an agent. No bound for a version without workers: the invoker waits for them.
   */
  get places(): number {
    // Ready places are counted over all workers, each time.
    return (this.mayGrow && this.#places?.readyPlaces) || (this.#places?.places ?? Number.POSITIVE_INFINITY);
  }

  /** Shares of the version, or those of the function where it has none: the invoker then waits for its workers. */
  get shares(): number | undefined {
    return this.#places?.shares || this.#all.target.shares;
  }

  get sharers(): number {
    return this.#places?.sharers ?? 0;
  }

  get mayGrow(): boolean {
    return this.#all.mayGrow;
  }

  get foreignPlaces(): number {
    return this.#places?.foreignPlaces ?? 0;
  }

  get isShared(): boolean {
    return this.#places?.isShared ?? false;
  }

  /** Calls with a place, without those that end at removed workers. */
  get running(): number {
    let left = this.#taken;
    for (const { outstanding, resource } of this.#all.target.leaving) {
      left -= resource.spec.version === this.version ? outstanding : 0;
    }
    return left;
  }

  /**
   * Calls outside of this version that count against the reserved concurrency: those at removed workers, and those that
   * workers of other versions run. Calls that were sent ahead wait at the agents.
   */
  get elsewhere(): number {
    return this.#all.runningBeside(this);
  }

  /** Largest number of {@link VersionQueue.running} that run at once. */
  get able(): number {
    return Math.min(
      this.running,
      this.#places?.places ?? Number.POSITIVE_INFINITY,
      this.shares ?? Number.POSITIVE_INFINITY,
    );
  }

  get ahead(): number {
    return this.arrived.size;
  }

  get waiting(): number {
    return this.#all.waiting;
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
    this.#taken += 1;
    this.#all.running += 1;
  }

  /** A call leaves its place: the next ones enter. */
  leave(): void {
    this.#taken -= 1;
    this.#all.running -= 1;
    this.#all.advance();
  }

  /** Whether no call has a place, or waits for one. */
  get isIdle(): boolean {
    return this.#taken + this.arrived.size + this.returning.size === 0;
  }

  /** The queue of calls that had a place before, or of those that had none. */
  queue({ returns }: Pick<Waiter, 'returns'>): Set<Waiter> {
    return returns ? this.returning : this.arrived;
  }

  /**
   * Waits for a place. Resolves with the version of which one is taken then: another one where the alias of the call names
   * that meanwhile.
   *
   * @param returns whether the call had a place before
   * @param since monotonic milliseconds at which the call came: its wait ends that much earlier
   * @param heading undefined for a call that stays with this version
   * @param room that the call is in
   * @throws {LambdaError} when the caller hung up, the time is over or the function was switched off
   */
  wait(
    caller: Caller,
    returns: boolean,
    since: number,
    heading?: Heading,
    room?: Waiter['room'],
  ): Promise<VersionQueue> {
    return this.#all.wait(this, caller, returns, since, heading, room);
  }

  get #places(): Places | undefined {
    return this.#all.target.placesByVersion.get(this.version);
  }
}

/** The calls of one function in this gateway. No version takes the places of another. */
export class FunctionQueue {
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

  /** Calls that run at once at most, but for those with present workers of one version. */
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
