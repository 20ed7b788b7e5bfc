import type { Clock } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import { Limiter } from '../../common/limiter.ts';
import { addressGroup } from '../../common/net/address-connections.ts';
import { Tally } from '../../common/tally.ts';
import type { TaskGroup } from '../../common/task-group.ts';
import { ApiError, isUnavailable } from '../../kube/api/api-error.ts';
import type { CallerRates } from '../lambda/caller-rate.ts';
import { type LambdaError, throttled, unavailable } from '../lambda/lambda-error.ts';

export interface AccessCacheOptions<T> {
  /** The subject of the questions, for messages and logs. */
  readonly what: string;
  /** Milliseconds that an answer is good for. */
  readonly ttlMs: (value: T) => number;
  /** Milliseconds beyond it that the last answer does while the API server is away. */
  readonly graceMs: number;
  /** Whether the API server is away, by a source other than these questions, which callers can influence. */
  readonly isAway: () => boolean;
  /** The rate of questions about unproved senders, by their addresses. */
  readonly strangers: CallerRates;
  readonly clock: Clock;
  readonly tasks: TaskGroup;
  readonly maxEntries?: number;
}

const MAX_ENTRIES = 10_000;
/**
 * Questions to the API server at a time, and those that wait: a flood of unknown callers may not exceed them. As many
 * again are for callers with an earlier answer, who do not wait behind unknown ones.
 */
const MAX_LOADS = 16;
const MAX_PENDING = 1_024;
/** Milliseconds that an answer may take, waiting included; and where the last one would do. */
const LOAD_DEADLINE_MS = 5_000;
const KNOWN_DEADLINE_MS = 1_000;
/** Milliseconds after a failed question in which a caller with an earlier answer does not wait for a new one. */
const TROUBLE_MS = 10_000;
/**
 * Milliseconds beyond its time that an answer serves while the API server is too busy for a new one. Callers can make
 * it busy: a right that was taken away must not return for long.
 */
const BUSY_MS = 30_000;
/** Milliseconds between two questions about the same in the background. */
const REFRESH_MS = 3_000;
/** Part of the entries that is given up at once, so that not each new one has all of them looked at. */
const SPARE_PART = 1 / 64;
/** Part of its time after which an answer in use is refreshed in the background, so that no call waits for it. */
const REFRESH_AT = 0.75;

interface Entry<T> {
  readonly value: T;
  /** Asker of the first question. */
  readonly owner: string;
  /** Monotonic milliseconds. */
  refreshAtMs: number;
  freshUntilMs: number;
  readonly keptUntilMs: number;
  used: boolean;
}

export interface Asker {
  /** Questions that wait are shared out by this. */
  readonly name: string;
  /** Whether the sender is not proved; the name then is that of an address. */
  readonly isStranger: boolean;
}

export function strangerAt(address: string): Asker {
  return { name: `address ${addressGroup(address)}`, isStranger: true };
}

/** Questions that wait, of those with an answer of old or of those without. */
interface Line {
  readonly gate: Limiter;
  pending: number;
}

/**
 * Answers of the API server about identities and rights. A fresh answer is returned at once; an old one only while the
 * server is away, or for some seconds while it is busy. Equal questions are asked once at a time. Room for others is
 * made by unused entries of the askers who have most: no asker pushes out the answers of those who ask for less.
 */
export class AccessCache<T> {
  readonly #options: AccessCacheOptions<T>;
  readonly #maxEntries: number;
  readonly #entries = new Map<string, Entry<T>>();
  readonly #entriesOf = new Tally();
  readonly #loads = new Map<string, Promise<T>>();
  readonly #known: Line = { gate: new Limiter(MAX_LOADS), pending: 0 };
  readonly #unknown: Line = { gate: new Limiter(MAX_LOADS), pending: 0 };
  /** Waiting questions of each asker without an answer. */
  readonly #pendingOf = new Tally();
  /** Monotonic milliseconds until which the API server counts as away, and until which it counts as away or busy. */
  #awayUntilMs = 0;
  #troubledUntilMs = 0;

