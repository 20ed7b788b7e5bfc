/** Largest window that is granted, in bytes. */
const MAX_WINDOW = 2 ** 20;

/** Bytes of one answer that may be on their way to a caller that tells what it has read. */
export class AnswerCredit {
  readonly #window: number;
  #sent = 0;
  #read = 0;
  #closed = false;
  #waiting: PromiseWithResolvers<void> | undefined;

  /**
   * @param from bytes that were on their way before
   * @param read bytes of these that the caller has read
   */
  constructor(window: number, from = 0, read = from) {
    this.#sent = from;
    this.#read = read;
    this.#window = Math.min(Math.max(1, window), MAX_WINDOW);
  }

  sent(bytes: number): void {
    this.#sent += bytes;
  }

  /** @param bytes from the beginning of the answer */
  read(bytes: number): void {
    this.#read = Math.max(this.#read, Math.min(bytes, this.#sent));
    this.#advance();
  }

  /** Resolves once the window has room; undefined for at once. */
  room(): Promise<void> | undefined {
    if (this.#isOpen) {
      return undefined;
    }
    this.#waiting ??= Promise.withResolvers<void>();
    return this.#waiting.promise;
  }

  /** The caller is gone: nothing waits any more. */
  close(): void {
    this.#closed = true;
    this.#advance();
  }

  get #isOpen(): boolean {
    return this.#closed || this.#sent - this.#read < this.#window;
  }

  #advance(): void {
    if (this.#isOpen) {
      this.#waiting?.resolve();
      this.#waiting = undefined;
    }
  }
}
