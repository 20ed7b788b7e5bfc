import { Backoff } from '../../common/backoff.ts';
import { sleep } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import { Tally } from '../../common/tally.ts';
import { TaskGroup } from '../../common/task-group.ts';
import type { FunctionCall } from '../agents/function-call.ts';
import { throttled, unavailable } from '../lambda/lambda-error.ts';
import { type EventKeeper, UNCERTAIN_MESSAGE } from './event-keeper.ts';
import { EventRunner, type EventRunnerOptions, STORE_BACKOFF } from './event-runner.ts';
import {
  type ClaimedEvent,
  type ClaimLimits,
  DEFAULT_EVENT_SETTINGS,
  type EventPartition,
  functionOfPartition,
  MAX_STORED_BYTES,
  NO_PROGRESS,
  type StoredEvent,
  type UnreadableEvent,
} from './event-store.ts';

/** Records for one endpoint under way at a time. */
const MAX_PER_ENDPOINT = 8;
/** Events under way at a time, and bytes of their payloads: the share of the gateway's memory for events. */
const MAX_RUNNING = 2_048;
const DEFAULT_RUNNING_BYTES = 256 * 1024 * 1024;
/** Milliseconds that a claim lasts without being renewed: how long the events of a killed gateway rest. */
const LEASE_MS = 30_000;
/** Milliseconds between two renewals. */
const RENEW_MS = 10_000;
/** Age in milliseconds at which an unreadable event is dropped. No version runs an event older than six hours. */
const DROP_UNREADABLE_MS = 7 * 24 * 60 * 60_000;
/** Milliseconds between two looks at whether the functions are known yet. */
const READY_POLL_MS = 100;

export interface EventQueueOptions extends EventRunnerOptions {
  /** Workers of a function: the number of its events that are tried at a time. */
  readonly concurrencyOf: (functionName: string) => number;
  /** Calls `listener` once, at the next change of a function. The returned function cancels that. */
  readonly onNextChange?: (functionName: string, listener: () => void) => () => void;
  /** Whether the gateway knows the functions. Before that no event is tried. */
  readonly isReady: () => boolean;
  /** Bytes of the payloads of events under way. Default 256 MiB. */
  readonly maxRunningBytes?: number;
}

/** An event under way, with its last claim. */
interface RunningEvent extends Omit<ClaimedEvent, 'claim'> {
  claim: string;
}

/**
 * The calls of type `Event`: stored before they are answered with 202, and tried from the store until they are done or
 * given up. An event that is given up is replaced by a record for the destination of its function.
 *
 * At least once: an event leaves the store after its end is known. The next process finds the events of a killed one,
 * asks the workers that had them for their answers, and tries those again of which no worker knows, with the same
 * request id.
 */
export class EventQueue implements EventKeeper {
  readonly #options: EventQueueOptions;
  readonly #runner: EventRunner;
  readonly #loops: TaskGroup;
  readonly #renewing: TaskGroup;
  readonly #runs: TaskGroup;
  /** Events under way, by request id. */
  readonly #claimed = new Map<string, RunningEvent>();
  /** Number of events under way by partition; below, the bytes of their payloads. */
  readonly #counts = new Tally();
  readonly #bytesOf = new Tally();
  #bytes = 0;
  /** Partitions that are due and have no room, each with the end of the wait for a change of its function. */
  readonly #crowded = new Map<string, () => void>();
  readonly #ending = new AbortController();
  #kicked = false;
  #pauseEnd = new AbortController();
  #onIdle: (() => void) | undefined;

  constructor(options: EventQueueOptions) {
    this.#options = options;
    const onError = (task: string, error: unknown): void => {
      options.logger.error({ err: error, task }, 'event task failed');
    };
    this.#runner = new EventRunner(options);
    this.#loops = new TaskGroup(onError);
    this.#renewing = new TaskGroup(onError);
    this.#runs = new TaskGroup(onError);
  }

  start(): void {
    this.#loops.run('take events', (signal) => this.#take(signal));
    this.#renewing.run('renew claims', (signal) => this.#renew(signal));
  }

  /** Whether events are taken, by last knowledge. */
  get health(): Health {
    return this.#options.store.health();
  }

  /** Events in the store, by last knowledge. */
  get size(): number {
    return this.#options.store.load().events;
  }

