import { Backoff } from '../../common/backoff.ts';
import { type Clock, systemClock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import { ApiError, isUnavailable } from '../api/api-error.ts';
import { microTime } from '../api/micro-time.ts';
import { events } from '../api/resource-types.ts';
import type { KubeClient } from '../api/types.ts';
import { FencedError } from '../client/fenced-client.ts';
import {
  cutNote,
  type EventReporter,
  eventBody,
  eventName,
  type RecordedEvent,
  Series,
  seriesKey,
  subjectOf,
} from './event-series.ts';
import { RateLimiter, SpamFilter } from './rate-limiter.ts';

export interface EventRecorderOptions extends EventReporter {
  readonly client: KubeClient;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: () => number;
  /**
   * Events that may wait to be written; more are dropped, a Warning in place of the oldest Normal one. Twice as many
   * are remembered, to count those that come again. Default 1,000.
   */
  readonly capacity?: number;
  /** Events of one object at once, before they are spaced. Default 25, as in client-go's spam filter. */
  readonly burst?: number;
  /** Milliseconds until an object may have one more. Default 300,000. */
  readonly refillMs?: number;
  /** Milliseconds between two writes of one series. Default 60,000. */
  readonly seriesEveryMs?: number;
  /**
   * Milliseconds until a new Normal Event is written: it tells of what has been done, and what is to be done goes first.
   * Default 0.
   */
  readonly normalAfterMs?: number;
  /** Writes of all objects at once, before they are spaced. Default 100, as in the scheduler of Kubernetes. */
  readonly writeBurst?: number;
  /** Milliseconds between two writes from then on. Default 20: Events leave the API server to real work. */
  readonly writeEveryMs?: number;
}

/** Takes Events. */
export interface EventSink<Reason extends string = string> {
  /** Never blocks and never throws. Equal events become one with a count. */
  readonly record: (event: RecordedEvent<Reason>) => void;
}

const DEFAULTS = {
  clock: systemClock,
  random: Math.random,
  capacity: 1000,
  burst: 25,
  refillMs: 300_000,
  seriesEveryMs: 60_000,
  normalAfterMs: 0,
  writeBurst: 100,
  writeEveryMs: 20,
} as const;
/** Milliseconds between two searches for series that have ended. */
const FORGET_EVERY_MS = 10_000;
/** Milliseconds after which an equal event begins a new series. As in client-go. */
const SERIES_END_MS = 6 * 60_000;
const WRITE_DEADLINE_MS = 5000;
const BACKOFF = { firstMs: 500, maxMs: 30_000, jitter: 0.5 } as const;
const ATTEMPTS = 6;

/** Writes Events in the background. */
export class EventRecorder implements EventSink {
  readonly #settings: EventRecorderOptions & Required<Pick<EventRecorderOptions, keyof typeof DEFAULTS>>;
  readonly #logger: Logger;
  readonly #tasks: TaskGroup;
  readonly #backoff: Backoff;
  readonly #spam: SpamFilter;
  readonly #rate: RateLimiter;
  readonly #series = new Map<string, Series>();
  readonly #queue: Series[] = [];
  readonly #ended = Promise.withResolvers<void>();
  #wake = Promise.withResolvers<void>();
  #forgottenAt = Number.NEGATIVE_INFINITY;
  /** Code of the refusal of the last write; undefined after one that succeeded. */
  #refusedFor: string | undefined;
  #started = false;
  #draining = false;

  constructor(options: EventRecorderOptions) {
    const settings = { ...DEFAULTS, ...options };
    const { clock, random } = settings;
    const logger = options.logger.child({ part: 'events' });
    this.#settings = settings;
    this.#logger = logger;
    this.#tasks = new TaskGroup((name, error) => logger.error({ err: error, task: name }, 'event recorder failed'));
    this.#backoff = new Backoff({ ...BACKOFF, random });
    this.#spam = new SpamFilter({ burst: settings.burst, everyMs: settings.refillMs, clock });
    this.#rate = new RateLimiter({ burst: settings.writeBurst, everyMs: settings.writeEveryMs, clock });
  }

  record(given: RecordedEvent): void {
    if (this.#draining) {
      return;
    }
    const event = { ...given, note: cutNote(given.note) };
    const key = seriesKey(event);
    const now = this.#settings.clock.monotonic();
    const known = this.#series.get(key);
    if (known !== undefined && now - known.lastAt <= SERIES_END_MS) {
      known.count += 1;
      known.lastAt = now;
      known.lastWall = this.#settings.clock.now();
      this.#ripen(known);
      return;
    }
    if (this.#series.size >= this.#settings.capacity) {
      this.#forgetEnded();
    }
    if (this.#series.size >= 2 * this.#settings.capacity && !this.#forgetFirst() && !this.#dropUnripe(event)) {
      return;
    }
    if (!this.#spam.spend(subjectOf(event))) {
      return;
    }
    known?.timer?.cancel();
    const series = new Series(event, now, this.#settings.clock.now());
    this.#series.set(key, series);
    this.#enqueueIn(series, event.type === 'Normal' ? this.#settings.normalAfterMs : 0);
  }

  /** Events that wait. */
  pending(): number {
    return this.#queue.length;
  }

  start(): void {
    if (!this.#started) {
      this.#started = true;
      this.#tasks.run('writer', (signal) => this.#run(signal));
    }
  }

  /** Writes the waiting events, as far as `withinMs` milliseconds allow, and stops. */
  async stop(withinMs = 2000): Promise<void> {
    this.#draining = true;
    for (const series of this.#series.values()) {
      if (series.timer !== undefined) {
        series.timer.cancel();
        series.timer = undefined;
        this.#enqueue(series);
      }
    }
    if (this.#started && withinMs > 0) {
      const timer = this.#settings.clock.setTimer(this.#ended.resolve, withinMs);
      this.#wake.resolve();
      this.#rate.hurry();
      await this.#ended.promise;
      timer.cancel();
    }
    await this.#tasks.stop();
    for (const series of this.#series.values()) {
      series.timer?.cancel();
    }
  }

  #forgetEnded(): void {
    const now = this.#settings.clock.monotonic();
    if (now - this.#forgottenAt < FORGET_EVERY_MS) {
      return;
    }
    this.#forgottenAt = now;
    for (const [key, series] of this.#series) {
      if (series.isWritten && now - series.lastAt > SERIES_END_MS) {
        this.#series.delete(key);
      }
    }
    this.#spam.forget();
  }

  /** Forgets the oldest series that waits for no write. An equal event then begins a new one. */
  #forgetFirst(): boolean {
    for (const [key, series] of this.#series) {
      if (series.isWritten) {
        return this.#series.delete(key);
      }
    }
    return false;
  }

  /** Drops the oldest series whose time to be written has not come yet, a Normal one, for a Warning. */
  #dropUnripe({ type }: RecordedEvent): boolean {
    for (const [key, { event, timer }] of type === 'Warning' ? this.#series : []) {
      if (timer !== undefined && event.type === 'Normal') {
        timer.cancel();
        return this.#series.delete(key);
      }
    }
    return false;
  }

  /** Queues a write of the count soon, but not more often than a series may be written. */
  #ripen(series: Series): void {
    if (!series.isWritten) {
      return;
    }
    // The first repetition is worth a write at once.
    const waitMs =
      series.writtenCount <= 1 ? 0 : series.writtenAt + this.#settings.seriesEveryMs - this.#settings.clock.monotonic();
    this.#enqueueIn(series, waitMs);
  }

  #enqueueIn(series: Series, waitMs: number): void {
    if (waitMs <= 0) {
      this.#enqueue(series);
      return;
    }
    series.timer = this.#settings.clock.setTimer(() => {
      series.timer = undefined;
      this.#enqueue(series);
    }, waitMs);
  }

  #enqueue(series: Series): void {
    if (series.queued) {
      return;
    }
    if (this.#queue.length >= this.#settings.capacity && !this.#makeWay(series)) {
      return;
    }
    series.queued = true;
    this.#queue.push(series);
    this.#wake.resolve();
  }

  /** Drops a Normal event that waits, for a Warning. */
  #makeWay({ event: { type } }: Series): boolean {
    const index = type === 'Warning' ? this.#queue.findIndex(({ event }) => event.type === 'Normal') : -1;
    const [dropped] = index < 0 ? [] : this.#queue.splice(index, 1);
    if (dropped === undefined) {
      return false;
    }
    dropped.queued = false;
    return true;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => {
      this.#wake.resolve();
      this.#rate.hurry();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    for (let one = await this.#next(signal); one !== undefined; one = await this.#next(signal)) {
      one.queued = false;
      await this.#write(one, signal);
      if (one.count > one.writtenCount && one.stored !== undefined && !this.#draining) {
        this.#ripen(one);
      }
    }
    this.#ended.resolve();
  }

  async #next(signal: AbortSignal): Promise<Series | undefined> {
    while (!signal.aborted && !this.#draining && this.#queue.length === 0) {
      this.#wake = Promise.withResolvers<void>();
      await this.#wake.promise;
    }
    if (this.#queue.length > 0) {
      await this.#rate.turn();
    }
    return signal.aborted ? undefined : this.#queue.shift();
  }

  async #write(series: Series, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await (series.stored === undefined
          ? this.#create(series, signal)
          : this.#countUp(series, series.stored, signal));
        series.writtenAt = this.#settings.clock.monotonic();
        this.#backoff.reset();
        this.#refusedFor = undefined;
        return;
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        if (error instanceof FencedError) {
          // The next leader sees the same objects and records events of its own.
          return;
        }
        if (!isUnavailable(error) || attempt >= ATTEMPTS) {
          this.#lost(series, EsbError.from(error));
          return;
        }
        const askedForMs = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
        await sleep(this.#settings.clock, Math.max(askedForMs, this.#backoff.next()), signal);
      }
    }
  }

  /** Warns once of an account without the right, and not of each Event. */
  #lost({ event: { reason } }: Series, error: EsbError): void {
    const level = error.code === this.#refusedFor ? 'debug' : 'warn';
    this.#refusedFor = error.code;
    this.#logger[level]({ reason, error: messageOf(error) }, 'event not written');
  }

  async #create(series: Series, signal: AbortSignal): Promise<void> {
    const { count, event } = series;
    // The same name for each attempt, so that a lost answer does not make two.
    series.name ??= eventName(event);
    const key = { namespace: event.regarding.namespace ?? 'default', name: series.name };
    const body = eventBody(series, key, this.#settings);
    try {
      await this.#settings.client.create(events, body, { signal, deadlineMs: WRITE_DEADLINE_MS });
    } catch (error) {
      if (!hasCode(error, 'AlreadyExists')) {
        throw error;
      }
    }
    series.stored = key;
    series.writtenCount = count;
  }

  async #countUp(series: Series, stored: NonNullable<Series['stored']>, signal: AbortSignal): Promise<void> {
    const { count, lastWall } = series;
    if (count === series.writtenCount) {
      return;
    }
    const body = { series: { count, lastObservedTime: microTime(lastWall) } };
    try {
      await this.#settings.client.patch(
        events,
        stored,
        { kind: 'merge', body },
        { signal, deadlineMs: WRITE_DEADLINE_MS },
      );
      series.writtenCount = count;
    } catch (error) {
      if (!(error instanceof ApiError && error.code === 'NotFound')) {
        throw error;
      }
      // The server keeps Events for an hour only.
      series.name = undefined;
      await this.#create(series, signal);
    }
  }
}
