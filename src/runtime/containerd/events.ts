import { randomUUID } from 'node:crypto';
import type { Clock, Timer } from '../../common/clock.ts';
import { isAborted, sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerdEvent, EventService } from '../../containerd/event-service.ts';
import type { RuntimeEvent } from '../contract/runtime.ts';

export interface EventFeedOptions {
  readonly events: EventService;
  readonly namespace: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly listener: (event: RuntimeEvent) => void;
}

/** Events that the feed sends to itself: containerd does not say when a subscription has begun, nor that one is dead. */
const ECHO_TOPIC = '/esb/echo';
const ECHO_EVERY_MS = 30_000;
const ECHO_DEADLINE_MS = 10_000;
const FIRST_ECHO_EVERY_MS = 20;
const RETRY_EVERY_MS = 100;

/** Passes on containerd's events about tasks, over every restart of it. */
export class EventFeed {
  readonly #options: EventFeedOptions;
  readonly #filters: readonly string[];
  readonly #begun = Promise.withResolvers<void>();
  #wasConnected = false;
  #isConnected = false;

  constructor(options: EventFeedOptions) {
    this.#options = options;
    this.#filters = [
      `namespace==${options.namespace},topic~="^/tasks/"`,
      `namespace==${options.namespace},topic=="${ECHO_TOPIC}"`,
    ];
  }

  /** Settles when the first subscription has begun. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Subscribes again and again until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    while (!signal.aborted) {
      const controller = new AbortController();
      const end = (): void => controller.abort();
      signal.addEventListener('abort', end, { once: true });
      try {
        await this.#subscription(controller);
      } catch (error) {
        if (!signal.aborted) {
          logger.info({ err: error }, 'the event subscription ended');
        }
      } finally {
        controller.abort();
        signal.removeEventListener('abort', end);
      }
      this.#disconnected(signal);
      await sleep(clock, RETRY_EVERY_MS, signal).catch(() => undefined);
    }
  }

  async #subscription(controller: AbortController): Promise<void> {
    const { events, logger } = this.#options;
    const echo = new Echo(this.#options, controller);
    echo.start();
    try {
      for await (const event of events.subscribe(this.#filters, { signal: controller.signal })) {
        if (event.topic !== ECHO_TOPIC) {
          this.#pass(event);
        } else if (echo.heard(event.payload)) {
          this.#connected();
        }
      }
      logger.info('containerd ended the event subscription');
    } finally {
      echo.stop();
    }
  }

  #connected(): void {
    if (this.#wasConnected) {
      this.#options.logger.info('the event subscription is back');
      this.#options.listener({ kind: 'Reconnected', containerId: '' });
    }
    this.#wasConnected = true;
    this.#isConnected = true;
    this.#begun.resolve();
  }

  #disconnected(signal: AbortSignal): void {
    if (this.#isConnected && !signal.aborted) {
      this.#options.listener({ kind: 'Disconnected', containerId: '' });
    }
    this.#isConnected = false;
  }

  #pass(event: ContainerdEvent): void {
    const kind = kindOf(event);
    if (kind !== undefined) {
      this.#options.listener({ kind, containerId: event.containerId });
    }
  }
}

function kindOf(event: ContainerdEvent): RuntimeEvent['kind'] | undefined {
  switch (event.topic) {
    case '/tasks/exit':
      // Also told of processes that somebody executed into a container.
      return event.processId === event.containerId ? 'Exited' : undefined;
    case '/tasks/oom':
      return 'OutOfMemory';
    case '/tasks/paused':
      return 'Paused';
    case '/tasks/resumed':
      return 'Resumed';
    case '/tasks/create':
    case '/tasks/start':
      return 'Created';
    case '/tasks/delete':
      return 'Deleted';
    default:
      return undefined;
  }
}

/** Publishes events until one comes back, then now and then; a subscription that does not return one is ended. */
class Echo {
  readonly #options: EventFeedOptions;
  readonly #controller: AbortController;
  readonly #id = randomUUID();
  #established = false;
  #sendTimer: Timer | undefined;
  #deadline: Timer | undefined;

  constructor(options: EventFeedOptions, controller: AbortController) {
    this.#options = options;
    this.#controller = controller;
  }

  start(): void {
    this.#expect();
    this.#send();
  }

  stop(): void {
    this.#sendTimer?.cancel();
    this.#deadline?.cancel();
  }

  /** Whether this is the first of ours. */
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
      this.#options.logger.warn('containerd does not return events and is subscribed to anew');
      this.#controller.abort();
    }, ECHO_DEADLINE_MS);
  }

  #send(): void {
    const { clock, events, logger } = this.#options;
    const { signal } = this.#controller;
    if (signal.aborted) {
      return;
    }
    // What was published before the subscription began is lost, so until one comes back they are sent often.
    this.#sendTimer = clock.setTimer(() => this.#send(), FIRST_ECHO_EVERY_MS);
    events
      .publish(ECHO_TOPIC, Buffer.from(this.#id), { signal, deadlineMs: ECHO_DEADLINE_MS })
      .catch((error) => {
        if (!isAborted(error)) {
          logger.debug({ err: error }, 'an echo could not be published');
        }
      });
  }
}
