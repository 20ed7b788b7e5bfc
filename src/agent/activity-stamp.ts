import type { Clock } from '../common/clock.ts';

/** Stamps of a worker that are remembered; a gateway's patch is a few seconds late at most. */
const maxRemembered = 4_096;

const form = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

/** Issues the stamps of one node: wall-clock time in microseconds (RFC 3339, UTC), each later than the one before. */
export class StampSource {
  readonly #clock: Clock;
  #last = 0;
  /** Text of the present second: a stamp is issued for every call. */
  #second = Number.NaN;
  #prefix = '';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  next(): string {
    // The wall clock may step back; the stamps do not.
    this.#last = Math.max(Math.floor(this.#clock.now() * 1_000), this.#last + 1);
    const second = Math.floor(this.#last / 1_000_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#prefix = formatStamp(second * 1_000_000).slice(0, -7);
    }
    return `${this.#prefix}${String(this.#last - second * 1_000_000).padStart(6, '0')}Z`;
  }

  /** No later stamp is earlier than this one, which an earlier run of the agent issued. */
  notBefore(stamp: string): void {
    this.#last = Math.max(this.#last, parseStamp(stamp) ?? 0);
  }
}

/** The stamps that this agent has issued for one worker, as far back as a late patch may come. */
export class IssuedStamps {
  readonly #issued = new Set<string>();

  constructor(stamps: readonly string[] = []) {
    for (const stamp of stamps) {
      this.add(stamp);
    }
  }

  add(stamp: string): void {
    this.#issued.add(stamp);
    if (this.#issued.size > maxRemembered) {
      // The first in is the oldest.
      for (const oldest of this.#issued) {
        this.#issued.delete(oldest);
        return;
      }
    }
  }

  has(stamp: string): boolean {
    return this.#issued.has(stamp);
  }

  /** The latest ones, to be kept on disk. */
  latest(count: number): readonly string[] {
    return [...this.#issued].slice(-count);
  }
}

function formatStamp(microseconds: number): string {
  const milliseconds = Math.floor(microseconds / 1_000);
  const rest = String(microseconds - milliseconds * 1_000).padStart(3, '0');
  return `${new Date(milliseconds).toISOString().slice(0, -1)}${rest}Z`;
}

/** Microseconds since the epoch of a stamp in our own form; undefined for any other text. */
function parseStamp(stamp: string): number | undefined {
  if (!form.test(stamp)) {
    return undefined;
  }
  const milliseconds = Date.parse(`${stamp.slice(0, 23)}Z`);
  return Number.isNaN(milliseconds) ? undefined : milliseconds * 1_000 + Number(stamp.slice(23, 26));
}
