import { perWorkerOf } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import {
  type ConcurrencySettings,
  type FunctionUse,
  largestOfLate,
  runningPlaces,
  UNKNOWN_ANSWER_BYTES,
} from '../admission/admission-policy.ts';
import type { Load } from '../admission/room.ts';
import type { FunctionEntry, Places } from '../agents/fleet-view.ts';
import type { RoutableWorker } from '../agents/routing.ts';
import { byArrival, type WaitingVersion } from './match.ts';
import type { Held, QueuedCall } from './queued-call.ts';

/** The calls of one version in this gateway: those with its workers, and those that wait for them. */
export class VersionPlaces implements FunctionUse, WaitingVersion {
  readonly #all: FunctionPlaces;
  readonly version: number | undefined;
  readonly seeking = new Set<QueuedCall>();
  readonly queued = new Set<QueuedCall>();
  #taken = 0;
  /** Whether no call of {@link VersionPlaces.seeking} has a stopped clock. */
  #isMeasured = false;

  constructor(all: FunctionPlaces, version: number | undefined) {
    this.#all = all;
    this.version = version;
  }

  get settings(): ConcurrencySettings | undefined {
    return this.#all.target.settings.concurrency;
  }

  get workers(): number {
    return this.#all.target.workers.length;
  }

  get candidates(): readonly RoutableWorker[] {
    return this.#all.target.byVersion.get(this.version) ?? [];
  }

  /**
   * Places of the version's workers; only ready ones while the function may get more workers: a call that entered for a
   * worker that is not ready would wait at an agent. No bound for a version without workers: its calls wait for them.
   */
  get places(): number {
    // Ready places are counted over all workers, each time.
    return (this.mayGrow && this.#places?.readyPlaces) || (this.#places?.places ?? Number.POSITIVE_INFINITY);
  }

  /** Shares of the version, or those of the function where the version has none. */
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

  /** Largest number of {@link VersionPlaces.running} that run at once. */
  get able(): number {
    return Math.min(
      this.running,
      this.#places?.places ?? Number.POSITIVE_INFINITY,
      this.shares ?? Number.POSITIVE_INFINITY,
    );
  }

  get ahead(): number {
    return this.queued.size;
  }

  get waiting(): number {
    return this.#all.waiting;
  }

  get answerBytes(): number {
    return this.#all.answerBytes;
  }

  get isOpen(): boolean {
    return this.running < runningPlaces(this);
  }

  /** Whether no call has a place, or waits for one. */
  get isIdle(): boolean {
    return this.#taken + this.queued.size + this.seeking.size === 0;
  }

  /** Puts the calls that have had no place in the order of arrival. */
  sort(): void {
    // Calls may have come from a version without a free place.
    this.#isMeasured = false;
    const calls = [...this.queued].toSorted(byArrival);
    this.queued.clear();
    for (const call of calls) {
      this.queued.add(call);
    }
  }

  take(): void {
    this.#taken += 1;
  }

  leave(): void {
    this.#taken -= 1;
  }

  /**
   * Stops the clock of calls that wait for a worker while the version has no place free: those calls wait for a place
   * meanwhile. To be called before and after each change of what {@link VersionPlaces.isOpen} goes by.
   */
  measure(clock: Pick<Clock, 'monotonic'>): void {
    if (this.seeking.size === 0) {
      return;
    }
    const { isOpen } = this;
    if (isOpen && this.#isMeasured) {
      return;
    }
    this.#isMeasured = isOpen;
    const now = clock.monotonic();
    const closedSince = isOpen ? undefined : now;
    for (const call of this.seeking) {
      if (call.closedSince !== undefined && call.workerUntil !== undefined) {
        call.workerUntil += now - call.closedSince;
      }
      call.closedSince = closedSince;
      call.lackedPlace ||= !isOpen;
    }
  }

  get #places(): Places | undefined {
    return this.#all.target.placesByVersion.get(this.version);
  }
}

/** The places of one function in this gateway, and the calls that have them. No version takes the places of another. */
export class FunctionPlaces {
  readonly target: FunctionEntry;
  readonly #growing: ((functionName: string) => boolean) | undefined;
  readonly #versions = new Map<number | undefined, VersionPlaces>();
  readonly #held = new Map<Held['room'], Load>();
  answerBytes = UNKNOWN_ANSWER_BYTES;
  /** Called when a place or a worker is free. Set while a call waits. */
  onFree: (() => void) | undefined;
  /** Called when a call is on its way to a worker. Set while a call waits at an agent. */
  onSent: (() => void) | undefined;

  /** @param mayGrow whether a function gets more workers where calls wait for one; none does when absent */
  constructor(target: FunctionEntry, mayGrow?: (functionName: string) => boolean) {
    this.target = target;
    this.#growing = mayGrow;
  }

  /**
   * The places of a version, until no call has or wants one: a function has ever new versions.
   *
   * @param version undefined for $LATEST
   */
  of(version: number | undefined): VersionPlaces {
    const known = this.#versions.get(version);
    if (known !== undefined) {
      return known;
    }
    for (const other of this.#versions.values()) {
      if (other.isIdle) {
        this.#versions.delete(other.version);
      }
    }
    const made = new VersionPlaces(this, version);
    this.#versions.set(version, made);
    return made;
  }

  /** The versions of which calls have or want places. */
  get versions(): Iterable<VersionPlaces> {
    return this.#versions.values();
  }

  get mayGrow(): boolean {
    return this.#growing?.(this.target.name) === true;
  }

  /** Calls of all versions that have not had a place yet. */
  get waiting(): number {
    return this.#versions.values().reduce((sum, { queued }) => sum + queued.size, 0);
  }

  /** Calls that run at once at most, but for those with present workers of one version. */
  runningBeside(of: VersionPlaces): number {
    let running = 0;
    for (const { outstanding, resource } of this.target.leaving) {
      running += Math.min(outstanding, perWorkerOf(resource));
    }
    for (const other of this.#versions.values()) {
      running += other === of ? 0 : other.able;
    }
    return running;
  }

  /** Calls of the function in a room: those that run or wait, with their payloads, and answers that are not read yet. */
  heldIn(room: Held['room']): Load {
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

  /** A call takes a place. */
  take(call: QueuedCall): void {
    this.of(call.version).take();
    call.state = { kind: 'Placed' };
  }

  /** A call leaves its place, if it has one. */
  leave(call: QueuedCall): void {
    if (call.state.kind === 'Placed') {
      call.state = { kind: 'Away' };
      this.of(call.version).leave();
      this.onFree?.();
    }
  }

  /** A call goes to another version, or to the function that has its name by now. Its place is free for others. */
  handOver(call: QueuedCall, next: FunctionPlaces, version: number | undefined): void {
    this.leave(call);
    this.hold(call.held, -1);
    next.hold(call.held, 1);
    call.counted?.move(version);
    call.target = next.target;
    call.version = version;
    call.refusals = undefined;
    call.left = undefined;
  }
}
