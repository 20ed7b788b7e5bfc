import type { DockerEvent, EventService } from '../../docker/event-service.ts';
import type { RuntimeEvent } from '../contract/runtime.ts';
import { EventSubscription, type EventSubscriptionOptions } from '../lifecycle/event-subscription.ts';
import { WORKER_LABEL } from './labels.ts';

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
export function dockerEvents(
  service: EventService,
  options: Pick<EventSubscriptionOptions, 'listener' | 'clock' | 'logger'>,
): EventSubscription {
  return new EventSubscription({
    ...options,
    retryEveryMs: RETRY_EVERY_MS,
    async subscribe(signal, onConnected) {
      for await (const event of service.follow(WORKER_LABEL, signal, onConnected)) {
        const own = runtimeEventOf(event);
        if (own !== undefined) {
          options.listener(own);
        }
      }
    },
  });
}

/** Translates an event of the engine; undefined for an event of no interest. */
export function runtimeEventOf({ action, containerName }: DockerEvent): RuntimeEvent | undefined {
  const kind = KINDS.get(action);
  return kind === undefined || containerName === '' ? undefined : { kind, containerId: containerName };
}
