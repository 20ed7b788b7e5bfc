import type { Arrival } from '../../init/contract.ts';

/** Bytes of one answer that have arrived at its gateway, by the word of that. */
export class ArrivedBytes implements Arrival {
  #bytes: number;
  #next: PromiseWithResolvers<void> | undefined;

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

  /** No byte need be kept any more where the answer is lost to its caller. */
  closeIf(isLost: boolean): void {
    if (isLost) {
      this.note(Number.POSITIVE_INFINITY);
    }
  }
}
