import { isIP } from 'node:net';
import { Backoff } from '../../common/backoff.ts';
import type { Timer } from '../../common/clock.ts';
import { AbortedError } from '../../common/deadline.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { removeNeighbours } from '../host/bridge.ts';
import { insideAddresses } from '../host/netns.ts';
import { cniTarget, INTERFACE, type NetworkSetup, type NodeSegment } from '../host/network-setup.ts';
import { addressesOf } from '../spec/cni-result.ts';
import { networkFailure } from '../spec/network-error.ts';
import type { ReadyRecord } from './attachment-store.ts';
import { exhaustionOf, releaseUnclaimed, roomiest } from './segments.ts';
import type { TeardownQueue, TeardownQueueOptions } from './teardown-queue.ts';

interface SlotPoolOptions extends Omit<TeardownQueueOptions, 'table'> {
  readonly disposal: TeardownQueue;
  readonly runner: CommandRunner;
  /** How many are kept ready. */
  readonly wanted: number;
  /** Milliseconds that making one may take. */
  readonly makeDeadlineMs: number;
  /** Addresses to which a slot with addresses of these families has no way. */
  readonly closedFor: (families: readonly number[]) => Promise<readonly string[]>;
  /** Name for a new namespace. */
  readonly newId: () => string;
}

/** Slots are filled again this long after one was taken: the work is not in the way of that start. */
const REFILL_DELAY_MS = 250;
/** Waits after a slot could not be made. */
const BACKOFF = { firstMs: 1000, maxMs: 30_000 } as const;
/** How many namespaces are made at once: each runs several programs. */
const MAKING_AT_ONCE = 4;
/** Text of the kernel's error (`EXFULL`) for a bridge without a free port; some of its ports may be orphans. */
const PORTS_TAKEN = /exchange full/i;
/** How often making one is tried while there is no address or port for it. */
const MOST_ATTEMPTS = 3;

/** Namespaces with their addresses, some of them made ahead of demand. */
export class SlotPool {
  readonly #options: SlotPoolOptions;
  /** Ids of what a container can be given, oldest first. */
  readonly #ready: string[] = [];
  readonly #waiters: PromiseWithResolvers<ReadyRecord>[] = [];
  #open = false;
  #stopped = false;
  #making = 0;
  #refillDue = false;
  #timer: Timer | undefined;
  /** Monotonic milliseconds before which none is made ahead of demand, since one could not be made; 0 for at any time. */
  #retryAt = 0;
  readonly #backoff = new Backoff(BACKOFF);
  #error: EsbError | undefined;

  constructor(options: SlotPoolOptions) {
    this.#options = options;
  }

  /** Why the last attempt to make one failed, until one succeeds, or all is undone and none is missing. */
  get error(): EsbError | undefined {
    const isOver = this.#ready.length >= this.#options.wanted && this.#options.book.discarded().length === 0;
    return isOver ? undefined : this.#error;
  }

  get size(): number {
    return this.#ready.length;
  }

  /**
   * Takes over the records of an earlier run: slots that still work go into the pool. Records of a reboot or a crash are
   * marked for removal, which follows one by one: after a reboot there may be a thousand.
   */
  async takeOver(setup: NetworkSetup): Promise<void> {
    const { book, namespaces } = this.#options;
    await Promise.all(
      book.records().map(async (record) => {
        if (book.isDiscarded(record.id) || this.#ready.includes(record.id) || record.state === 'Making') {
          return;
        }
        if (!(await namespaces.isPinned(namespaces.path(record.id)))) {
          book.discard(record.id);
        } else if (record.state === 'Ready') {
          await this.#takeOverSlot(setup, record);
        }
      }),
    );
  }

  /** Begins to fill the pool, once all that the making of a slot needs has been checked. Does nothing after a stop. */
  open(): void {
    this.#open = true;
    this.#retryAt = 0;
    this.#cancelTimer();
    this.#schedule(0);
  }

