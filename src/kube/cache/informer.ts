import { Backoff } from '../../common/backoff.ts';
import { type Clock, systemClock, type Timer } from '../../common/clock.ts';
import { AbortedError, abortable, sleep } from '../../common/deadline.ts';
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
  ObjectKey,
  ResourceType,
  WatchFrame,
} from '../api/types.ts';
import { createObjectCache, type IndexFunction, type WritableCache } from './object-cache.ts';

export interface InformerOptions<T extends KubeObject> {
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Gives numbers from 0 to 1, for jitter. */
  readonly random?: () => number;
  /** Indexes of the cache by name. */
  readonly indexes?: Readonly<Record<string, IndexFunction<T>>>;
  /** Called at each complete list but the first, before its changes are told. */
  readonly onRelist?: () => void;
  /** Changes an object before it is kept, such as to drop unread fields. `managedFields` are always dropped. */
  readonly transform?: (object: T) => T;
  /** Milliseconds after the first failure until the next attempt; each wait is twice the one before. Default 800. */
  readonly backoffFirstMs?: number;
  /** The most milliseconds between attempts. Default 10,000. */
  readonly backoffMaxMs?: number;
  /**
   * The most milliseconds until the first list after the server has dropped the history, such as after a change of the
   * resource definition, which ends all watches of a kind at once. Each informer takes a random part. Default 2,000.
   */
  readonly relistSpreadMs?: number;
  /** Milliseconds that a list may take, all pages together. Default 60,000. */
  readonly listDeadlineMs?: number;
  /**
   * Seconds after which the server ends a watch, before jitter of up to a fifth less. Default 45: without changes the
   * API server sends no bookmarks, so the end of a watch is the sign of life.
   */
  readonly watchSeconds?: number;
  /** Milliseconds without a frame after which a watch counts as dead and is opened again. Default 60,000. */
  readonly watchSilenceMs?: number;
}

/** The next step of the loop. */
type State =
  /** Nothing is known, or the server cannot go on from the known version; `isReset` where it was restored from older data. */
  { readonly kind: 'list'; readonly isReset: boolean } | { readonly kind: 'watch'; readonly resourceVersion: string };

const DEFAULTS = {
  clock: systemClock,
  random: Math.random,
  backoffFirstMs: 800,
  backoffMaxMs: 10_000,
  relistSpreadMs: 2_000,
  listDeadlineMs: 60_000,
  watchSeconds: 45,
  watchSilenceMs: 60_000,
} as const;

/** Milliseconds that a watch must live, or bring a frame, for the loop to count as healthy. */
const HEALTHY_AFTER_MS = 10_000;
/** A watch that the server ends sooner, without a frame, counts as failed. As in client-go's reflector. */
const SHORT_WATCH_MS = 1000;
/** Seconds of the first watch after a failure: without changes its orderly end shows that the server is there. */
const PROBE_WATCH_SECONDS = 2;

/** Whether the server cannot go on from our version. */
function needsList(error: unknown): boolean {
  return hasCode(error, 'Expired') || hasCode(error, 'ResourceVersionTooLarge');
}

/**
 * The list and watch loop of one kind of object, and its cache. The loop goes on after every failure, with growing waits, and lists again when
 * the server no longer has the history that a watch needs. An object that was deleted and made again during an outage
 * is reported as both.
 */
export class ListWatchInformer<T extends KubeObject> implements Informer<T> {
  readonly cache: WritableCache<T>;
  readonly #client: KubeClient;
  readonly #type: ResourceType<T>;
  readonly #parameters: ListParameters;
  readonly #settings: InformerOptions<T> & Required<Pick<InformerOptions<T>, keyof typeof DEFAULTS>>;
  readonly #logger: Logger;
  readonly #listeners = new Set<(event: CacheEvent<T>) => void>();
  readonly #tasks: TaskGroup;
  readonly #firstList = Promise.withResolvers<void>();
  /** Callers that wait for a list which begins after their call. */
  #refreshes: readonly PromiseWithResolvers<void>[] = [];
  /** Ends the watch that is open. */
  #endWatch: (() => void) | undefined;
  readonly #backoff: Backoff;
  #started = false;
  #synced = false;
  #interrupted = false;
  #successAt: number | undefined;