  /**
   * Takes over an event. Resolves once the event is durable.
   *
   * @throws {LambdaError} TooManyRequestsException when there is no room, ServiceException (503) when the
   *   event could not be stored
   */
  async accept(call: FunctionCall): Promise<void> {
    const { store, clock, settingsOf } = this.#options;
    const { name, qualifier } = call.reference;
    const event: StoredEvent = {
      requestId: call.requestId,
      target: { kind: 'Function', functionName: name, ...(qualifier === undefined ? {} : { qualifier }) },
      payload: call.payload,
      traceId: call.traceId,
      traceParent: call.traceParent,
      acceptedAt: clock.now(),
      hops: 0,
      settings: settingsOf(name) ?? DEFAULT_EVENT_SETTINGS,
      progress: NO_PROGRESS,
    };
    try {
      await store.put(event);
    } catch (error) {
      if (hasCode(error, 'EventStoreFull')) {
        throw throttled('Rate Exceeded. Too many events are waiting.', 'ConcurrentInvocationLimitExceeded', 5);
      }
      this.#options.logger.warn({ err: error, requestId: call.requestId }, 'event was not accepted');
      throw hasCode(error, 'EventStoreUncertain')
        ? unavailable(UNCERTAIN_MESSAGE, error)
        : unavailable('The event could not be kept, and was not accepted.', error);
    }
    this.#kick();
  }

  /**
   * Begins no more tries, lets those end that workers have, and leaves those to the next process that have not ended
   * within `deadlineMs`. Events are accepted until the store closes.
   */
  async stop(deadlineMs: number): Promise<void> {
    await this.#loops.stop();
    this.#watchNone();
    this.#ending.abort();
    if (this.#claimed.size > 0) {
      const idle = Promise.withResolvers<void>();
      this.#onIdle = idle.resolve;
      const timer = this.#options.clock.setTimer(idle.resolve, deadlineMs);
      await idle.promise;
      timer.cancel();
    }
    if (this.#claimed.size > 0) {
      this.#options.logger.warn({ events: this.#claimed.size }, 'events under way are left to the next process');
    }
    await this.#runs.stop();
    await this.#renewing.stop();
  }