  /** Makes no more slots, and rejects the waiting callers. Ready slots stay. */
  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
    for (const waiter of this.#waiters.splice(0)) {
      waiter.reject(new AbortedError('attaching'));
    }
  }

  /** A slot for a container: a prepared one, else the next to be made. */
  async take(signal: AbortSignal): Promise<ReadyRecord> {
    const { book, disposal, namespaces } = this.#options;
    for (let id = this.#ready.shift(); id !== undefined; id = this.#ready.shift()) {
      const record = book.get(id);
      if (record?.state === 'Ready') {
        if (await namespaces.isPinned(namespaces.path(id))) {
          this.#schedule(REFILL_DELAY_MS);
          return record;
        }
        disposal.discard(id);
      }
    }
    if (this.#stopped) {
      throw new AbortedError('attaching');
    }
    const waiter = Promise.withResolvers<ReadyRecord>();
    const leave = (): void => {
      const index = this.#waiters.indexOf(waiter);
      if (index !== -1) {
        this.#waiters.splice(index, 1);
        waiter.reject(new AbortedError('attaching', signal.reason));
      }
    };
    signal.addEventListener('abort', leave, { once: true });
    this.#waiters.push(waiter);
    if (signal.aborted) {
      leave();
    }
    this.#schedule(REFILL_DELAY_MS);
    this.#pump();
    try {
      return await waiter.promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  /** Takes back a slot that could not be given after all. */
  giveBack(slot: ReadyRecord): void {
    this.#ready.unshift(slot.id);
  }

  /** Takes over a slot of an earlier run where it still works. */
  async #takeOverSlot(setup: NetworkSetup, slot: ReadyRecord): Promise<void> {
    try {
      await this.#checkSlot(setup, slot);
    } catch (error) {
      this.#options.logger.info({ err: error, netns: slot.id }, 'a prepared slot no longer works');
      this.#options.book.discard(slot.id);
      return;
    }
    this.#hand(slot);
  }

  /** Checks that namespace, interface and addresses are still as the record and the plugins' result say. */
  async #checkSlot(setup: NetworkSetup, { id, ips, segment }: ReadyRecord): Promise<void> {
    const { closedFor, namespaces, runner } = this.#options;
    if (segment >= setup.planned.length) {
      throw new EsbError('its bridge is no longer wanted', { code: 'SlotInvalid' });
    }
    const inside = await insideAddresses(runner, id, INTERFACE);
    if (inside.join() !== ips.join()) {
      throw new EsbError(`it has ${inside.join(', ') || 'no address'}, not ${ips.join(', ')}`, { code: 'SlotInvalid' });
    }
    await namespaces.closeWays(id, await closedFor(ips.map(isIP)));
    await setup.at(segment).cni.check(cniTarget(id, namespaces.path(id)));
  }

  /** Gives a slot to the caller that waits longest, else keeps it ready. */
  #hand(slot: ReadyRecord): void {
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.resolve(slot);
      return;
    }
    if (this.#ready.length < this.#options.wanted) {
      this.#ready.push(slot.id);
    } else {
      // The caller gave up while the slot was made.
      this.#options.disposal.discard(slot.id);
    }
    if (this.#ready.length >= this.#options.wanted) {
      this.#refillDue = false;
    }
  }

  /** Starts as many makings as those who wait, and then the empty slots, call for. */
  #pump(): void {
    if (this.#stopped) {
      return;
    }
    const missing = this.#options.wanted - this.#ready.length;
    // Filling up is done one at a time; a container in need gets what is ready first.
    const refill = this.#refillDue && missing > 0 ? 1 : 0;
    const wanted = Math.min(MAKING_AT_ONCE, Math.max(this.#waiters.length, refill));
    while (this.#making < wanted) {
      this.#making += 1;
      void this.#options.work.own(this.#makeOne());
    }
  }

  /** Makes a slot and hands it on. Never throws. */
  async #makeOne(): Promise<void> {
    try {
      const slot = await this.#make(await this.#options.setup());
      this.#error = undefined;
      this.#retryAt = 0;
      this.#backoff.reset();
      this.#hand(slot);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#making -= 1;
    }
    this.#pump();
  }

  #failed(error: unknown): void {
    const failure = networkFailure('making a network namespace', error);
    this.#error = failure.code === 'AddressesExhausted' ? undefined : failure;
    this.#options.logger.warn({ err: error }, 'a network namespace could not be made');
    this.#waiters.shift()?.reject(failure);
    this.#refillDue = false;
    if (this.#retryAt === 0) {
      this.#cancelTimer();
      this.#retryAt = this.#options.clock.monotonic() + this.#backoff.next();
      this.#schedule(0);
    }
  }

  async #make(setup: NetworkSetup): Promise<ReadyRecord> {
    const { book, disposal, logger } = this.#options;
    const crowded = new Set<number>();
    for (let attempt = 1; ; ) {
      // Nothing may come between the choice and the record that it is counted by.
      const segment = roomiest(setup, book, crowded) ?? roomiest(setup, book);
      if (segment === undefined) {
        // A removal may free a place.
        if (!disposal.isBusy || this.#stopped) {
          throw (await exhaustionOf(setup, book)) ?? new AbortedError('attaching');
        }
        await disposal.next();
        continue;
      }
      try {
        return await this.#makeOn(segment);
      } catch (error) {
        const full = PORTS_TAKEN.test(messageOf(error)) || (await segment.ipam.fewestLeft(segment.ranges)) <= 0;
        if (!full || attempt === MOST_ATTEMPTS || this.#stopped) {
          throw (await exhaustionOf(setup, book)) ?? error;
        }
        attempt += 1;
        crowded.add(segment.index);
        // Reservations without an owner may be the cause.
        const released = await releaseUnclaimed(segment, this.#options);
        if (released.length > 0) {
          logger.warn({ released }, 'reservations without an owner were released');
        } else if (disposal.isBusy) {
          await disposal.next();
        }
      }
    }
  }

  async #makeOn(segment: NodeSegment): Promise<ReadyRecord> {
    const { book, disposal, makeDeadlineMs: deadlineMs, namespaces } = this.#options;
    const id = this.#options.newId();
    try {
      await book.begin(id, segment.index);
      const closed = await this.#options.closedFor(segment.ranges.map(({ family }) => family));
      const netns = await namespaces.create(id, closed, { deadlineMs });
      const result = await segment.cni.add(cniTarget(id, netns), { deadlineMs });
      const ips = addressesOf(result);
      if (ips.length === 0) {
        throw new EsbError('the CNI plugins gave no address', { code: 'PluginInvalidOutput' });
      }
      await removeNeighbours(this.#options.runner, segment.bridge, ips, { deadlineMs });
      const ready: ReadyRecord = { id, state: 'Ready', segment: segment.index, ips };
      if (this.#waiters.length > 0) {
        book.noteReady(ready);
      } else {
        await book.write(ready);
      }
      return ready;
    } catch (error) {
      disposal.discard(id);
      throw error;
    }
  }

  /** Fills the pool after so long. A refill that is due stands; none begins within the wait after a failure. */
  #schedule(delayMs: number): void {
    const { clock } = this.#options;
    if (this.#stopped || !this.#open || this.#timer !== undefined) {
      return;
    }
    const now = clock.monotonic();
    this.#timer = clock.setTimer(() => this.#refill(), Math.max(delayMs, this.#retryAt - now));
  }

  #refill(): void {
    this.#timer = undefined;
    this.#retryAt = 0;
    this.#refillDue = this.#ready.length < this.#options.wanted;
    this.#pump();
  }

  #cancelTimer(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
