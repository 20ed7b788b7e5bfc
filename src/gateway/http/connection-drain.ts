import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import { setImmediate as turnOfLoop } from 'node:timers/promises';
import { Server as TlsServer } from 'node:tls';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';

/** Milliseconds between two looks. */
const LOOK_MS = 20;
/** Milliseconds that connections are still taken for at the end, and those of a round in which hardly one can come. */
const MAX_TAKE_MS = 1_000;
const SHORT_ROUND_MS = 1;
/** Milliseconds that a connection gets for its first request once no more connections are taken. */
const FIRST_REQUEST_MS = 500;

export interface DrainOptions {
  /** Milliseconds without a new request, from the beginning of the drain on, after which clients count as sent elsewhere. */
  readonly quietMs: number;
  /** Milliseconds after which that is not waited for any longer. */
  readonly maxMs: number;
}

/**
 * Ends an HTTP server without losing a request.
 *
 * HTTP/1.1 has no way to say that a connection takes no more requests, except in an answer. A server that just closes what is
 * idle resets requests which are on their way to it, or which the kernel has taken in and it has not read; clients may not
 * send those again, since they might have run. So clients are given time to hear that they are to go elsewhere, every answer
 * of that time ends its connection, and what nobody has used in that time is closed right after all that had come was
 * read. What is left is a request that crosses the end of a connection which was idle all that time.
 */
export class ConnectionDrain {
  readonly #server: Server;
  readonly #clock: Clock;
  /** Connections that have not had a request, with the monotonic time of their beginning. */
  readonly #silent = new Map<Socket, number>();
  #connections = 0;
  #active = 0;
  #lastRequestAt = Number.NEGATIVE_INFINITY;

  /** @param server before it listens */
  constructor(server: Server, clock: Clock) {
    this.#server = server;
    this.#clock = clock;
    // With TLS a connection is one once its handshake is done.
    server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', (socket: Socket) => {
      this.#connections += 1;
      this.#silent.set(socket, clock.monotonic());
      socket.once('close', () => this.#silent.delete(socket));
    });
    server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
      this.#active += 1;
      this.#lastRequestAt = clock.monotonic();
      this.#silent.delete(request.socket);
      response.once('close', () => {
        this.#active -= 1;
      });
    });
  }

  /** Requests that have not been answered. */
  get active(): number {
    return this.#active;
  }

  /**
   * Waits until clients have gone elsewhere, takes no more connections, and waits for the end of every request. From its call
   * on each answer has to end its connection.
   */
  async run({ maxMs, quietMs }: DrainOptions): Promise<void> {
    const clock = this.#clock;
    const begun = clock.monotonic();
    for (;;) {
      const now = clock.monotonic();
      const quietSince = Math.max(begun, this.#lastRequestAt);
      const left = Math.min(quietSince + quietMs, begun + maxMs) - now;
      if (left <= 0) {
        break;
      }
      await sleep(clock, Math.min(LOOK_MS, left));
    }
    await this.#takeWaiting();
    const closed = Promise.withResolvers<void>();
    // Not the method of an HTTP server, which closes connections as well, those that are about to send a request included.
    // An error says that it does not listen.
    NetServer.prototype.close.call(this.#server, () => closed.resolve());
    do {
      while (this.#active > 0 || this.#awaitsFirstRequest()) {
        await sleep(clock, LOOK_MS);
      }
      await afterReading();
    } while (this.#active > 0);
    // By now, nobody has used them for a while.
    this.#server.closeAllConnections();
    this.#server.close();
    await closed.promise;
  }

  /**
   * Takes the connections that wait at the port: with it they are reset, whatever they have sent. Node.js takes one in each
   * round of its loop, and while a round lasts others come.
   */
  async #takeWaiting(): Promise<void> {
    const clock = this.#clock;
    const until = clock.monotonic() + MAX_TAKE_MS;
    for (let now = clock.monotonic(); now < until; ) {
      const before = this.#connections;
      await afterReading();
      const began = now;
      now = clock.monotonic();
      if (before === this.#connections && now - began <= SHORT_ROUND_MS) {
        return;
      }
    }
  }

  /** Whoever has just connected is about to ask for something. */
  #awaitsFirstRequest(): boolean {
    const youngest = this.#clock.monotonic() - FIRST_REQUEST_MS;
    return this.#silent.values().some((since) => since > youngest);
  }
}

/** Resolves after all that the system had for us at the time of the call has been read. */
async function afterReading(): Promise<void> {
  // The first may come before the loop asks the system again.
  await turnOfLoop();
  await turnOfLoop();
}
