import type { Clock } from '../../common/clock.ts';
import { EsbError } from '../../common/errors.ts';

/** Bytes where neither a flag nor a limit of the container says more. */
const DEFAULT_BYTES = 256 * 2 ** 20;
/** A smaller budget would refuse single payloads. */
const LEAST_BYTES = 64 * 2 ** 20;
/** Size of a message until it is known. */
export const UNREAD_MESSAGE_BYTES = 8 * 2 ** 20;
/** Payloads that come on a stream of their own have as much at least. */
const LEAST_PAYLOAD_BYTES = 32 * 2 ** 10;
/** Calls whose message may wait to be read. The system takes up to 64 KiB of each. */
const MAX_WAITING_READS = 256;
/** Milliseconds that a message waits for others to be read. */
const READ_WAIT_MS = 10_000;
/** Milliseconds that a worker waits for its caller to read. */
const ROOM_WAIT_MS = 2_000;

/**
 * Bytes that calls may hold in an agent whose container may have `limitBytes` of memory, 0 or beyond all memory for no
 * limit.
 */
export function defaultCallBytes(limitBytes: number): number {
  const quarter = Math.floor(limitBytes / 4);
  return quarter <= 0 ? DEFAULT_BYTES : Math.min(DEFAULT_BYTES, Math.max(LEAST_BYTES, quarter));
}

interface Waiting {
  readonly mayGo: () => boolean;
  /** Whether there is nothing to wait for. */
  readonly isHopeless: () => boolean;
  /** Called in the step in which it may go. */
  readonly go: () => void;
  readonly end: (went: boolean) => void;
}

/**
 * The bytes of all calls that an agent holds: payloads from their arrival to the end of their call, and answers until
 * they have left. Rules as a gateway has for functions: no connection holds more than is free, and no function more
 * than half of what its connection could still take. N that are greedy leave 1/(N + 1) to the next. A quarter is for
 * messages that are being read, each counted as the largest.
 */
export class CallBudget {
  readonly #clock: Clock;
  readonly #calls: Pool;
  readonly #reads: Pool;
  readonly #functions = new Map<string, number>();
  readonly #waiting = new Set<Waiting>();
  #waitingReads = 0;

  constructor(limit: number, clock: Clock) {
    this.#clock = clock;
    this.#reads = new Pool(Math.floor(limit / 4));
    this.#calls = new Pool(limit - this.#reads.limit);
  }

  get held(): number {
    return this.#calls.held + this.#reads.held;
  }

  /** An account for one call, empty at first. */
  open(connection: string, functionName: string): CallBytes {
    return new CallBytes(this, connection, functionName);
  }

