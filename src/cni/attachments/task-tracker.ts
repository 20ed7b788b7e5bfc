/** Keeps promises until they settle, so that whoever stops can wait for what is under way. */
export class TaskTracker {
  readonly #running = new Set<Promise<unknown>>();

  own<T>(promise: Promise<T>): Promise<T> {
    const forget = (): void => {
      this.#running.delete(promise);
    };
    this.#running.add(promise);
    promise.then(forget, forget);
    return promise;
  }

  /** Waits until nothing is under way, also what began meanwhile. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) {
      await Promise.allSettled(this.#running);
    }
  }
}
