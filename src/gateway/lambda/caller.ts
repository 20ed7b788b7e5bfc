/**
 * Whoever waits for an answer. A signal of the leanest kind: there is one for each call, and at most one thing at a
 * time has to know when the caller leaves.
 */
export class Caller {
  /** Where the caller is; empty for calls that nobody waits for. */
  readonly address: string;
  #gone = false;
  #onGone: (() => void) | undefined;
  #aborter: AbortController | undefined;

  constructor(address = '') {
    this.address = address;
  }

  /** Whether the caller has hung up. */
  get gone(): boolean {
    return this.#gone;
  }

  /** What is to be done when the caller hangs up, in place of what was to be done before; undefined for nothing. */
  set onGone(listener: (() => void) | undefined) {
    this.#onGone = listener;
  }

  /** Fires when the caller hangs up; for what knows only signals. Made when it is first asked for, being dear. */
  get signal(): AbortSignal {
    if (this.#aborter === undefined) {
      this.#aborter = new AbortController();
      if (this.#gone) {
        this.#aborter.abort();
      }
    }
    return this.#aborter.signal;
  }

  /** The caller has hung up. */
  hangUp(): void {
    if (!this.#gone) {
      this.#gone = true;
      this.#onGone?.();
      this.#aborter?.abort();
    }
  }
}
