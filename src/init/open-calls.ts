import type { Clock, Timer } from '../common/clock.ts';
import type { Connected } from './connected.ts';
import type { InitAnswer } from './contract.ts';
import type { CallTold } from './messages.ts';
import type { SentCall } from './sent-call.ts';

/** Milliseconds that the last bytes of an answer may take once there is room for them. */
const LAST_BYTES_MS = 5_000;

export interface OpenCallsOptions {
  readonly clock: Clock;
  /** The connection of the init, while there is one. */
  readonly connected: () => Connected | undefined;
  readonly acknowledge: (id: string, offset: number) => void;
  readonly forget: (id: string) => void;
  /** An answer was read. The init has yet to forget the call. */
  readonly onRead: (id: string, call: SentCall) => void;
}

/** A call, and the connection on which its init was last known to have it. */
interface OpenCall {
  readonly call: SentCall;
  on: Connected;
  bound: Timer;
}

/** Calls of this run of the agent that one init was sent, until their outcomes are known. */
export class OpenCalls {
  readonly #options: OpenCallsOptions;
  readonly #calls = new Map<string, OpenCall>();
  /** Calls that have no taker any more, and whose end the connected init has yet to tell. */
  readonly #left = new Set<string>();

  constructor(options: OpenCallsOptions) {
    this.#options = options;
  }

  /** Number of calls that have a taker. */
  get size(): number {
    return this.#calls.size;
  }

  /** Whether the init has a call of this run, with a taker or without. */
  get isBusy(): boolean {
    return this.#calls.size + this.#left.size > 0;
  }

  /** The call of an id that has a taker. */
  get(id: string): SentCall | undefined {
    return this.#calls.get(id)?.call;
  }

  /** Whether this run has sent the call, and its end is not known. */
  has(id: string): boolean {
    return this.#calls.has(id) || this.#left.has(id);
  }

  /** Whether a call was sent over this connection, or was named on it. */
  isOn(id: string, connected: Connected): boolean {
    return this.#calls.get(id)?.on === connected;
  }

  /** @param boundMs milliseconds until the init counts as silent */
  add(id: string, call: SentCall, on: Connected, boundMs: number): void {
    const bound = this.#options.clock.setTimer(() => this.#expire(id), boundMs);
    this.#calls.set(id, { call, on, bound });
  }

  /**
   * Takes what an init says of a call. Says whether it is a call of this run.
   *
   * @throws {InitBreach} where bytes of the answer are missing
   */
  take({ end, head, id }: CallTold, connected: Connected): boolean {
    const open = this.#calls.get(id);
    if (open === undefined) {
      return end !== undefined && this.#left.delete(id);
    }
    if (open.on !== connected) {
      open.on = connected;
      this.#options.acknowledge(id, open.call.acknowledged);
    }
    if (head !== undefined) {
      open.call.takeHead(head);
    }
    if (end !== undefined) {
      open.call.checkEnd(end);
      this.settle(id, { kind: 'Ended', end });
    }
    return true;
  }

  /** Ends the wait for a call, and has the init forget it, unless it is left to the next run of the agent. */
  settle(id: string, answer: InitAnswer, left = false): void {
    const open = this.#calls.get(id);
    if (open === undefined) {
      return;
    }
    this.#calls.delete(id);
    open.bound.cancel();
    open.call.settle(answer);
    if (left || open.on !== this.#options.connected()) {
      return;
    }
    if (answer.kind === 'Ended') {
      this.#options.onRead(id, open.call);
    } else {
      this.#options.forget(id);
      this.#left.add(id);
    }
  }

  settleAll(answer: InitAnswer): void {
    for (const id of [...this.#calls.keys()]) {
      this.settle(id, answer);
    }
  }

  /** Ends the wait for calls that the init of a connection has not named. */
  settleUnnamed(connected: Connected, answer: InitAnswer): void {
    for (const [id, { on }] of this.#calls) {
      if (on !== connected) {
        this.settle(id, answer);
      }
    }
  }

  /** The init is gone, or another run of it has come, and tells of no call without a taker. */
  forgetLeft(): void {
    this.#left.clear();
  }

  /** Acknowledges what there is room for, of the calls of a connection and of those that were found on it. */
  acknowledgeAll(connected: Connected | undefined): void {
    if (connected === undefined) {
      return;
    }
    for (const [id, { on, call }] of this.#calls) {
      if (on === connected) {
        this.#acknowledge(connected, id, call);
      }
    }
    for (const [id, { sent }] of connected.found.read) {
      this.#acknowledge(connected, id, sent);
    }
  }

  /** Acknowledges what there is room for, unless the init has yet to read what it was sent before. */
  #acknowledge(connected: Connected, id: string, call: SentCall): void {
    while (connected === this.#options.connected() && !connected.connection.full) {
      const offset = call.due(() => this.acknowledgeAll(this.#options.connected()));
      if (offset === undefined) {
        return;
      }
      this.#options.acknowledge(id, offset);
    }
  }

  #expire(id: string): void {
    const open = this.#calls.get(id);
    if (open?.call.waits === true) {
      // The receiver is slow, and not the init.
      open.bound = this.#options.clock.setTimer(() => this.#expire(id), LAST_BYTES_MS);
      return;
    }
    this.settle(id, { kind: 'Silent' });
  }
}
