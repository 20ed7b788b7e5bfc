/**
 * Whoever waits for an answer. A signal of the leanest kind: there is one for each call, and at most one thing at a
 * time has to know when the caller leaves.
 */
export class Caller {
  #gone = false;
  #onGone: (() => void) | undefined;

  /** Whether the caller has hung up. */
  get gone(): boolean {
    return this.#gone;
  }

  /** What is to be done when the caller hangs up, in place of what was to be done before; undefined for nothing. */
  set onGone(listener: (() => void) | undefined) {
    this.#onGone = listener;
  }

  /** The caller has hung up. */
  hangUp(): void {
    if (!this.#gone) {
      this.#gone = true;
      this.#onGone?.();
    }
  }
}
