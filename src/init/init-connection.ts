import type { Duplex } from 'node:stream';
import type { Clock, Timer } from '../common/clock.ts';
import { messageOf } from '../common/errors.ts';
import { Allowance } from './allowance.ts';
import { FrameReader } from './frames.ts';
import { type InitMessage, readMessage } from './messages.ts';

/** Hears what comes over a connection. */
export interface ConnectionListener {
  /**
   * Says whether the message is a part of an answer that a call waits for. May throw an `InitBreach`, which ends the
   * connection.
   */
  onMessage(message: InitMessage): boolean;
  /** All messages of a read were told, or bytes that waited to be sent are on their way. */
  onTurn(): void;
  /** Once. `breach` where the init broke the protocol. */
  onEnd(breach: string | undefined): void;
}

/** One connection of an init. */
export class InitConnection {
  readonly #socket: Duplex;
  readonly #listener: ConnectionListener;
  readonly #clock: Clock;
  readonly #allowance: Allowance;
  readonly #reader = new FrameReader();
  #rest: Timer | undefined;
  #ended = false;

  constructor(socket: Duplex, listener: ConnectionListener, clock: Clock) {
    this.#socket = socket;
    this.#listener = listener;
    this.#clock = clock;
    this.#allowance = new Allowance(clock);
    socket.on('error', () => undefined);
    socket.on('end', () => this.end());
    socket.on('close', () => this.end());
    socket.on('drain', () => this.#guard(() => listener.onTurn()));
    socket.on('data', (piece: Buffer) => this.#read(piece));
  }

  /** Whether bytes wait for the init to read. */
  get full(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Hands pieces to the kernel, as many as it takes, in this synchronous step. */
  send(pieces: readonly Buffer[]): void {
    this.#socket.cork();
    for (const piece of pieces) {
      this.#socket.write(piece);
    }
    this.#socket.uncork();
  }

  /** Allows the work of one more call. */
  allowCall(): void {
    this.#allowance.allowCall();
  }

  /** Ends the connection. */
  end(breach?: string): void {
    if (!this.#ended) {
      this.#ended = true;
      this.#rest?.cancel();
      this.#socket.destroy();
      this.#listener.onEnd(breach);
    }
  }

  #read(piece: Buffer): void {
    this.#allowance.spendRead(piece.length);
    this.#guard(() => {
      this.#reader.read(piece, (kind, payload) => this.#take(kind, payload));
      this.#listener.onTurn();
    });
    const waitMs = this.#ended ? 0 : this.#allowance.waitMs();
    if (waitMs > 0) {
      this.#socket.pause();
      this.#rest = this.#clock.setTimer(() => this.#socket.resume(), waitMs);
    }
  }

  #take(kind: string, payload: Buffer): void {
    if (this.#ended) {
      return;
    }
    if (this.#listener.onMessage(readMessage(kind, payload))) {
      this.#allowance.spendPart(payload.length);
    } else {
      this.#allowance.spendWords(payload.length);
    }
  }

  #guard(work: () => void): void {
    if (this.#ended) {
      return;
    }
    try {
      work();
    } catch (error) {
      this.end(messageOf(error));
    }
  }
}
