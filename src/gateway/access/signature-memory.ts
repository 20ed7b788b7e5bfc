/** Milliseconds of signing times that share a table. */
const SPAN_MS = 60_000;
/** Slots of a new table; a power of two. */
const FIRST_SLOTS = 1_024;
/** Most marks at a time: at 16 bytes a slot and up to three quarters of the slots free, 256 MiB. */
const MAX_MARKS = 4_194_304;

/**
 * No access key may have more marks than this many times what is still free: one alone has seven eighths of them, and the next one always
 * finds room.
 */
const SHARE_OF_FREE = 7;

/** What is known of a signature that comes in. */
export type Sighting =
  /** It had not been seen. */
  | { readonly kind: 'new' }
  /** It came in before, at this time; milliseconds since the epoch. */
  | { readonly kind: 'seen'; readonly firstAtMs: number }
  /** There is no room to remember one more of its key. */
  | { readonly kind: 'full' };

const NEW: Sighting = { kind: 'new' };
const FULL: Sighting = { kind: 'full' };

/**
 * Remembers signatures for as long as they are good, and when each came in first. One is known by 52 of its bits: they are the
 * output of a keyed hash, and only those that were found to be right are kept, so nobody can aim at another's. With a million
 * of them at hand one in four thousand million is taken for another.
 */
export class SignatureMemory {
  readonly #windowMs: number;
  readonly #maxMarks: number;
  /** By the minute in which they were signed: what is no longer good goes with its table. */
  readonly #tables = new Map<number, MarkTable>();
  readonly #sizes = new Map<string, number>();
  #size = 0;

  /**
   * @param windowMs milliseconds after its time of signing in which a signature is good
   */
  constructor(windowMs: number, maxMarks = MAX_MARKS) {
    this.#windowMs = windowMs;
    this.#maxMarks = maxMarks;
  }

  /** Signatures that are kept. */
  get size(): number {
    return this.#size;
  }

  /**
   * Tells whether a signature was seen, and remembers it.
   *
   * @param key the access key that it is by
   * @param signature at least 13 hexadecimal digits, as good as random
   * @param signedAtMs when it was made, as it says; milliseconds since the epoch
   * @param now the same for the present
   */
  sight(key: string, signature: string, signedAtMs: number, now: number): Sighting {
    const span = Math.floor(signedAtMs / SPAN_MS);
    let table = this.#tables.get(span);
    if (table === undefined) {
      this.#forget(now);
      table = new MarkTable();
      this.#tables.set(span, table);
    }
    // No mark is 0, which is a free slot.
    const mark = Number.parseInt(signature.slice(0, 13), 16) + 1;
    const ofKey = this.#sizes.get(key) ?? 0;
    if (ofKey >= (this.#maxMarks - this.#size) * SHARE_OF_FREE) {
      const firstAtMs = table.get(mark);
      return firstAtMs === undefined ? FULL : { kind: 'seen', firstAtMs };
    }
    const firstAtMs = table.add(mark, now);
    if (firstAtMs !== undefined) {
      return { kind: 'seen', firstAtMs };
    }
    this.#size += 1;
    this.#sizes.set(key, ofKey + 1);
    table.sizes.set(key, (table.sizes.get(key) ?? 0) + 1);
    return NEW;
  }

  #forget(now: number): void {
    for (const [span, table] of this.#tables) {
      if ((span + 1) * SPAN_MS + this.#windowMs < now) {
        this.#tables.delete(span);
        this.#size -= table.size;
        for (const [key, size] of table.sizes) {
          const left = (this.#sizes.get(key) ?? 0) - size;
          if (left > 0) {
            this.#sizes.set(key, left);
          } else {
            this.#sizes.delete(key);
          }
        }
      }
    }
  }
}

/** Times by marks (whole numbers from 1 up), in one piece of memory that the garbage collector does not walk. */
class MarkTable {
  /** Mark and time in turn. */
  #slots = new Float64Array(FIRST_SLOTS * 2);
  size = 0;
  /** Marks of each access key. */
  readonly sizes = new Map<string, number>();

  get(mark: number): number | undefined {
    const at = this.#find(mark);
    return this.#slots[at] === mark ? this.#slots[at + 1] : undefined;
  }

  /** @returns the time that the mark has already; undefined when it is new and has `time` from now on */
  add(mark: number, time: number): number | undefined {
    if (this.size * 4 >= this.#slots.length) {
      this.#grow();
    }
    const at = this.#find(mark);
    if (this.#slots[at] === mark) {
      return this.#slots[at + 1];
    }
    this.#slots[at] = mark;
    this.#slots[at + 1] = time;
    this.size += 1;
    return undefined;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Float64Array(old.length * 2);
    for (let from = 0; from < old.length; from += 2) {
      const mark = old[from] ?? 0;
      if (mark !== 0) {
        const at = this.#find(mark);
        this.#slots[at] = mark;
        this.#slots[at + 1] = old[from + 1] ?? 0;
      }
    }
  }

  /** Where a mark is, or would be put. */
  #find(mark: number): number {
    const mask = this.#slots.length / 2 - 1;
    // Marks are as good as random, so that their lowest bits spread them.
    for (let slot = (mark % 0x1_0000_0000) & mask; ; slot = (slot + 1) & mask) {
      const there = this.#slots[slot * 2] ?? 0;
      if (there === mark || there === 0) {
        return slot * 2;
      }
    }
  }
}