  /** Whether so many bytes more would leave enough to others. */
  fits(bytes: number, connection: string, functionName: string): boolean {
    const left = this.#calls.left(bytes, connection);
    return left >= 0 && (this.#functions.get(functionName) ?? 0) + bytes <= left / 2;
  }

  /**
   * Room for a message of unknown size, before the first byte of it is read. Waits while others are being read.
   *
   * @returns gives the room back
   * @throws {EsbError} `QueueFull`
   */
  async read(connection: string, signal: AbortSignal): Promise<() => void> {
    const bytes = UNREAD_MESSAGE_BYTES;
    const mayGo = (): boolean => this.#reads.left(bytes, connection) >= 0;
    const isHopeless = (): boolean => this.#calls.left(LEAST_PAYLOAD_BYTES, connection) < 0;
    if (isHopeless() || signal.aborted) {
      throw full();
    }
    if (mayGo()) {
      this.#reads.add(bytes, connection);
    } else {
      if (this.#waitingReads >= MAX_WAITING_READS) {
        throw full();
      }
      this.#waitingReads += 1;
      const go = (): void => this.#reads.add(bytes, connection);
      const went = await this.#wait({ mayGo, isHopeless, go }, READ_WAIT_MS, signal);
      this.#waitingReads -= 1;
      if (!went) {
        throw full();
      }
    }
    let kept = true;
    return () => {
      if (kept) {
        kept = false;
        this.#reads.add(-bytes, connection);
        this.#advance();
      }
    };
  }

  /** Resolves once the holder is within its share, and to false if that takes too long; undefined for at once. */
  room(connection: string, functionName: string): Promise<boolean> | undefined {
    const mayGo = (): boolean => this.fits(0, connection, functionName);
    return mayGo() ? undefined : this.#wait({ mayGo, isHopeless: () => false, go: () => undefined }, ROOM_WAIT_MS);
  }

  /** For {@link CallBytes}. */
  add(bytes: number, connection: string, functionName: string): void {
    this.#calls.add(bytes, connection);
    addTo(this.#functions, functionName, bytes);
    this.#advance();
  }

  #wait({ mayGo, isHopeless, go }: Omit<Waiting, 'end'>, milliseconds: number, signal?: AbortSignal): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const end = (went: boolean): void => {
      this.#waiting.delete(waiting);
      timer.cancel();
      signal?.removeEventListener('abort', giveUp);
      resolve(went);
    };
    const giveUp = (): void => end(false);
    const waiting: Waiting = { mayGo, isHopeless, go, end };
    const timer = this.#clock.setTimer(giveUp, milliseconds);
    signal?.addEventListener('abort', giveUp, { once: true });
    this.#waiting.add(waiting);
    return promise;
  }

  #advance(): void {
    for (const { mayGo, isHopeless, go, end } of this.#waiting) {
      if (isHopeless()) {
        end(false);
      } else if (mayGo()) {
        end(true);
        go();
      }
    }
  }
}

/** Bytes of which no connection holds more than is free. */
class Pool {
  readonly limit: number;
  readonly #connections = new Map<string, number>();
  #held = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get held(): number {
    return this.#held;
  }

  /**
   * Bytes that a connection could still take if it took so many, and as much stayed free; negative where it may not.
   */
  left(bytes: number, connection: string): number {
    return this.limit - this.#held - (this.#connections.get(connection) ?? 0) - 2 * bytes;
  }

  add(bytes: number, connection: string): void {
    this.#held += bytes;
    addTo(this.#connections, connection, bytes);
  }
}

/** Bytes that one call holds. */
export class CallBytes {
  readonly #budget: CallBudget;
  readonly #connection: string;
  readonly #functionName: string;
  #held = 0;
  #closed = false;

  constructor(budget: CallBudget, connection: string, functionName: string) {
    this.#budget = budget;
    this.#connection = connection;
    this.#functionName = functionName;
  }

  get held(): number {
    return this.#held;
  }

  /**
   * Takes room for a payload that has come.
   *
   * @throws {EsbError} `QueueFull`
   */
  take(bytes: number): void {
    if (!this.#budget.fits(bytes, this.#connection, this.#functionName)) {
      throw full();
    }
    this.add(bytes);
  }

  /** Counts what is there already, or is not any more. */
  add(bytes: number): void {
    if (!this.#closed && bytes !== 0) {
      this.#held += bytes;
      this.#budget.add(bytes, this.#connection, this.#functionName);
    }
  }

  /** Resolves once more may come, and to false if that takes too long; undefined for at once. */
  room(): Promise<boolean> | undefined {
    return this.#closed ? undefined : this.#budget.room(this.#connection, this.#functionName);
  }

  /** The way to the caller is over: nothing is held for it. */
  close(): void {
    this.add(-this.#held);
    this.#closed = true;
  }
}

function full(): EsbError {
  return new EsbError('calls hold as many bytes of the agent as they may', { code: 'QueueFull' });
}

function addTo(counts: Map<string, number>, key: string, change: number): void {
  const count = (counts.get(key) ?? 0) + change;
  if (count === 0) {
    counts.delete(key);
  } else {
    counts.set(key, count);
  }
}
