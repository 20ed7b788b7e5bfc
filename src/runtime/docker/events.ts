import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { DockerEvent, EventService } from '../../docker/event-service.ts';
import type { RuntimeEvent } from '../contract/runtime.ts';
import { WORKER_LABEL } from './labels.ts';

export interface DockerEventFeedOptions {
  readonly events: EventService;
  readonly listener: (event: RuntimeEvent) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

const RETRY_EVERY_MS = 200;
const KINDS: ReadonlyMap<string, RuntimeEvent['kind']> = new Map([
  ['create', 'Created'],
  ['die', 'Exited'],
  ['oom', 'OutOfMemory'],
  ['pause', 'Paused'],
  ['unpause', 'Resumed'],
  ['destroy', 'Deleted'],
]);

/** Passes on the engine's events about workers, over every restart of it. */
export class DockerEventFeed {
  readonly #options: DockerEventFeedOptions;
  readonly #begun = Promise.withResolvers<void>();
  #wasConnected = false;
  #isConnected = false;

  constructor(options: DockerEventFeedOptions) {
    this.#options = options;
  }

  /** Settles when the first subscription has begun. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Subscribes again and again until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, events, listener, logger } = this.#options;
    while (!signal.aborted) {
      try {
        for await (const event of events.follow(WORKER_LABEL, signal, () => this.#connected())) {
          const told = runtimeEventOf(event);
          if (told !== undefined) {
            listener(told);
          }
        }
      } catch (error) {
        if (!signal.aborted) {
          logger.info({ err: error }, 'the event subscription ended');
        }
      }
      if (this.#isConnected && !signal.aborted) {
        listener({ kind: 'Disconnected', containerId: '' });
      }
      this.#isConnected = false;
      await sleep(clock, RETRY_EVERY_MS, signal).catch(() => undefined);
    }
  }

  #connected(): void {
    if (this.#wasConnected) {
      this.#options.listener({ kind: 'Reconnected', containerId: '' });
    }
    this.#wasConnected = true;
    this.#isConnected = true;
    this.#begun.resolve();
  }
}

/** What an event of the engine means; undefined for what nobody here cares about. */
export function runtimeEventOf({ action, containerName }: DockerEvent): RuntimeEvent | undefined {
  const kind = KINDS.get(action);
  return kind === undefined || containerName === '' ? undefined : { kind, containerId: containerName };
}
