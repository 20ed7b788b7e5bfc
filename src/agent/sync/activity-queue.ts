import { TokenBucket } from '../../common/bounds/token-bucket.ts';
import type { Clock } from '../../common/clock.ts';

/** Milliseconds that activity waits for its write at most. */
const longestMs = 300_000;
/** Milliseconds after which stamps alone, of a worker whose phase is written, ask for a write. */
const stampsMs = 150_000;
/** Writes that a node has at once after a time with few. */
const burst = 10;
/** Writes a second of all nodes of a cluster together. */
const clusterRate = 8;
/** Nodes of the cluster while nothing is known of them. */
const assumedNodes = 100;

/** The difference from the status that is written: the phase, or stamps alone. */
export type ActivityKind = 'Phase' | 'Stamps';

/**
 * Says when activity is written: a change of Running and Paused, and stamps of calls. Each node has its part of the
 * writes that a cluster has for that, in a token bucket, and a change gets one at once while there are few. When there
 * are many, changes wait in the order in which they came, and the latest state of a worker is what is written in the
 * end; none waits for more than five minutes, also where the bucket is empty.
 */
export class ActivityQueue<T> {
  readonly #clock: Clock;
  /** Monotonic milliseconds since which something of each differs, in that order. */
  readonly #since = new Map<T, number>();
  /** Entries that ask for a write at once, in order. */
  readonly #asking = new Set<T>();
  readonly #bucket: TokenBucket;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#bucket = new TokenBucket({ burst, everyMs: everyMsOf(assumedNodes) }, clock.monotonic());
  }

  /** Number of those that wait. */
  get size(): number {
    return this.#since.size;
  }

  /** The cluster has so many nodes now; undefined for no news of that. */
  shareAmong(nodes: number | undefined): void {
    if (nodes !== undefined) {
      this.#bucket.fillEvery(everyMsOf(nodes), this.#clock.monotonic());
    }
  }

  has(item: T): boolean {
    return this.#since.has(item);
  }

  /** Something differs; the time counts from the first such note. */
  note(item: T, kind: ActivityKind): void {
    if (!this.#since.has(item)) {
      this.#since.set(item, this.#clock.monotonic());
    }
    if (kind === 'Phase') {
      this.#asking.add(item);
    } else {
      this.#asking.delete(item);
    }
  }

  /** Nothing differs any more. */
  delete(item: T): void {
    this.#since.delete(item);
    this.#asking.delete(item);
  }

  /** Takes out one that is to be written now; undefined for none. */
  take(): T | undefined {
    const item = this.#due();
    if (item !== undefined) {
      this.delete(item);
      // One that could wait no longer is paid for by those that still can: the sum stays the same.
      const debt = longestMs / this.#bucket.everyMs + this.#bucket.level(this.#clock.monotonic());
      this.#bucket.take(Math.min(1, debt));
    }
    return item;
  }

  /** One that was taken needed no write for its activity. */
  giveBack(): void {
    this.#bucket.take(-1);
  }

  /** Monotonic milliseconds of the next {@link ActivityQueue.take} that may find something; infinite for never. */
  get nextAt(): number {
    const [first] = this.#since.values();
    if (first === undefined) {
      return Number.POSITIVE_INFINITY;
    }
    const now = this.#clock.monotonic();
    const asksAt = this.#asking.size > 0 ? now : first + stampsMs;
    const tokenAt = now + Math.ceil(this.#bucket.waitMs(now));
    return Math.min(first + longestMs, Math.max(asksAt, tokenAt));
  }

  #due(): T | undefined {
    const now = this.#clock.monotonic();
    const [[first, since] = [undefined, now]] = this.#since;
    if (since + longestMs <= now) {
      return first;
    }
    if (this.#bucket.waitMs(now) > 0) {
      return undefined;
    }
    const [asking] = this.#asking;
    return asking ?? (since + stampsMs <= now ? first : undefined);
  }
}

/** Milliseconds between two writes of one node, where the cluster has so many nodes. */
function everyMsOf(nodes: number): number {
  return (Math.max(1, nodes) / clusterRate) * 1_000;
}
