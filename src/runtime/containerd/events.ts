import { randomUUID } from 'node:crypto';
import type { Timer } from '../../common/clock.ts';
import { isAborted } from '../../common/deadline.ts';
import type { ContainerdEvent, EventService } from '../../containerd/event-service.ts';
import type { RuntimeEvent } from '../contract/runtime.ts';
import { EventSubscription, type EventSubscriptionOptions } from '../lifecycle/event-subscription.ts';

export interface ContainerdEventsOptions extends Pick<EventSubscriptionOptions, 'listener' | 'clock' | 'logger'> {
  readonly events: EventService;
  readonly namespace: string;
}

/** Topic of events that the feed sends to itself: containerd reports neither begin nor death of a subscription. */
const ECHO_TOPIC = '/esb/echo';
const ECHO_EVERY_MS = 30_000;
const ECHO_DEADLINE_MS = 10_000;
const FIRST_ECHO_EVERY_MS = 20;
const RETRY_EVERY_MS = 100;
const KINDS: ReadonlyMap<string, RuntimeEvent['kind']> = new Map([
  ['/tasks/create', 'Created'],
  ['/tasks/start', 'Created'],
  ['/tasks/exit', 'Exited'],
  ['/tasks/oom', 'OutOfMemory'],
  ['/tasks/paused', 'Paused'],
  ['/tasks/resumed', 'Resumed'],
  ['/tasks/delete', 'Deleted'],
]);

/** Passes on containerd's events about tasks, over every restart of containerd. */
export function containerdEvents(options: ContainerdEventsOptions): EventSubscription {
  const { events, listener, namespace } = options;
  const filters = [`namespace==${namespace},topic~="^/tasks/"`, `namespace==${namespace},topic=="${ECHO_TOPIC}"`];
  return new EventSubscription({
    ...options,
    retryEveryMs: RETRY_EVERY_MS,
    async subscribe(ended, onConnected) {
      const controller = new AbortController();
      const signal = AbortSignal.any([ended, controller.signal]);
      const echo = new Echo(options, signal, () => controller.abort());
      echo.start();
      try {
        for await (const event of events.subscribe(filters, { signal })) {
          const kind = kindOf(event);
          if (kind !== undefined) {
            listener({ kind, containerId: event.containerId });
          } else if (event.topic === ECHO_TOPIC && echo.heard(event.payload)) {
            onConnected();
          }
        }
      } finally {
        echo.stop();
        controller.abort();
      }
    },
  });
}

function kindOf({ containerId, processId, topic }: ContainerdEvent): RuntimeEvent['kind'] | undefined {
  // containerd reports processes that were executed into a container as well.
  return topic === '/tasks/exit' && processId !== containerId ? undefined : KINDS.get(topic);
}

/** Publishes events until one comes back, then now and then. Ends a subscription that returns none. */
class Echo {
  readonly #options: ContainerdEventsOptions;
  readonly #signal: AbortSignal;
  readonly #end: () => void;
  readonly #id = randomUUID();
  #established = false;
  #sendTimer: Timer | undefined;
  #deadline: Timer | undefined;

  constructor(options: ContainerdEventsOptions, signal: AbortSignal, end: () => void) {
    this.#options = options;
    this.#signal = signal;
    this.#end = end;
  }

  start(): void {
    this.#expect();
    this.#send();
  }

  stop(): void {
    this.#sendTimer?.cancel();
    this.#deadline?.cancel();
  }

  /** Notes an echo. Returns whether it is the first one of this subscription. */
  heard(payload: Buffer): boolean {
    if (payload.toString() !== this.#id) {
      return false;
    }
    this.#deadline?.cancel();
    this.#deadline = undefined;
    const first = !this.#established;
    this.#established = true;
    this.#sendTimer?.cancel();
    this.#sendTimer = this.#options.clock.setTimer(() => {
      this.#expect();
      this.#send();
    }, ECHO_EVERY_MS);
    return first;
  }

  #expect(): void {
    this.#deadline ??= this.#options.clock.setTimer(() => {
      this.#options.logger.warn('containerd does not return events; subscribing again');
      this.#end();
    }, ECHO_DEADLINE_MS);
  }

  #send(): void {
    const { clock, events, logger } = this.#options;
    const signal = this.#signal;
    if (signal.aborted) {
      return;
    }
    // Echoes from before the subscription are lost: until one comes back they are sent often.
    this.#sendTimer = clock.setTimer(() => this.#send(), FIRST_ECHO_EVERY_MS);
    events.publish(ECHO_TOPIC, Buffer.from(this.#id), { signal, deadlineMs: ECHO_DEADLINE_MS }).catch((error) => {
      if (!isAborted(error)) {
        logger.debug({ err: error }, 'an echo could not be published');
      }
    });
  }
}
