import type { Clock } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import type { TaskGroup } from '../../common/task-group.ts';
import { isUnavailable } from '../../kube/api-error.ts';
import { createRequestGate } from '../../kube/request-gate.ts';
import { unavailable } from '../call/lambda-error.ts';

export interface AccessCacheOptions<T> {
  /** What is asked for, in messages and logs. */
  readonly what: string;
  /** Milliseconds that an answer is good for. */
  readonly ttlMs: (value: T) => number;
  /** Milliseconds beyond it that the last answer does while the API server cannot be asked. */
  readonly graceMs: number;
  readonly clock: Clock;
  /** Owns what is under way. */
  readonly tasks: TaskGroup;
  readonly maxEntries?: number;
}

const MAX_ENTRIES = 10_000;
/** Questions to the API server at a time, and such that wait for their turn: a flood of unknown callers may not go beyond. */
const MAX_LOADS = 16;
const MAX_PENDING = 1_024;
/** Milliseconds that an answer may take, waiting included; and where the last one would do. */
const LOAD_DEADLINE_MS = 5_000;
const KNOWN_DEADLINE_MS = 1_000;
/** Milliseconds after a failed question in which the API server counts as away: nobody with an answer of old waits for it then. */
const AWAY_MS = 10_000;
/** Milliseconds between two questions about the same in the background. */
const REFRESH_MS = 3_000;
/** Part of its time after which an answer that is in use is asked for anew, while it still is good: nobody then waits for it. */
const REFRESH_AT = 0.75;

interface Entry<T> {
  readonly value: T;
  /** Monotonic milliseconds. */
  refreshAtMs: number;
  freshUntilMs: number;
  readonly keptUntilMs: number;
  used: boolean;
}

/**
 * Answers of the API server about who somebody is and what they may do. A good answer is there at once; one of old is used only while
 * the server is away. Questions about the same are asked once at a time, and entries nobody uses make room for others.
 */
export class AccessCache<T> {
  readonly #options: AccessCacheOptions<T>;
  readonly #maxEntries: number;
  readonly #entries = new Map<string, Entry<T>>();
  readonly #loads = new Map<string, Promise<T>>();
  readonly #gate = createRequestGate(MAX_LOADS);
  /** Monotonic milliseconds until which the API server counts as away. */
  #awayUntilMs = 0;

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
   * @param key what the answer depends on; no secret
   * @param load asks the API server
   * @throws {LambdaError} ServiceException (503) when it is not known and cannot be asked for; other errors are those of `load`
   */
  get(key: string, load: (signal: AbortSignal) => Promise<T>): T | Promise<T> {
    const entry = this.#entries.get(key);
    const now = this.#options.clock.monotonic();
    if (entry !== undefined) {
      entry.used = true;
      if (now < entry.freshUntilMs) {
        if (now >= entry.refreshAtMs) {
          this.#refresh(key, entry, load);
        }
        return entry.value;
      }
      if (now < entry.keptUntilMs) {
        if (now >= this.#awayUntilMs) {
          return this.#loadOrKeep(key, entry, load);
        }
        if (now >= entry.refreshAtMs) {
          this.#refresh(key, entry, load);
        }
        return entry.value;
      }
      this.#entries.delete(key);
    }
    return this.#load(key, load, LOAD_DEADLINE_MS);
  }

  async #loadOrKeep(key: string, entry: Entry<T>, load: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await this.#load(key, load, KNOWN_DEADLINE_MS);
    } catch (error) {
      if (this.#options.clock.monotonic() < this.#awayUntilMs) {
        return entry.value;
      }
      throw error;
    }
  }

  /** Asks anew in the background. */
  #refresh(key: string, entry: Entry<T>, load: (signal: AbortSignal) => Promise<T>): void {
    // Whatever becomes of it, it is tried again only after this.
    entry.refreshAtMs = this.#options.clock.monotonic() + REFRESH_MS;
    if (this.#loads.size < MAX_PENDING) {
      this.#load(key, load, LOAD_DEADLINE_MS).catch(() => undefined);
    }
  }

  #load(key: string, load: (signal: AbortSignal) => Promise<T>, deadlineMs: number): Promise<T> {
    const { tasks, what } = this.#options;
    const pending = this.#loads.get(key);
    if (pending !== undefined) {
      return pending;
    }
    if (tasks.signal.aborted || this.#loads.size >= MAX_PENDING) {
      return Promise.reject(
        unavailable(`Too many callers are unknown to the gateway at the moment (${what}).`),
      );
    }
    const done = Promise.withResolvers<T>();
    this.#loads.set(key, done.promise);
    tasks.run(what, async (stop) => {
      let asked = false;
      try {
        const value = await withDeadline(what, deadlineMs, stop, async (signal) => {
          const leave = await this.#gate.enter(signal);
          asked = true;
          try {
            return await load(signal);
          } finally {
            leave();
          }
        });
        this.#keep(key, value);
        done.resolve(value);
      } catch (error) {
        done.reject(this.#failed(error, asked));
      } finally {
        this.#loads.delete(key);
      }
    });
    return done.promise;
  }

  /** @param asked whether it was the API server that failed, and not the turn that did not come */
  #failed(error: unknown, asked: boolean): unknown {
    if (!isUnavailable(error)) {
      return error;
    }
    if (asked) {
      this.#awayUntilMs = this.#options.clock.monotonic() + AWAY_MS;
    }
    return unavailable(
      `The Kubernetes API server cannot be asked at the moment (${this.#options.what}).`,
      error,
    );
  }

  #keep(key: string, value: T): void {
    const { ttlMs, graceMs, clock } = this.#options;
    const now = clock.monotonic();
    const goodForMs = ttlMs(value);
    this.#awayUntilMs = 0;
    this.#entries.delete(key);
    this.#entries.set(key, {
      value,
      refreshAtMs: now + goodForMs * REFRESH_AT,
      freshUntilMs: now + goodForMs,
      keptUntilMs: now + goodForMs + graceMs,
      used: false,
    });
    this.#makeRoom();
  }

  /** Removes the oldest that was not used since it was passed over last. */
  #makeRoom(): void {
    while (this.#entries.size > this.#maxEntries) {
      for (const [key, entry] of this.#entries) {
        this.#entries.delete(key);
        if (!entry.used) {
          break;
        }
        entry.used = false;
        this.#entries.set(key, entry);
      }
    }
  }
}
