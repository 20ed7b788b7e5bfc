import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import { setImmediate as turnOfLoop } from 'node:timers/promises';
import { Server as TlsServer } from 'node:tls';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { HostPort } from '../../common/host-port.ts';

/** Milliseconds between two looks. */
const LOOK_MS = 20;
/** Milliseconds in which connections are still accepted at the end, and of a round in which hardly one can arrive. */
const MAX_TAKE_MS = 1_000;
const SHORT_ROUND_MS = 1;
/** Milliseconds that a connection gets for its first request once no more connections are taken. */
const FIRST_REQUEST_MS = 500;

/** A server that takes requests until it is drained. */
export interface Door {
  /** Takes the port and returns the real one. Errors are those of the system. */
  listen(address: HostPort): Promise<number>;
  /** Waits until clients are elsewhere, takes no more connections, and waits for the end of every request. */
  close(options: DrainOptions): Promise<void>;
}

export interface DrainOptions {
  /** Milliseconds without a new request, from the begin of the drain, after which clients count as sent elsewhere. */
  readonly quietMs: number;
  /** Milliseconds after which that is not waited for any longer. */
  readonly maxMs: number;
}

/**
 * Ends an HTTP server without losing a request.
 *
 * HTTP/1.1 can say only in an answer that a connection takes no more requests. A server that closes idle connections
 * resets requests on their way to it, or in the kernel, and clients may not send those again, since they might have
 * run. So clients get time to notice that they are to go elsewhere: every answer of that time ends its connection, and
 * a connection that stayed idle is closed right after everything that had arrived was read. A request that crosses the
 * end of such a connection can still be lost.
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
   * Waits until clients have gone elsewhere, takes no more connections, and waits for the end of every request. From
   * the call on, each answer has to end its connection.
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
    // The method of an HTTP server would also close connections that are about to send a request. An error says that
    // the server does not listen.
    NetServer.prototype.close.call(this.#server, () => closed.resolve());
    do {
      while (this.#active > 0 || this.#awaitsFirstRequest()) {
        await sleep(clock, LOOK_MS);
      }
      await afterReading();
    } while (this.#active > 0);
    // These have been idle for a while.
    this.#server.closeAllConnections();
    this.#server.close();
    await closed.promise;
  }

  /**
   * Accepts the connections that wait at the port: closing the port would reset them. Node.js accepts one in each round
   * of its loop, and others arrive during a round.
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

  /** A client that has just connected is about to send a request. */
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
