import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';

const PIECE_BYTES = 1024 * 1024;

/**
 * Disk space for the ends of events: a file of zeros, removed when the disk is full. The end of an event frees space in
 * the store, and needs some first.
 *
 * Synchronous, for a thread of its own.
 */
export class DiskReserve {
  readonly #file: string;
  readonly #bytes: number;

  /** @param bytes kept free */
  constructor(file: string, bytes: number) {
    this.#file = file;
    this.#bytes = bytes;
  }

  /** Takes the room, unless it is taken. Returns false when the disk has none. */
  take(): boolean {
    if (this.#isTaken()) {
      return true;
    }
    // Under another name until it is whole.
    const fresh = `${this.#file}.new`;
    try {
      const handle = openSync(fresh, 'w', 0o600);
      try {
        const piece = Buffer.alloc(Math.min(PIECE_BYTES, this.#bytes));
        for (let left = this.#bytes; left > 0; ) {
          left -= writeSync(handle, piece, 0, Math.min(left, piece.length));
        }
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
      renameSync(fresh, this.#file);
      return true;
    } catch {
      rmSync(fresh, { force: true });
      return false;
    }
  }

  /** Gives the room back to the disk. */
  release(): void {
    rmSync(this.#file, { force: true });
  }

  #isTaken(): boolean {
    return statSync(this.#file, { throwIfNoEntry: false })?.size === this.#bytes;
  }
}
