import { Backoff } from '../../common/backoff.ts';
import { type Clock, systemClock } from '../../common/clock.ts';
import { AbortedError, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import { ApiError } from '../api/api-error.ts';
import type {
  CacheEvent,
  Informer,
  KubeClient,
  KubeObject,
  ListParameters,
  ResourceType,
  WatchFrame,
} from '../api/types.ts';
import { createObjectCache, type IndexFunction } from './object-cache.ts';

/** What an informer counts; every part is optional. */
export interface InformerMetrics {
  listed?(plural: string): void;
  /** @param code of the error */
  listFailed?(plural: string, code: string): void;
  watchStarted?(plural: string): void;
  /** @param why `ended`, or the code of an error */
  watchStopped?(plural: string, why: string): void;
}

export interface InformerOptions<T extends KubeObject> {
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Gives numbers from 0 to 1, for jitter. */
  readonly random?: () => number;
  /** Indexes of the cache by name. */
  readonly indexes?: Readonly<Record<string, IndexFunction<T>>>;
  readonly metrics?: InformerMetrics;
  /** Changes an object before it is kept, such as to drop what nobody reads. `managedFields` are always dropped. */
  readonly transform?: (object: T) => T;
  /** Milliseconds after the first failure until the next try; it doubles. Default 800. */
  readonly backoffFirstMs?: number;
  /** The most milliseconds between tries. Default 10,000. */
  readonly backoffMaxMs?: number;
  /**
   * The most milliseconds until the first list after the server has dropped the history, such as after a change of the
   * resource definition, which ends all watches of a kind at once. Each informer takes a random part. Default 2,000.
   */
  readonly relistSpreadMs?: number;
  /** Milliseconds that a list may take, all pages together. Default 60,000. */
  readonly listDeadlineMs?: number;
  /**
   * Seconds after which the server ends a watch, before jitter of up to a fifth less. Default 45: of a kind that
   * nobody changes the API server sends no bookmarks, so this is how often it is known to be there.
   */
  readonly watchSeconds?: number;
  /** Milliseconds without a frame after which a watch counts as dead and is opened anew. Default 60,000. */
  readonly watchSilenceMs?: number;
}

/** Where the loop stands. */
type State =
  /** Nothing is known, or what is known can no longer be continued. */
  { readonly kind: 'list' } | { readonly kind: 'watch'; readonly resourceVersion: string };

const DEFAULTS = {
  backoffFirstMs: 800,
  backoffMaxMs: 10_000,
  relistSpreadMs: 2_000,
  listDeadlineMs: 60_000,
  watchSeconds: 45,
  watchSilenceMs: 60_000,
} as const;

/** Milliseconds that a watch must live, or bring a frame, for the loop to count as healthy. */
const HEALTHY_AFTER_MS = 10_000;
/** A watch that ends of itself sooner than this, with no frame, counts as failed. As in client-go's reflector. */
const SHORT_WATCH_MS = 1000;
/** Seconds of the first watch after a failure: its orderly end says, where nothing changes, that the server is there. */
const PROBE_WATCH_SECONDS = 2;

function withoutManagedFields<T extends KubeObject>(object: T): T {
  const metadata = object.metadata as T['metadata'] & { managedFields?: unknown };
  if (metadata.managedFields !== undefined) {
    delete metadata.managedFields;
  }
  return object;
}

/** The server cannot go on from the version that we have. */
function needsList(error: unknown): boolean {
  return error instanceof ApiError && (error.code === 'Expired' || error.code === 'ResourceVersionTooLarge');
}

/**
 * Lists and then watches one kind of object for as long as it runs, and keeps what it saw. Whatever goes wrong it goes
 * on, with growing waits; it lists anew when the server no longer has the history that it needs, and an object that
 * was deleted and made again while nobody looked is told as both.
 */
export function createInformer<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  parameters: ListParameters,
  options: InformerOptions<T>,
): Informer<T> {
  const { clock = systemClock, random = Math.random, metrics = {}, transform } = options;
  const settings = { ...DEFAULTS, ...options };
  const logger = options.logger.child({ resource: type.plural });
  const cache = createObjectCache<T>(options.indexes);
  const listeners = new Set<(event: CacheEvent<T>) => void>();
  const tasks = new TaskGroup((name, error) => logger.error({ err: error, task: name }, 'informer failed'));
  const firstList = Promise.withResolvers<void>();
  // Nobody may ever wait for it.
  firstList.promise.catch(() => undefined);
  const backoff = new Backoff({
    firstMs: settings.backoffFirstMs,
    maxMs: settings.backoffMaxMs,
    jitter: 0.5,
    random,
  });
  let started = false;
  let synced = false;
  let successAt: number | undefined;
  let interrupted = false;

  const heard = (): void => {
    successAt = clock.monotonic();
    interrupted = false;
  };

  const tellOne = (listener: (event: CacheEvent<T>) => void, event: CacheEvent<T>): void => {
    try {
      listener(event);
    } catch (error) {
      logger.error({ err: error }, 'informer listener threw');
    }
  };

  const tell = (events: readonly CacheEvent<T>[]): void => {
    for (const event of events) {
      for (const listener of listeners) {
        tellOne(listener, event);
      }
    }
  };

  const prepare = (object: T): T => {
    const bare = withoutManagedFields(object);
    return transform === undefined ? bare : transform(bare);
  };

  const list = async (signal: AbortSignal): Promise<State> => {
    const listed = await client.list(type, parameters, {
      signal,
      deadlineMs: settings.listDeadlineMs,
      transform: prepare,
    });
    signal.throwIfAborted();
    heard();
    metrics.listed?.(type.plural);
    tell(cache.replace(listed.items));
    synced = true;
    firstList.resolve();
    return { kind: 'watch', resourceVersion: listed.resourceVersion };
  };

  /** Takes a frame in; gives the version that the watch has come to. */
  const take = (frame: WatchFrame<T>): string | undefined => {
    switch (frame.kind) {
      case 'added':
      case 'modified':
        tell(cache.set(prepare(frame.object)));
        return frame.object.metadata.resourceVersion;
      case 'deleted':
        tell(cache.remove(frame.object));
        return frame.object.metadata.resourceVersion;
      case 'bookmark':
        return frame.resourceVersion;
      default:
        return unreachable(frame);
    }
  };

  const watch = async (
    from: string,
    signal: AbortSignal,
    reached: (version: string) => void,
  ): Promise<void> => {
    const openedAt = clock.monotonic();
    const silence = new AbortController();
    const guard = (): ReturnType<Clock['setTimer']> =>
      clock.setTimer(() => {
        silence.abort(
          new EsbError(`no frame for ${settings.watchSilenceMs} ms`, {
            code: 'WatchSilent',
            retryable: true,
          }),
        );
      }, settings.watchSilenceMs);
    let timer = guard();
    let frames = 0;
    try {
      const stream = client.watch(
        type,
        {
          ...parameters,
          resourceVersion: from,
          timeoutSeconds: interrupted
            ? Math.min(PROBE_WATCH_SECONDS, settings.watchSeconds)
            : Math.ceil(settings.watchSeconds * (1 - random() / 5)),
        },
        { signal: AbortSignal.any([signal, silence.signal]) },
      );
      metrics.watchStarted?.(type.plural);
      for await (const frame of stream) {
        signal.throwIfAborted();
        timer.cancel();
        timer = guard();
        heard();
        frames++;
        backoff.reset();
        const version = take(frame);
        if (version !== undefined && version !== '') {
          reached(version);
        }
      }
    } catch (error) {
      throw silence.signal.aborted && !signal.aborted ? silence.signal.reason : error;
    } finally {
      timer.cancel();
      if (clock.monotonic() - openedAt >= HEALTHY_AFTER_MS) {
        backoff.reset();
      }
    }
    if (frames === 0 && clock.monotonic() - openedAt < SHORT_WATCH_MS) {
      throw new EsbError('the watch ended at once', { code: 'WatchTooShort', retryable: true });
    }
    heard();
    backoff.reset();
    metrics.watchStopped?.(type.plural, 'ended');
  };

  /** Milliseconds to wait after an error. */
  const delayAfter = (error: unknown): number => {
    const isFirst = backoff.failures === 0;
    const grown = backoff.next();
    // The first relist waits for the sake of the server, which others ask as well. Many in a row wait longer.
    const delayMs = isFirst && needsList(error) ? random() * settings.relistSpreadMs : grown;
    // One new watch in the place of a dead one needs no patience.
    const atOnce = isFirst && hasCode(error, 'WatchSilent');
    const askedForMs = error instanceof ApiError ? error.retryAfterMs : undefined;
    if (askedForMs !== undefined) {
      return Math.max(delayMs, askedForMs * (1 + random() / 4));
    }
    return atOnce ? 0 : delayMs;
  };

  const run = async (signal: AbortSignal): Promise<void> => {
    let state: State = { kind: 'list' };
    while (!signal.aborted) {
      try {
        if (state.kind === 'list') {
          state = await list(signal);
        } else {
          await watch(state.resourceVersion, signal, (resourceVersion) => {
            state = { kind: 'watch', resourceVersion };
          });
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        interrupted = true;
        const code = EsbError.from(error).code;
        if (state.kind === 'list') {
          metrics.listFailed?.(type.plural, code);
        } else {
          metrics.watchStopped?.(type.plural, code);
        }
        const delayMs = delayAfter(error);
        logger.warn({ step: state.kind, code, error: messageOf(error), delayMs }, 'informer interrupted');
        if (needsList(error)) {
          state = { kind: 'list' };
        }
        await sleep(clock, delayMs, signal);
      }
    }
  };

  return {
    cache,
    subscribe(listener) {
      for (const object of cache.list()) {
        tellOne(listener, { kind: 'added', object });
      }
      // A function may subscribe twice, and each subscription ends alone.
      const own = (event: CacheEvent<T>): void => listener(event);
      listeners.add(own);
      return () => {
        listeners.delete(own);
      };
    },
    hasSynced: () => synced,
    synced(signal) {
      if (signal === undefined) {
        return firstList.promise;
      }
      if (signal.aborted) {
        return Promise.reject(new AbortedError(`wait for ${type.plural}`, signal.reason));
      }
      const waited = Promise.withResolvers<void>();
      const onAbort = (): void => waited.reject(new AbortedError(`wait for ${type.plural}`, signal.reason));
      signal.addEventListener('abort', onAbort, { once: true });
      firstList.promise
        .then(waited.resolve, waited.reject)
        .finally(() => signal.removeEventListener('abort', onAbort))
        .catch(() => undefined);
      return waited.promise;
    },
    lastSuccessAt: () => successAt,
    isCurrent: () => synced && !interrupted,
    start() {
      if (!started) {
        started = true;
        tasks.run('list and watch', run);
      }
    },
    async stop() {
      await tasks.stop();
      firstList.reject(new AbortedError(`wait for ${type.plural}`));
    },
  };
}
