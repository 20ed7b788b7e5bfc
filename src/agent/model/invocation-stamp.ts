import type { Clock } from '../../common/clock.ts';

/** Stamps of a worker that are remembered one by one, in 2 KiB. */
const maxRemembered = 256;

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

/**
 * The stamps that the agents of this node have issued for one worker. The latest are known by value. Older ones are too
 * many to be kept: once some are forgotten, an older stamp of our form counts as one of them. Somebody else's patch is
 * taken for ours only when it tells of a time before hundreds of calls.
 */
export class IssuedStamps {
  /** Microseconds since the epoch, rising. */
  readonly #recent: number[];
  #forgotten: boolean;
  /** Stamps between these two, the first excluded, are not known one by one. */
  #gap: { readonly after: number; readonly upTo: number } | undefined;

  /**
   * @param stamps the latest that an earlier run of the agent has kept, in order
   * @param keptAtMost how many it keeps: with as many there were more
   */
  constructor(stamps: readonly string[] = [], keptAtMost = Number.POSITIVE_INFINITY) {
    this.#recent = stamps.flatMap((stamp) => parseStamp(stamp) ?? []);
    this.#forgotten = this.#recent.length >= keptAtMost;
  }

  add(stamp: string): void {
    const at = parseStamp(stamp);
    if (at === undefined || at <= (this.#recent.at(-1) ?? 0)) {
      return;
    }
    this.#recent.push(at);
    if (this.#recent.length > maxRemembered) {
      this.#recent.shift();
      this.#forgotten = true;
    }
  }

  /** The last one that an earlier run of the agent has issued, after those that it has kept. */
  found(stamp: string): void {
    const after = this.#recent.at(-1) ?? 0;
    this.#forgotten ||= this.#recent.length === 0;
    this.add(stamp);
    const upTo = this.#recent.at(-1) ?? 0;
    this.#gap = upTo > after ? { after, upTo } : undefined;
  }

  has(stamp: string): boolean {
    const at = parseStamp(stamp);
    const [oldest] = this.#recent;
    if (at === undefined || oldest === undefined) {
      return false;
    }
    if (at < oldest) {
      return this.#forgotten;
    }
    const inGap = this.#gap !== undefined && at > this.#gap.after && at <= this.#gap.upTo;
    return inGap || this.#recent.includes(at);
  }

  /** The latest ones, to be kept on disk. */
  latest(count: number): readonly string[] {
    return this.#recent.slice(-count).map(formatStamp);
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