  constructor(client: KubeClient, type: ResourceType<T>, parameters: ListParameters, options: InformerOptions<T>) {
    const settings = { ...DEFAULTS, ...options };
    const logger = options.logger.child({ resource: type.plural });
    this.cache = createObjectCache<T>(options.indexes);
    this.#client = client;
    this.#type = type;
    this.#parameters = parameters;
    this.#settings = settings;
    this.#logger = logger;
    this.#tasks = new TaskGroup((name, error) => logger.error({ err: error, task: name }, 'informer failed'));
    const { backoffFirstMs: firstMs, backoffMaxMs: maxMs, random } = settings;
    this.#backoff = new Backoff({ firstMs, maxMs, jitter: 0.5, random });
    // The promise may have no reader.
    this.#firstList.promise.catch(() => undefined);
  }

  subscribe(listener: (event: CacheEvent<T>) => void): () => void {
    for (const object of this.cache.list()) {
      this.#tellOne(listener, { kind: 'added', object });
    }
    // A function may subscribe twice, and each subscription ends alone.
    const own = (event: CacheEvent<T>): void => listener(event);
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }

  hasSynced(): boolean {
    return this.#synced;
  }

  synced(signal?: AbortSignal): Promise<void> {
    return abortable(`wait for ${this.#type.plural}`, signal, (resolve, reject) => {
      this.#firstList.promise.then(resolve, reject);
      return undefined;
    });
  }

  refresh(signal?: AbortSignal): Promise<void> {
    const asked = Promise.withResolvers<void>();
    this.#refreshes = [...this.#refreshes, asked];
    this.#endWatch?.();
    return abortable(`list of ${this.#type.plural}`, signal, (resolve, reject) => {
      asked.promise.then(resolve, reject);
      return undefined;
    });
  }

  written(object: T): void {
    if (this.#synced) {
      // The caller of the write has the answer, which it may change.
      this.#tell(this.cache.setAhead(this.#prepare(structuredClone(object))));
    }
  }

  removed(key: ObjectKey, uid: string): void {
    this.#tell(this.cache.removeAhead(key, uid));
  }

  lastSuccessAt(): number | undefined {
    return this.#successAt;
  }

  isCurrent(): boolean {
    return this.#synced && !this.#interrupted;
  }

  start(): void {
    if (!this.#started) {
      this.#started = true;
      this.#tasks.run('list and watch', (signal) => this.#run(signal));
    }
  }

  async stop(): Promise<void> {
    await this.#tasks.stop();
    const error = new AbortedError(`wait for ${this.#type.plural}`);
    for (const waiting of [this.#firstList, ...this.#refreshes]) {
      waiting.reject(error);
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    let state: State = { kind: 'list', isReset: false };
    while (!signal.aborted) {
      try {
        if (state.kind === 'list' || this.#refreshes.length > 0) {
          state = await this.#list(signal, state.kind === 'list' && state.isReset);
        } else {
          await this.#watch(state.resourceVersion, signal, (resourceVersion) => {
            state = { kind: 'watch', resourceVersion };
          });
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        await sleep(this.#settings.clock, this.#failed(state, error), signal);
        if (needsList(error)) {
          state = { kind: 'list', isReset: hasCode(error, 'ResourceVersionTooLarge') };
        }
      }
    }
  }

  async #list(signal: AbortSignal, isReset: boolean): Promise<State> {
    const refreshes = this.#refreshes;
    const listed = await this.#client.list(this.#type, this.#parameters, {
      signal,
      deadlineMs: this.#settings.listDeadlineMs,
      transform: (object) => this.#prepare(object),
    });
    signal.throwIfAborted();
    this.#heard();
    if (this.#synced) {
      this.#settings.onRelist?.();
    }
    this.#tell(this.cache.replace(listed.items, isReset ? undefined : listed.resourceVersion));
    this.#synced = true;
    this.#refreshes = this.#refreshes.filter((each) => !refreshes.includes(each));
    for (const waiting of [this.#firstList, ...refreshes]) {
      waiting.resolve();
    }
    return { kind: 'watch', resourceVersion: listed.resourceVersion };
  }

