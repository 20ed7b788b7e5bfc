import type { PullProgress } from '../../containerd/transfer-service.ts';

const mebibyte = 2 ** 20;

interface Piece {
  readonly done: number;
  readonly total: number;
}

/** How far a pull is, put together from what containerd tells of each piece. */
export class PullMeter {
  /** By name. An index, a manifest and a configuration are pieces too, of a few kilobytes each. */
  readonly #pieces = new Map<string, Piece>();
  #extracting = false;

  /** @returns whether something moved: bytes came, or layers are being unpacked */
  note({ event, name, done, total }: PullProgress): boolean {
    const before = this.#pieces.get(name);
    switch (event) {
      case 'waiting':
      case 'downloading':
      case 'complete':
      case 'already exists':
        this.#pieces.set(name, { done: Math.max(done, before?.done ?? 0), total: Math.max(total, done) });
        return (this.#pieces.get(name)?.done ?? 0) > (before?.done ?? -1);
      case 'extracting':
      case 'extracted':
        // Of layers only, and only once they are here.
        this.#extracting = true;
        return true;
      default:
        // Sentences about the pull as a whole.
        return true;
    }
  }

  /** Such as `34.1 of 120.0 MiB (28 %)`; undefined before anything is known. */
  text(): string | undefined {
    let done = 0;
    let total = 0;
    for (const piece of this.#pieces.values()) {
      done += piece.done;
      total += piece.total;
    }
    if (total === 0) {
      return undefined;
    }
    if (this.#extracting && done >= total) {
      return `unpacking ${(total / mebibyte).toFixed(1)} MiB`;
    }
    const percent = Math.floor((done / total) * 100);
    return `${(done / mebibyte).toFixed(1)} of ${(total / mebibyte).toFixed(1)} MiB (${percent} %)`;
  }
}
