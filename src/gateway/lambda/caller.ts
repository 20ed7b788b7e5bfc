/** The client that waits for an answer. A minimal signal: each call has one, with at most one listener at a time. */
export class Caller {
  /** The address of the caller; empty for a call without a waiting client. */
  readonly address: string;
  #gone = false;
  #onGone: (() => void) | undefined;

  constructor(address = '') {
    this.address = address;
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** The listener for the hang-up, in place of the one before; undefined for none. */
  set onGone(listener: (() => void) | undefined) {
    this.#onGone = listener;
  }

  hangUp(): void {
    if (!this.#gone) {
      this.#gone = true;
      this.#onGone?.();
    }
  }
}
