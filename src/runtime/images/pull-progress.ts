import type { PullProgress } from '../../containerd/transfer-service.ts';

const mebibyte = 2 ** 20;

interface Piece {
  readonly done: number;
  readonly total: number;
}

/** Progress of a pull, summed over its pieces. */
export class PullMeter {
  /** Pieces by name. Index, manifest and configuration are pieces too, of a few kilobytes each. */
  readonly #pieces = new Map<string, Piece>();
  #extracting = false;

  /** @returns whether there was progress: bytes came, or layers are being unpacked */
  note({ event, name, done, total }: PullProgress): boolean {
    const before = this.#pieces.get(name);
    switch (event) {
      case 'waiting':
      case 'downloading':
      case 'complete':
      case 'already exists':
        return this.#advance(name, done, Math.max(total, done));
      case 'download complete':
        // Docker gives a layer's size only while the layer moves.
        return this.#advance(name, before?.total ?? 0, 0);
      case 'extracting':
      case 'extracted':
        // Events of layers only, after their download.
        this.#extracting = true;
        return true;
      default:
        // Sentences about the whole pull.
        return true;
    }
  }

  #advance(name: string, done: number, total: number): boolean {
    const before = this.#pieces.get(name);
    const piece = { done: Math.max(done, before?.done ?? 0), total: Math.max(total, before?.total ?? 0) };
    this.#pieces.set(name, piece);
    return piece.done > (before?.done ?? -1);
  }

  /** Text such as `34.1 of 120.0 MiB (28 %)`; undefined before any progress. */
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
