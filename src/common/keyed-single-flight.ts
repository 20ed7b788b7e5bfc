import { AbortedError, type CallOptions, withDeadline } from './deadline.ts';

interface Flight {
  readonly kind: string;
  readonly controller: AbortController;
  readonly done: Promise<unknown>;
  waiters: number;
}

export interface FlightCall extends CallOptions {
  /** Names the work in errors. */
  readonly what: string;
  /** Milliseconds that this caller waits. */
  readonly deadlineMs: number;
}

/**
 * Runs work one piece at a time per key, and one piece for many callers: whoever asks for the same kind of work as the
 * last piece of a key waits for that one. A caller leaves whenever it likes; work that nobody waits for any more is
 * told to end by its signal, and what comes after it on the same key still waits until it has.
 */
export class KeyedSingleFlight {
  readonly #lanes = new Map<string, Flight[]>();

  /**
   * Waits for work of `kind` on `key`, begun by this call or by an earlier one.
   *
   * @throws {DeadlineError} or {AbortedError} when this caller's time is over; whatever the work throws otherwise
   */
  async run<T>(
    key: string,
    kind: string,
    call: FlightCall,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const last = this.#lanes.get(key)?.at(-1);
    const flight =
      last !== undefined && last.kind === kind && !last.controller.signal.aborted
        ? last
        : this.#begin(key, kind, call.what, work);
    flight.waiters += 1;
    try {
      return (await withDeadline(call.what, call.deadlineMs, call.signal, () => flight.done)) as T;
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0) {
        // Without effect on work that is done.
        flight.controller.abort(new AbortedError(call.what));
      }
    }
  }

  /** Whether nothing is under way on a key. */
  isFree(key: string): boolean {
    return !this.#lanes.has(key);
  }

  /** Tells the work on a key that `matches` picks to end. */
  cancel(key: string, matches: (kind: string) => boolean, what: string): void {
    for (const flight of this.#lanes.get(key) ?? []) {
      if (matches(flight.kind)) {
        flight.controller.abort(new AbortedError(what));
      }
    }
  }

  /** Keys on which work is under way or waits. */
  keys(): Iterable<string> {
    return this.#lanes.keys();
  }

  /** Waits until nothing is under way. */
  async idle(): Promise<void> {
    while (this.#lanes.size > 0) {
      await Promise.allSettled(
        [...this.#lanes.values()].flatMap((lane) => lane.map((flight) => flight.done)),
      );
      // What settled takes itself out of its lane in a reaction that was queued before this one.
      await Promise.resolve();
    }
  }

  /** Tells all work to end. */
  cancelAll(what: string): void {
    for (const key of this.#lanes.keys()) {
      this.cancel(key, () => true, what);
    }
  }

  #begin(key: string, kind: string, what: string, work: (signal: AbortSignal) => Promise<unknown>): Flight {
    const lane = this.#lanes.get(key) ?? [];
    this.#lanes.set(key, lane);
    const before = lane.at(-1)?.done;
    const controller = new AbortController();
    const done = this.#perform(before, what, controller.signal, work).finally(() => {
      lane.splice(lane.indexOf(flight), 1);
      if (lane.length === 0) {
        this.#lanes.delete(key);
      }
    });
    // Every caller may have left before the end.
    done.catch(() => undefined);
    const flight: Flight = { kind, controller, done, waiters: 0 };
    lane.push(flight);
    return flight;
  }

  async #perform(
    before: Promise<unknown> | undefined,
    what: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<unknown> {
    await before?.catch(() => undefined);
    if (signal.aborted) {
      throw new AbortedError(what, signal.reason);
    }
    return await work(signal);
  }
}
