import type { Arrival } from '../../init/contract.ts';

/** Bytes of one answer that have arrived at its gateway, by the word of that. */
export class ArrivedBytes implements Arrival {
  #bytes: number;
  #next: PromiseWithResolvers<void> | undefined;
  #whole = false;
  readonly #listeners: (() => void)[] = [];

  /** @param from bytes that arrived by way of an earlier run of the agent */
  constructor(from = 0) {
    this.#bytes = from;
  }

  get bytes(): number {
    return this.#bytes;
  }

  next(): Promise<void> {
    this.#next ??= Promise.withResolvers<void>();
    return this.#next.promise;
  }

  /** @param bytes from the beginning of the answer */
  note(bytes: number): void {
    if (bytes > this.#bytes) {
      this.#bytes = bytes;
      this.#next?.resolve();
      this.#next = undefined;
    }
  }

  onWhole(listener: () => void): void {
    if (this.#whole) {
      listener();
    } else {
      this.#listeners.push(listener);
    }
  }

  /** The whole answer has arrived, or no caller waits for it. */
  end(): void {
    this.#whole = true;
    this.note(Number.POSITIVE_INFINITY);
    for (const listener of this.#listeners.splice(0)) {
      listener();
    }
  }
}
