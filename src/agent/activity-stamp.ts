import type { Clock } from '../common/clock.ts';

/** Stamps of a worker that are remembered; a gateway's patch is a few seconds late at most. */
const maxRemembered = 4_096;

const form = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

/** Issues the stamps of one node: wall-clock time in microseconds (RFC 3339, UTC), each later than the one before. */
export class StampSource {
  readonly #clock: Clock;
  #last = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  next(): string {
    // The wall clock may step back; the stamps do not.
    this.#last = Math.max(Math.floor(this.#clock.now() * 1_000), this.#last + 1);
    return formatStamp(this.#last);
  }

  /** No later stamp is earlier than this one, which an earlier run of the agent issued. */
  notBefore(stamp: string): void {
    this.#last = Math.max(this.#last, parseStamp(stamp) ?? 0);
  }
}

/** The stamps that this agent has issued for one worker, as far back as a late patch may come. */
export class IssuedStamps {
  /** Microseconds since the epoch, ascending. */
  #issued: number[] = [];

  constructor(stamps: readonly string[] = []) {
    for (const stamp of stamps) {
      this.add(stamp);
    }
  }

  add(stamp: string): void {
    const value = parseStamp(stamp);
    if (value === undefined) {
      return;
    }
    this.#issued.push(value);
    if (this.#issued.length > 2 * maxRemembered) {
      this.#issued = this.#issued.slice(-maxRemembered);
    }
  }

  has(stamp: string): boolean {
    const value = parseStamp(stamp);
    return value !== undefined && this.#issued.lastIndexOf(value) !== -1;
  }

  /** The latest ones, to be kept on disk. */
  latest(count: number): readonly string[] {
    return this.#issued.slice(-count).map(formatStamp);
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
