import type { Places, WorkerEntry } from '../agents/fleet-view.ts';
import type { Caller } from '../lambda/caller.ts';
import type { LambdaError } from '../lambda/lambda-error.ts';
import { type ConcurrencySettings, type FunctionUse, runningPlaces } from './admission-policy.ts';
import type { Room } from './room.ts';

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

/** Where a call goes that waits. */
export interface Heading {
  /** The version that the call goes to as things are; undefined for $LATEST. */
  readonly version: () => number | undefined;
  /** Hears that the call waits for this version now. */
  readonly move: (version: number | undefined) => void;
}

/** A call that waits. */
export interface Waiter {
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

/** The calls of all versions of a function. */
export interface AllVersions {
  readonly target: QueuedFunction;
  readonly mayGrow: boolean;
  /** Calls that wait, without those that had a place before. */
  readonly waiting: number;
  readonly answerBytes: number;
  running: number;
  /** Calls that run at once at most, but for those with present workers of one version. */
  runningBeside(of: VersionQueue): number;
  /** Calls enter for which there is a place now. */
  advance(): void;
  /** As {@link VersionQueue.wait}. */
  wait(
    of: VersionQueue,
    caller: Caller,
    returns: boolean,
    since: number,
    heading?: Heading,
    room?: Waiter['room'],
  ): Promise<VersionQueue>;
}

/** The calls of one version in this gateway: those with its workers, and those that wait for them. */
export class VersionQueue implements FunctionUse {
  readonly #all: AllVersions;
  readonly version: number | undefined;
  /** Each in order of arrival. Calls that had a place before, and whose worker was away, go first. */
  readonly returning = new Set<Waiter>();
  readonly arrived = new Set<Waiter>();
  #taken = 0;

  constructor(all: AllVersions, version: number | undefined) {
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
