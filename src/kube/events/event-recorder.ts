import { randomUUID } from 'node:crypto';
import { Backoff } from '../../common/backoff.ts';
import { type Clock, systemClock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import { ApiError, isUnavailable } from '../api/api-error.ts';
import { microTime } from '../api/micro-time.ts';
import { type Event, events, type ObjectReference } from '../api/resource-types.ts';
import type { KubeClient, KubeObject, ResourceType } from '../api/types.ts';
import { FencedError } from '../client/fenced-client.ts';
import { createRateLimiter } from './rate-limiter.ts';
import { createSpamFilter } from './spam-filter.ts';

/** Something that a user should find under `kubectl describe`. */
export interface RecordedEvent {
  readonly regarding: ObjectReference;
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, for machines. */
  readonly reason: string;
  /** CamelCase: what was being done. */
  readonly action: string;
  /** For people; cut after 1,024 bytes. */
  readonly note: string;
  readonly related?: ObjectReference;
}

export interface EventRecorderMetrics {
  written?(): void;
  /** @param why `full`, `rate` or `refused` */
  dropped?(why: string): void;
}

export interface EventRecorderOptions {
  readonly client: KubeClient;
  /** `reportingController`, such as `esb.dev/controller`. */
  readonly controller: string;
  /** `reportingInstance`, such as the name of the Pod. */
  readonly instance: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: () => number;
  /**
   * Events that may wait to be written; more are dropped, a Warning in place of the oldest Normal one. Twice as many are
   * remembered, to count those that come again. Default 1,000.
   */
  readonly capacity?: number;
  /** Events of one object at once, before they are rationed. Default 25, as in client-go's spam filter. */
  readonly burst?: number;
  /** Milliseconds until an object may have one more. Default 300,000. */
  readonly refillMs?: number;
  /** Milliseconds between two writes of one series. Default 60,000. */
  readonly seriesEveryMs?: number;
  /** Writes of all objects at once, before they are spaced. Default 100, what the scheduler of Kubernetes allows itself. */
  readonly writeBurst?: number;
  /** Milliseconds between two writes from then on. Default 20: Events never take what the API server has for real work. */
  readonly writeEveryMs?: number;
  readonly metrics?: EventRecorderMetrics;
}

/** Writes Events in the background. */
export interface EventRecorder {
  /** Never blocks and never throws. Equal events become one with a count. */
  record(event: RecordedEvent): void;
  /** Events that wait. */
  pending(): number;
  start(): void;
  /** Writes what waits, as far as `withinMs` milliseconds allow (default 2,000), and stops. */
  stop(withinMs?: number): Promise<void>;
}

const DEFAULTS = {
  capacity: 1000,
  burst: 25,
  refillMs: 300_000,
  seriesEveryMs: 60_000,
  writeBurst: 100,
  writeEveryMs: 20,
} as const;
/** Milliseconds between two looks for what need not be remembered any more. */
const FORGET_EVERY_MS = 10_000;
/** Milliseconds after which an equal event begins a new series. As in client-go. */
const SERIES_END_MS = 6 * 60_000;
const NOTE_BYTES = 1024;
const WRITE_DEADLINE_MS = 5000;
const TRIES = 6;

/** Equal events, and what the server has of them. */
interface Series {
  readonly event: RecordedEvent;
  count: number;
  lastAt: number;
  lastWall: number;
  name: string | undefined;
  /** Undefined until the first write has succeeded. */
  stored: { readonly name: string; readonly namespace: string } | undefined;
  writtenCount: number;
  writtenAt: number;
  queued: boolean;
  /** Ripens a count that was written too short a time ago. */
  timer: { cancel(): void } | undefined;
}

/** Reference to an object of ours; `kind` and version from its type, since listed objects may lack them. */
export function referenceTo<T extends KubeObject>(type: ResourceType<T>, object: T): ObjectReference {
  const { namespace, name, uid, resourceVersion } = object.metadata;
  return {
    apiVersion: type.group === '' ? type.version : `${type.group}/${type.version}`,
    kind: type.kind,
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
}

function cut(note: string): string {
  const bytes = Buffer.from(note);
  // A character that was cut in two decodes to U+FFFD, which takes three bytes itself.
  return bytes.length <= NOTE_BYTES ? note : `${bytes.subarray(0, NOTE_BYTES - 6).toString()}…`;
}

function keyOf({ regarding, type, reason, action, note, related }: RecordedEvent): string {
  return JSON.stringify([
    regarding.uid ?? regarding.name,
    type,
    reason,
    action,
    note,
    related?.uid,
    related?.name,
  ]);
}

export function createEventRecorder(options: EventRecorderOptions): EventRecorder {
  const { client, controller, instance, clock = systemClock, random = Math.random, metrics = {} } = options;
  const { capacity, burst, refillMs, seriesEveryMs, writeBurst, writeEveryMs } = { ...DEFAULTS, ...options };
  const logger = options.logger.child({ part: 'events' });
  const tasks = new TaskGroup((name, error) =>
    logger.error({ err: error, task: name }, 'event recorder failed'),
  );
  const backoff = new Backoff({ firstMs: 500, maxMs: 30_000, jitter: 0.5, random });
  const series = new Map<string, Series>();
  const queue: Series[] = [];
  const ended = Promise.withResolvers<void>();
  const ration = createSpamFilter({ burst, refillMs, clock });
  const pace = createRateLimiter({ burst: writeBurst, everyMs: writeEveryMs, clock });
  let wake = Promise.withResolvers<void>();
  let forgottenAt = Number.NEGATIVE_INFINITY;
  let started = false;
  let draining = false;

  const forgetOld = (): void => {
    const now = clock.monotonic();
    if (now - forgottenAt < FORGET_EVERY_MS) {
      return;
    }
    forgottenAt = now;
    for (const [key, one] of series) {
      if (!one.queued && one.timer === undefined && now - one.lastAt > SERIES_END_MS) {
        series.delete(key);
      }
    }
    ration.forget();
  };

  /** Forgets the series that began first, of those of which nothing is to be written. Of another like it a new one begins. */
  const forgetFirst = (): boolean => {
    for (const [key, one] of series) {
      if (!one.queued && one.timer === undefined) {
        return series.delete(key);
      }
    }
    return false;
  };

  /** Drops a Normal event that waits, for a Warning. */
  const makeWay = (one: Series): boolean => {
    const index = one.event.type === 'Warning' ? queue.findIndex(({ event }) => event.type === 'Normal') : -1;
    const [dropped] = index < 0 ? [] : queue.splice(index, 1);
    if (dropped === undefined) {
      return false;
    }
    dropped.queued = false;
    metrics.dropped?.('full');
    return true;
  };

  const enqueue = (one: Series): void => {
    if (one.queued) {
      return;
    }
    if (queue.length >= capacity && !makeWay(one)) {
      metrics.dropped?.('full');
      return;
    }
    one.queued = true;
    queue.push(one);
    wake.resolve();
  };

  /** Writes a count soon, but not more often than the series may be written. */
  const ripen = (one: Series): void => {
    if (one.timer !== undefined || one.queued) {
      return;
    }
    // The first repetition is worth telling at once.
    const waitMs = one.writtenCount <= 1 ? 0 : one.writtenAt + seriesEveryMs - clock.monotonic();
    if (waitMs <= 0) {
      enqueue(one);
      return;
    }
    one.timer = clock.setTimer(() => {
      one.timer = undefined;
      enqueue(one);
    }, waitMs);
  };

  const record = (given: RecordedEvent): void => {
    const event = { ...given, note: cut(given.note) };
    const key = keyOf(event);
    const now = clock.monotonic();
    const known = series.get(key);
    if (known !== undefined && now - known.lastAt <= SERIES_END_MS) {
      known.count++;
      known.lastAt = now;
      known.lastWall = clock.now();
      ripen(known);
      return;
    }
    if (series.size >= capacity) {
      forgetOld();
    }
    if (series.size >= 2 * capacity && !forgetFirst()) {
      metrics.dropped?.('full');
      return;
    }
    if (
      !ration.spend(event.regarding.uid ?? `${event.regarding.namespace ?? ''}/${event.regarding.name ?? ''}`)
    ) {
      metrics.dropped?.('rate');
      return;
    }
    known?.timer?.cancel();
    const one: Series = {
      event,
      count: 1,
      lastAt: now,
      lastWall: clock.now(),
      name: undefined,
      stored: undefined,
      writtenCount: 0,
      writtenAt: Number.NEGATIVE_INFINITY,
      queued: false,
      timer: undefined,
    };
    series.set(key, one);
    enqueue(one);
  };

  const create = async (one: Series, signal: AbortSignal): Promise<void> => {
    const { event, count } = one;
    const namespace = event.regarding.namespace ?? 'default';
    // The same one for each try, so that a lost answer does not make two.
    one.name ??= `${(event.regarding.name ?? 'unknown').slice(0, 200)}.${randomUUID().replaceAll('-', '').slice(0, 16)}`;
    const { name } = one;
    const time = microTime(one.lastWall);
    const body: Event = {
      metadata: { namespace, name },
      eventTime: time,
      ...(count > 1 ? { series: { count, lastObservedTime: time } } : {}),
      reportingController: controller,
      reportingInstance: instance.slice(0, 128),
      action: event.action,
      reason: event.reason,
      regarding: event.regarding,
      ...(event.related === undefined ? {} : { related: event.related }),
      note: event.note,
      type: event.type,
    };
    try {
      await client.create(events, body, { signal, deadlineMs: WRITE_DEADLINE_MS });
    } catch (error) {
      if (!hasCode(error, 'AlreadyExists')) {
        throw error;
      }
    }
    one.stored = { namespace, name };
    one.writtenCount = count;
  };

  const countUp = async (one: Series, signal: AbortSignal): Promise<void> => {
    const { count, stored } = one;
    if (stored === undefined || count === one.writtenCount) {
      return;
    }
    const series = { count, lastObservedTime: microTime(one.lastWall) };
    try {
      await client.patch(
        events,
        stored,
        { kind: 'merge', body: { series } },
        { signal, deadlineMs: WRITE_DEADLINE_MS },
      );
      one.writtenCount = count;
    } catch (error) {
      if (!(error instanceof ApiError && error.code === 'NotFound')) {
        throw error;
      }
      // The server keeps Events for an hour only.
      one.name = undefined;
      await create(one, signal);
    }
  };

  const write = async (one: Series, signal: AbortSignal): Promise<void> => {
    for (let tries = 1; ; tries++) {
      try {
        await (one.stored === undefined ? create(one, signal) : countUp(one, signal));
        one.writtenAt = clock.monotonic();
        backoff.reset();
        metrics.written?.();
        return;
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        if (error instanceof FencedError) {
          // The next leader looks at the same objects and tells of them itself.
          metrics.dropped?.('notLeader');
          return;
        }
        if (!isUnavailable(error) || tries >= TRIES) {
          metrics.dropped?.('refused');
          logger.warn({ reason: one.event.reason, error: messageOf(error) }, 'event not written');
          return;
        }
        const askedForMs = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
        await sleep(clock, Math.max(askedForMs, backoff.next()), signal);
      }
    }
  };

  const next = async (signal: AbortSignal): Promise<Series | undefined> => {
    while (!signal.aborted && !draining && queue.length === 0) {
      wake = Promise.withResolvers<void>();
      await wake.promise;
    }
    if (queue.length > 0) {
      await pace.turn();
    }
    return signal.aborted ? undefined : queue.shift();
  };

  const run = async (signal: AbortSignal): Promise<void> => {
    const onAbort = (): void => {
      wake.resolve();
      pace.hurry();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    for (let one = await next(signal); one !== undefined; one = await next(signal)) {
      one.queued = false;
      await write(one, signal);
      if (one.count > one.writtenCount && one.stored !== undefined && !draining) {
        ripen(one);
      }
    }
    ended.resolve();
  };

  return {
    record(event) {
      if (!draining) {
        record(event);
      }
    },
    pending: () => queue.length,
    start() {
      if (!started) {
        started = true;
        tasks.run('writer', run);
      }
    },
    async stop(withinMs = 2000) {
      draining = true;
      for (const one of series.values()) {
        if (one.timer !== undefined) {
          one.timer.cancel();
          one.timer = undefined;
          enqueue(one);
        }
      }
      if (started && withinMs > 0) {
        const timer = clock.setTimer(ended.resolve, withinMs);
        wake.resolve();
        pace.hurry();
        await ended.promise;
        timer.cancel();
      }
      await tasks.stop();
      for (const one of series.values()) {
        one.timer?.cancel();
      }
    },
  };
}

/** Where Events go. */
export type EventSink = Pick<EventRecorder, 'record'>;