  /**
   * Takes frames in until the watch ends.
   *
   * @param reached called with each version that the watch has come to
   */
  async #watch(from: string, signal: AbortSignal, reached: (version: string) => void): Promise<void> {
    const openedAt = this.#settings.clock.monotonic();
    const silence = new AbortController();
    const refresh = new AbortController();
    let timer = this.#guardSilence(silence);
    let frames = 0;
    this.#endWatch = () => refresh.abort();
    try {
      const stream = this.#client.watch(
        this.#type,
        { ...this.#parameters, resourceVersion: from, timeoutSeconds: this.#watchSeconds() },
        { signal: AbortSignal.any([signal, silence.signal, refresh.signal]) },
      );
      for await (const frame of stream) {
        signal.throwIfAborted();
        timer.cancel();
        timer = this.#guardSilence(silence);
        frames += 1;
        this.#heard();
        this.#backoff.reset();
        const version = this.#take(frame);
        if (version !== undefined && version !== '') {
          reached(version);
        }
      }
    } catch (error) {
      if (refresh.signal.aborted && !signal.aborted) {
        return;
      }
      throw silence.signal.aborted && !signal.aborted ? silence.signal.reason : error;
    } finally {
      this.#endWatch = undefined;
      timer.cancel();
      if (this.#settings.clock.monotonic() - openedAt >= HEALTHY_AFTER_MS) {
        this.#backoff.reset();
      }
    }
    if (frames === 0 && this.#settings.clock.monotonic() - openedAt < SHORT_WATCH_MS) {
      throw new EsbError('the watch ended at once', { code: 'WatchTooShort' });
    }
    this.#heard();
    this.#backoff.reset();
  }

  #watchSeconds(): number {
    const { watchSeconds } = this.#settings;
    return this.#interrupted
      ? Math.min(PROBE_WATCH_SECONDS, watchSeconds)
      : Math.ceil(watchSeconds * (1 - this.#settings.random() / 5));
  }

  #guardSilence(silence: AbortController): Timer {
    const { watchSilenceMs } = this.#settings;
    return this.#settings.clock.setTimer(() => {
      silence.abort(new EsbError(`no frame for ${watchSilenceMs} ms`, { code: 'WatchSilent' }));
    }, watchSilenceMs);
  }

  /** Takes a frame in; gives the version that the watch has come to. */
  #take(frame: WatchFrame<T>): string | undefined {
    switch (frame.kind) {
      case 'added':
      case 'modified':
        this.#tell(this.cache.set(this.#prepare(frame.object)));
        return frame.object.metadata.resourceVersion;
      case 'deleted':
        this.#tell(this.cache.remove(frame.object));
        return frame.object.metadata.resourceVersion;
      case 'bookmark':
        return frame.resourceVersion;
      default:
        return unreachable(frame);
    }
  }

  /** Logs an error; gives the milliseconds to wait. */
  #failed(state: State, error: unknown): number {
    this.#interrupted = true;
    const { code } = EsbError.from(error);
    const delayMs = this.#delayAfter(error);
    this.#logger.warn({ step: state.kind, code, error: messageOf(error), delayMs }, 'informer interrupted');
    return delayMs;
  }

  #delayAfter(error: unknown): number {
    const isFirst = this.#backoff.failures === 0;
    const grown = this.#backoff.next();
    // The first relist waits for the sake of the server, which others ask as well. Many in a row wait longer.
    const delayMs = isFirst && needsList(error) ? this.#settings.random() * this.#settings.relistSpreadMs : grown;
    const askedForMs = error instanceof ApiError ? error.retryAfterMs : undefined;
    if (askedForMs !== undefined) {
      return Math.max(delayMs, askedForMs * (1 + this.#settings.random() / 4));
    }
    // One new watch in the place of a dead one needs no patience.
    return isFirst && hasCode(error, 'WatchSilent') ? 0 : delayMs;
  }

  #prepare(object: T): T {
    delete (object.metadata as { managedFields?: unknown }).managedFields;
    return this.#settings.transform?.(object) ?? object;
  }

  #heard(): void {
    this.#successAt = this.#settings.clock.monotonic();
    this.#interrupted = false;
  }

  #tell(events: readonly CacheEvent<T>[]): void {
    for (const event of events) {
      for (const listener of this.#listeners) {
        this.#tellOne(listener, event);
      }
    }
  }

  #tellOne(listener: (event: CacheEvent<T>) => void, event: CacheEvent<T>): void {
    try {
      listener(event);
    } catch (error) {
      this.#logger.error({ err: error }, 'informer listener threw');
    }
  }
}