  constructor(options: AccessCacheOptions<T>) {
    this.#options = options;
    this.#maxEntries = options.maxEntries ?? MAX_ENTRIES;
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * The answer to a question, at once if it is known.
   *
   * @param key everything that the answer depends on; no secret
   * @param load asks the API server
   * @throws {LambdaError} ServiceException (503) when the answer is unknown and unavailable, TooManyRequestsException
   *   when the asker asks too much; other errors are those of `load`
   */
  get(key: string, load: (signal: AbortSignal) => Promise<T>, asker: Asker): T | Promise<T> {
    const entry = this.#entries.get(key);
    const now = this.#options.clock.monotonic();
    if (entry !== undefined) {
      entry.used = true;
      const isFresh = now < entry.freshUntilMs;
      if (isFresh || (now < this.#troubledUntilMs && this.#does(entry, now))) {
        if (now >= entry.refreshAtMs) {
          this.#refresh(key, entry, load);
        }
        return entry.value;
      }
      if (now < entry.keptUntilMs) {
        return this.#loadOrKeep(key, entry, load);
      }
      this.#drop(key, entry);
    }
    return this.#loads.get(key) ?? this.#ask(key, load, asker);
  }

  /** Whether an answer of old does, there being no new one. */
  #does(entry: Entry<T>, now: number): boolean {
    const isAway = now < this.#awayUntilMs || this.#options.isAway();
    return now < (isAway ? entry.keptUntilMs : Math.min(entry.keptUntilMs, entry.freshUntilMs + BUSY_MS));
  }

  async #loadOrKeep(key: string, entry: Entry<T>, load: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await this.#load(key, load, entry.owner, KNOWN_DEADLINE_MS, this.#known);
    } catch (error) {
      const now = this.#options.clock.monotonic();
      if (now < this.#troubledUntilMs && this.#does(entry, now)) {
        return entry.value;
      }
      throw error;
    }
  }

  #refresh(key: string, entry: Entry<T>, load: (signal: AbortSignal) => Promise<T>): void {
    // The next refresh waits this long, even if this one fails.
    entry.refreshAtMs = this.#options.clock.monotonic() + REFRESH_MS;
    if (this.#known.pending < MAX_PENDING) {
      this.#load(key, load, entry.owner, LOAD_DEADLINE_MS, this.#known).catch(() => undefined);
    }
  }

  /** Asks for a caller without an earlier answer. */
  #ask(key: string, load: (signal: AbortSignal) => Promise<T>, { name, isStranger }: Asker): Promise<T> {
    const { strangers, clock, what } = this.#options;
    const pending = this.#pendingOf.get(name);
    // No asker may have more waiting questions than there are free places: the next asker always finds one.
    if (pending > 0 && pending >= MAX_PENDING - this.#unknown.pending) {
      return Promise.reject(tooMany(what));
    }
    if (isStranger && strangers.take(name, clock.monotonic()) > 0) {
      return Promise.reject(tooMany(what));
    }
    const asked = this.#load(key, load, name, LOAD_DEADLINE_MS, this.#unknown);
    this.#pendingOf.add(name, 1);
    const settled = (): void => this.#pendingOf.add(name, -1);
    asked.then(settled, settled);
    return asked;
  }

  #load(
    key: string,
    load: (signal: AbortSignal) => Promise<T>,
    owner: string,
    deadlineMs: number,
    line: Line,
  ): Promise<T> {
    const { tasks, what } = this.#options;
    const pending = this.#loads.get(key);
    if (pending !== undefined) {
      return pending;
    }
    if (tasks.signal.aborted || line.pending >= MAX_PENDING) {
      return Promise.reject(this.#troubled(undefined));
    }
    const done = Promise.withResolvers<T>();
    this.#loads.set(key, done.promise);
    line.pending += 1;
    tasks.run(what, async (stop) => {
      let asked = false;
      try {
        const value = await withDeadline(what, deadlineMs, stop, async (signal) => {
          const leave = await line.gate.enter(signal);
          asked = true;
          try {
            return await load(signal);
          } finally {
            leave();
          }
        });
        this.#keep(key, value, owner);
        done.resolve(value);
      } catch (error) {
        done.reject(this.#failed(error, asked));
      } finally {
        this.#loads.delete(key);
        line.pending -= 1;
      }
    });
    return done.promise;
  }

  /** @param asked whether the API server failed, and not the wait for a place */
  #failed(error: unknown, asked: boolean): unknown {
    if (!isUnavailable(error)) {
      return error;
    }
    if (asked && !isBusy(error)) {
      this.#awayUntilMs = this.#options.clock.monotonic() + TROUBLE_MS;
    }
    return this.#troubled(error);
  }

  #troubled(cause: unknown): LambdaError {
    this.#troubledUntilMs = this.#options.clock.monotonic() + TROUBLE_MS;
    return unavailable(
      cause === undefined
        ? `Too many callers are unknown to the gateway at the moment (${this.#options.what}).`
        : `The Kubernetes API server cannot be asked at the moment (${this.#options.what}).`,
      cause,
    );
  }

  #keep(key: string, value: T, owner: string): void {
    const { ttlMs, graceMs, clock } = this.#options;
    const now = clock.monotonic();
    const goodForMs = ttlMs(value);
    this.#awayUntilMs = 0;
    this.#troubledUntilMs = 0;
    this.#drop(key, this.#entries.get(key));
    this.#entriesOf.add(owner, 1);
    this.#entries.set(key, {
      value,
      owner,
      refreshAtMs: now + goodForMs * REFRESH_AT,
      freshUntilMs: now + goodForMs,
      keptUntilMs: now + goodForMs + graceMs,
      used: false,
    });
    this.#makeRoom();
  }

  #drop(key: string, entry: Entry<T> | undefined): void {
    if (entry !== undefined && this.#entries.delete(key)) {
      this.#entriesOf.add(entry.owner, -1);
    }
  }

  /**
   * Removes the oldest that were not used since they were passed over last, of askers with more than half as many as
   * the one with most.
   */
  #makeRoom(): void {
    if (this.#entries.size <= this.#maxEntries) {
      return;
    }
    const enough = this.#maxEntries - Math.floor(this.#maxEntries * SPARE_PART);
    while (this.#entries.size > enough) {
      const share = this.#entriesOf.most / 2;
      for (const [key, entry] of this.#entries) {
        if (this.#entries.size <= enough) {
          return;
        }
        if (this.#entriesOf.get(entry.owner) > share) {
          if (entry.used) {
            entry.used = false;
            this.#entries.delete(key);
            this.#entries.set(key, entry);
          } else {
            this.#drop(key, entry);
          }
        }
      }
    }
  }
}

/** Whether the API server has too much to do, which callers can cause: a 429, or no answer in time. */
function isBusy(error: unknown): boolean {
  return !(error instanceof ApiError) || error.status === 429;
}

function tooMany(what: string): LambdaError {
  return throttled(
    `Rate Exceeded. Too many questions have to be asked for this caller (${what}).`,
    'CallerRateLimitExceeded',
  );
}
