import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { RuntimeEventListener } from './runtime-events.ts';

export interface EventSubscriptionOptions {
  /** Passes events on until the subscription ends; calls `onConnected` once the subscription has begun. */
  readonly subscribe: (signal: AbortSignal, onConnected: () => void) => Promise<void>;
  readonly listener: RuntimeEventListener;
  /** Milliseconds from the end of a subscription to the next one. */
  readonly retryEveryMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Subscribes to the events of an engine over every restart of the engine, and reports the gaps. */
export class EventSubscription {
  readonly #options: EventSubscriptionOptions;
  readonly #begun = Promise.withResolvers<void>();
  #state: 'New' | 'Connected' | 'Lost' = 'New';

  constructor(options: EventSubscriptionOptions) {
    this.#options = options;
  }

  /** Settles when the first subscription has begun. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Subscribes again and again until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, listener, logger, retryEveryMs, subscribe } = this.#options;
    while (!signal.aborted) {
      try {
        await subscribe(signal, () => this.#connected());
        logger.info('the engine ended the event subscription');
      } catch (error) {
        if (!signal.aborted) {
          logger.info({ err: error }, 'the event subscription ended');
        }
      }
      if (this.#state === 'Connected' && !signal.aborted) {
        this.#state = 'Lost';
        listener({ kind: 'Disconnected', containerId: '' });
      }
      await sleep(clock, retryEveryMs, signal).catch(() => undefined);
    }
  }

  #connected(): void {
    if (this.#state === 'Lost') {
      this.#options.logger.info('the event subscription is back');
      this.#options.listener({ kind: 'Reconnected', containerId: '' });
    }
    this.#state = 'Connected';
    this.#begun.resolve();
  }
}
