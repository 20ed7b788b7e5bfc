import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { DockerEvent, EventService } from '../../docker/event-service.ts';
import type { RuntimeEvent } from '../contract/runtime.ts';
import { EventSubscription } from '../lifecycle/event-subscription.ts';
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

/** Passes on the engine's events about workers, over every restart of the engine. */
export class DockerEventFeed {
  readonly #options: DockerEventFeedOptions;
  readonly #subscription: EventSubscription;

  constructor(options: DockerEventFeedOptions) {
    this.#options = options;
    this.#subscription = new EventSubscription({ ...options, retryEveryMs: RETRY_EVERY_MS });
  }

  /** Settles when the first subscription has begun. */
  get begun(): Promise<void> {
    return this.#subscription.begun;
  }

  /** Subscribes again and again until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { events, listener } = this.#options;
    await this.#subscription.run(async (ended, onConnected) => {
      for await (const event of events.follow(WORKER_LABEL, ended, onConnected)) {
        const own = runtimeEventOf(event);
        if (own !== undefined) {
          listener(own);
        }
      }
    }, signal);
  }
}

/** Translates an event of the engine; undefined for an event of no interest. */
export function runtimeEventOf({ action, containerName }: DockerEvent): RuntimeEvent | undefined {
  const kind = KINDS.get(action);
  return kind === undefined || containerName === '' ? undefined : { kind, containerId: containerName };
}
