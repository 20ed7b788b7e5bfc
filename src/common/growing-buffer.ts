/** Bytes of the first buffer for several pieces. */
const FIRST_BYTES = 16 * 1024;

const EMPTY = Buffer.alloc(0);

/**
 * Bytes that come in pieces of any size, copied together: a piece of one byte kept by itself would take hundreds. At
 * most twice as long as its content, but for the first 16 KiB.
 */
export class GrowingBuffer {
  readonly #expected: number;
  #buffer: Buffer = EMPTY;
  #length = 0;

  /** @param expected bytes of the whole, if they are known: a buffer does not grow beyond that before it has to */
  constructor(expected: number = Number.POSITIVE_INFINITY) {
    this.#expected = expected;
  }

  get length(): number {
    return this.#length;
  }

  /** Bytes of memory, which is more than the content where the buffer has grown. */
  get memory(): number {
    return this.#buffer.length;
  }

  append(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (this.#length === 0) {
      // Most things come in one piece, which is not copied.
      this.#buffer = piece;
    } else {
      if (length > this.#buffer.length) {
        this.#grow(length);
      }
      piece.copy(this.#buffer, this.#length);
    }
    this.#length = length;
  }

  /** The whole content. Nothing may be appended afterwards. */
  whole(): Buffer {
    return this.#length === this.#buffer.length ? this.#buffer : this.#buffer.subarray(0, this.#length);
  }

  /** Empties the buffer. Bytes given by {@link GrowingBuffer.whole} stay unchanged. */
  clear(): void {
    this.#buffer = EMPTY;
    this.#length = 0;
  }

  #grow(length: number): void {
    const wanted = Math.max(FIRST_BYTES, length * 2);
    const grown = Buffer.allocUnsafeSlow(Math.max(length, Math.min(wanted, this.#expected)));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}
