import { Backoff } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import {
  type EventLimits,
  type EventLoad,
  type EventPartition,
  type EventStore,
  NO_LOAD,
  storeUnavailable,
} from './event-store.ts';

/** Waits before a store that failed is opened again. */
const BACKOFF = { firstMs: 1_000, maxMs: 30_000 } as const;
/** Milliseconds between two looks for events. */
const POLL_MS = 1_000;

type State =
  | { readonly kind: 'Opening'; readonly failure: EsbError | undefined }
  | { readonly kind: 'Open'; readonly store: EventStore }
  | { readonly kind: 'Closed' };

export interface ReopeningEventStoreOptions {
  /**
   * Opens the store.
   *
   * @param onBroken to be called when the store will never work again
   */
  readonly open: (onBroken: (error: EsbError) => void, signal: AbortSignal) => Promise<EventStore>;
  readonly limits: EventLimits;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * A store that is opened until it works, and again after it broke. Meanwhile every method throws
 * `EventStoreUnavailable` with the reason: events alone are refused.
 */
export class ReopeningEventStore implements EventStore {
  readonly #options: ReopeningEventStoreOptions;
  readonly #tasks: TaskGroup;
  #state: State = { kind: 'Opening', failure: undefined };
  #lastLoad = NO_LOAD;

  constructor(options: ReopeningEventStoreOptions) {
    this.#options = options;
    this.#tasks = new TaskGroup((_task, error) => {
      options.logger.error({ err: error }, 'opening the event store was given up');
    });
  }

  get limits(): EventLimits {
    return this.#options.limits;
  }

  get pollMs(): number {
    return this.#state.kind === 'Open' ? this.#state.store.pollMs : POLL_MS;
  }

  /** Opens the store. Resolves after the first attempt, whose error is in {@link ReopeningEventStore.failure}. */
  async start(): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.#tasks.run('event store', async (signal) => {
      try {
        for (;;) {
          const broken = await this.#open(first.resolve, signal);
          this.#options.logger.error({ err: broken }, 'event store broke and is opened again');
          this.#state = { kind: 'Opening', failure: broken };
          await sleep(this.#options.clock, BACKOFF.firstMs, signal);
        }
      } finally {
        first.resolve();
      }
    });
    await first.promise;
  }

  /** The reason for which the store is not open; undefined when it is, or nothing is known yet. */
  get failure(): EsbError | undefined {
    return this.#state.kind === 'Opening' ? this.#state.failure : undefined;
  }

  readonly put: EventStore['put'] = (...args) => this.#with((store) => store.put(...args));
  readonly claim: EventStore['claim'] = (...args) => this.#with((store) => store.claim(...args));
  readonly renew: EventStore['renew'] = (...args) => this.#with((store) => store.renew(...args));
  readonly note: EventStore['note'] = (...args) => this.#with((store) => store.note(...args));
  readonly finish: EventStore['finish'] = (...args) => this.#with((store) => store.finish(...args));
  readonly postpone: EventStore['postpone'] = (...args) => this.#with((store) => store.postpone(...args));
  readonly exchange: EventStore['exchange'] = (...args) => this.#with((store) => store.exchange(...args));

  async partitions(): Promise<readonly EventPartition[]> {
    // Nothing is due in a store that is not open; a failure would be logged at each look.
    return this.#state.kind === 'Open' ? await this.#state.store.partitions() : [];
  }

  load(): EventLoad {
    if (this.#state.kind === 'Open') {
      this.#lastLoad = this.#state.store.load();
    }
    return this.#lastLoad;
  }

  health(): Health {
    switch (this.#state.kind) {
      case 'Open':
        return this.#state.store.health();
      case 'Opening': {
        const { failure } = this.#state;
        return {
          ok: false,
          reason: failure?.code ?? 'EventStoreOpening',
          message: failure?.message ?? 'the event store is being opened',
        };
      }
      case 'Closed':
        return { ok: false, reason: 'EventStoreClosed', message: 'the event store is closed' };
    }
  }

  async close(): Promise<void> {
    await this.#tasks.stop();
    const last = this.#state;
    this.#state = { kind: 'Closed' };
    if (last.kind === 'Open') {
      await last.store.close();
    }
  }

  /** Opens the store, and resolves with the reason once it has broken. */
  async #open(attempted: () => void, signal: AbortSignal): Promise<EsbError> {
    const { clock, logger, open } = this.#options;
    const backoff = new Backoff(BACKOFF);
    for (;;) {
      const broken = Promise.withResolvers<EsbError>();
      try {
        const store = await open(broken.resolve, signal);
        this.#state = { kind: 'Open', store };
        attempted();
        return await aborted(broken.promise, signal);
      } catch (error) {
        signal.throwIfAborted();
        const failure = EsbError.from(error);
        const retryMs = backoff.next();
        this.#state = { kind: 'Opening', failure };
        attempted();
        logger.error({ err: failure, retryMs }, 'event store cannot be opened: events are refused');
        await sleep(clock, retryMs, signal);
      }
    }
  }

  async #with<T>(work: (store: EventStore) => Promise<T>): Promise<T> {
    if (this.#state.kind !== 'Open') {
      const health = this.health();
      throw storeUnavailable(health.ok ? 'the event store is not open' : health.message, this.failure);
    }
    return await work(this.#state.store);
  }
}

/** Waits for `promise`. @throws the reason of the signal when the signal fires first */
async function aborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const fired = Promise.withResolvers<never>();
  const onAbort = (): void => fired.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    signal.throwIfAborted();
    return await Promise.race([promise, fired.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