  #kick(): void {
    this.#kicked = true;
    this.#pauseEnd.abort();
  }

  async #take(signal: AbortSignal): Promise<void> {
    const { store, clock, logger, isReady } = this.#options;
    const backoff = new Backoff(STORE_BACKOFF);
    while (!signal.aborted) {
      this.#kicked = false;
      let waitMs = READY_POLL_MS;
      if (isReady()) {
        try {
          waitMs = await this.#takeDue(await store.partitions(), signal);
          backoff.reset();
        } catch (error) {
          const retryMs = backoff.next();
          logger.warn({ err: error, retryMs }, 'events could not be read');
          await sleep(clock, retryMs, signal);
          continue;
        }
      }
      await this.#pause(waitMs, signal);
    }
  }

  /** Claims and starts the events that are due and have room. Returns the milliseconds until the next may be due. */
  async #takeDue(partitions: readonly EventPartition[], signal: AbortSignal): Promise<number> {
    const { store } = this.#options;
    let nextMs = store.pollMs;
    let left = MAX_RUNNING - this.#claimed.size;
    let bytesLeft = (this.#options.maxRunningBytes ?? DEFAULT_RUNNING_BYTES) - this.#bytes;
    const claims: Promise<void>[] = [];
    this.#watchNone();
    const due = partitions.filter(({ dueInMs }) => dueInMs <= 0);
    for (const { dueInMs } of partitions) {
      if (dueInMs > 0) {
        nextMs = Math.min(nextMs, dueInMs);
      }
    }
    // The least busy first, with a share for each: otherwise many busy functions could keep all the room.
    const share = Math.max(1, Math.floor(left / Math.max(1, due.length)));
    const bytesShare = Math.max(MAX_STORED_BYTES, Math.floor(bytesLeft / Math.max(1, due.length)));
    for (const { partition } of due.toSorted((a, b) => this.#counts.get(a.partition) - this.#counts.get(b.partition))) {
      const events = Math.min(left, share, this.#roomOf(partition), partOf(left, this.#counts.get(partition)));
      const held = this.#bytesOf.get(partition);
      const bytes = Math.min(bytesLeft, bytesShare, Math.max(held > 0 ? 0 : MAX_STORED_BYTES, partOf(bytesLeft, held)));
      if (events <= 0) {
        this.#watch(partition);
      } else if (bytesLeft >= MAX_STORED_BYTES && bytes > 0) {
        left -= events;
        bytesLeft -= bytes;
        claims.push(this.#claim(partition, { events, bytes }));
      }
    }
    const failed = (await Promise.allSettled(claims)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') {
      signal.throwIfAborted();
      throw failed.reason;
    }
    return nextMs;
  }

  async #claim(partition: string, limits: ClaimLimits): Promise<void> {
    const { store } = this.#options;
    const { events, unreadable } = await store.claim(partition, limits, LEASE_MS);
    for (const each of events) {
      this.#start(partition, each);
    }
    for (const each of unreadable) {
      await this.#passOver(partition, each);
    }
    if (events.length + unreadable.length > 0) {
      // There may be more, and more room than this share of it.
      this.#kick();
    }
  }

  /** An event that cannot be read rests in the store for the version that wrote it, and not for ever. */
  async #passOver(partition: string, { acceptedAt, reason, requestId }: UnreadableEvent): Promise<void> {
    const { clock, logger, store, onEnded } = this.#options;
    if (clock.now() - acceptedAt >= DROP_UNREADABLE_MS) {
      await store.finish(requestId);
      logger.error({ requestId, partition, reason }, 'event cannot be read and is dropped');
      onEnded?.('UnreadableDropped');
      return;
    }
    logger.error({ requestId, partition, reason }, 'event cannot be read and is put off');
    onEnded?.('Unreadable');
  }

  #roomOf(partition: string): number {
    const name = functionOfPartition(partition);
    const most = name === undefined ? MAX_PER_ENDPOINT : Math.max(1, this.#options.concurrencyOf(name));
    return most - this.#counts.get(partition);
  }

  /** Looks for events again once the function of a partition has room. */
  #watch(partition: string): void {
    const name = functionOfPartition(partition);
    const { onNextChange } = this.#options;
    if (name !== undefined && onNextChange !== undefined) {
      const onChange = (): void => {
        if (this.#roomOf(partition) > 0) {
          this.#kick();
        } else {
          this.#watch(partition);
        }
      };
      this.#crowded.set(partition, onNextChange(name, onChange));
    }
  }

  #watchNone(): void {
    for (const cancel of this.#crowded.values()) {
      cancel();
    }
    this.#crowded.clear();
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    if (!this.#kicked) {
      this.#pauseEnd = new AbortController();
      const ended = AbortSignal.any([signal, this.#pauseEnd.signal]);
      await sleep(this.#options.clock, delayMs, ended).catch(() => undefined);
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { store, clock, logger } = this.#options;
    for (;;) {
      await sleep(clock, RENEW_MS, signal);
      if (this.#claimed.size > 0) {
        try {
          await store.renew([...this.#claimed.values()], LEASE_MS);
        } catch (error) {
          logger.warn({ err: error, events: this.#claimed.size }, 'claims of events were not renewed');
        }
      }
    }
  }

  #start(partition: string, { event, ...how }: ClaimedEvent): void {
    const { requestId } = event;
    const running = this.#claimed.get(requestId);
    if (running !== undefined) {
      // The former claim lapsed while the store was away, and the event still runs here: its end needs the new one.
      running.claim = how.claim;
      return;
    }
    const claimed: RunningEvent = { event, ...how };
    this.#claimed.set(requestId, claimed);
    this.#counts.add(partition, 1);
    this.#bytes += event.payload.length;
    this.#bytesOf.add(partition, event.payload.length);
    this.#runs.run('event', async (signal) => {
      try {
        await this.#runner.run(claimed, this.#ending.signal, signal);
      } finally {
        this.#claimed.delete(requestId);
        this.#counts.add(partition, -1);
        this.#bytes -= event.payload.length;
        this.#bytesOf.add(partition, -event.payload.length);
        this.#kick();
        if (this.#claimed.size === 0) {
          this.#onIdle?.();
        }
      }
    });
  }
}

/**
 * The part of a room that a partition may take further, where none holds more than stays free: one alone has half, and a
 * further one still finds room.
 */
function partOf(free: number, held: number): number {
  return Math.ceil((free - held) / 2);
}
