/** The hold of a request on the memory of the gateway, as its answer needs it. */
export interface AnswerHold {
  /**
   * Takes bytes of an answer that comes in. False, and none taken, when the gateway cannot keep them.
   *
   * @param size bytes of the answer so far, with these
   */
  takeAnswer(bytes: number, size: number): boolean;
  /** Takes bytes, or gives them back where negative. */
  add(bytes: number): void;
}

/** The client that waits for an answer. A minimal signal: each call has one, with at most one listener at a time. */
export class Caller {
  /** The address of the caller; empty for a call without a waiting client. */
  readonly address: string;
  /** Undefined where nothing is counted. */
  hold: AnswerHold | undefined;
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
