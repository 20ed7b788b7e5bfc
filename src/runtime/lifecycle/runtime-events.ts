import type { Logger } from '../../common/logger.ts';
import type { RuntimeEvent } from '../contract/runtime.ts';

export type RuntimeEventListener = (event: RuntimeEvent) => void;

/** The hints of one runtime and their listeners, called in the order of their subscriptions. */
export class RuntimeEvents {
  readonly #logger: Logger;
  readonly #listeners = new Set<RuntimeEventListener>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Returns the function that ends the subscription. */
  subscribe(listener: RuntimeEventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Passes an event to every listener. A listener that throws is logged. */
  publish(event: RuntimeEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#logger.error({ err: error, event: event.kind }, 'a listener to events failed');
      }
    }
  }
}
