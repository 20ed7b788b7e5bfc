import type { Duplex } from 'node:stream';
import type { Clock, Timer } from '../common/clock.ts';
import { messageOf, unreachable } from '../common/errors.ts';
import type { Allowance } from './allowance.ts';
import { FrameReader } from './frames.ts';
import { type InitMessage, readMessage } from './messages.ts';

/** Use of a message: a part of an answer, be it waited for or not, and words to decide by, or to note or throw away. */
export type MessageUse = 'Part' | 'Unread' | 'Words' | 'Idle';

/** Hears what comes over a connection. */
export interface ConnectionListener {
  /** May throw an `InitBreach`, which ends the connection. */
  onMessage(message: InitMessage): MessageUse;
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
  #reading = false;
  #hadParts = false;
  /** Whether what is read next was read before, and put back for want of an allowance. */
  #isRest = false;
  #ended = false;

  constructor(socket: Duplex, listener: ConnectionListener, clock: Clock, allowance: Allowance) {
    this.#socket = socket;
    this.#listener = listener;
    this.#clock = clock;
    this.#allowance = allowance;
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

  /** Whether messages of a read are being told, after which comes a turn. */
  get reading(): boolean {
    return this.#reading;
  }

  /** Bytes of a message that has come in part. */
  get heldBytes(): number {
    return this.#reader.heldBytes;
  }

  /** Hands pieces to the kernel, as many as it takes, in this synchronous step. */
  send(pieces: readonly Buffer[]): void {
    this.#socket.cork();
    for (const piece of pieces) {
      this.#socket.write(piece);
    }
    this.#socket.uncork();
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
    this.#guard(() => {
      this.#hadParts = false;
      this.#reading = true;
      const bytes = this.#reader.read(piece, (kind, payload) => this.#take(kind, payload));
      this.#reading = false;
      if (!this.#isRest) {
        this.#allowance.spendRead(bytes, this.#hadParts);
      }
      this.#isRest = false;
      this.#listener.onTurn();
      const waitMs = this.#ended ? 0 : this.#allowance.waitMs();
      if (waitMs > 0 || bytes < piece.length) {
        this.#pause(waitMs, piece.subarray(bytes));
      }
    });
  }

  /** @param rest what is read later */
  #pause(waitMs: number, rest: Buffer): void {
    this.#socket.pause();
    if (rest.length > 0) {
      this.#socket.unshift(rest);
      this.#isRest = true;
    }
    this.#rest = this.#clock.setTimer(() => this.#socket.resume(), waitMs);
  }

  /** Says whether to go on. */
  #take(kind: string, payload: Buffer): boolean {
    if (this.#ended) {
      return false;
    }
    const use = this.#listener.onMessage(readMessage(kind, payload));
    switch (use) {
      case 'Part':
        this.#hadParts = true;
        this.#allowance.spendPart(payload.length);
        break;
      case 'Unread':
        this.#allowance.spendUnread(payload.length);
        break;
      case 'Words':
        this.#allowance.spendWords(payload.length);
        break;
      case 'Idle':
        this.#allowance.spendIdle(payload.length);
        break;
      default:
        unreachable(use);
    }
    return !this.#ended && this.#allowance.hasLeft;
  }

  #guard(work: () => void): void {
    if (this.#ended) {
      return;
    }
    try {
      work();
    } catch (error) {
      this.#reading = false;
      this.end(messageOf(error));
    }
  }
}
