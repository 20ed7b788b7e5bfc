import { type Dispatcher, Pool } from 'undici';
import type { Clock } from '../../common/clock.ts';
import type { KubeConnection } from './kube-config.ts';

/** Milliseconds for TCP and TLS to be set up. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Idle milliseconds after which we close; the API server does so after 90,000. */
const KEEP_ALIVE_MS = 30_000;
/**
 * Milliseconds after which new requests get new sockets, at least and at most: a server that came back behind a load
 * balancer gets its share of the clients again. HTTP/1.1 has no GOAWAY, with which a server could ask for that.
 */
const RENEW_AFTER_MS = 600_000;
const RENEW_SPREAD_MS = 300_000;
/** Milliseconds between two replacements, so that a slow server is not asked for ever more handshakes. */
const DISTRUST_EVERY_MS = 5000;

/** An undici interceptor: an exception of the fence ends the request before its first byte. */
export function fencing(fence: () => void): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) =>
    dispatch(options, {
      onRequestStart(controller, context) {
        fence();
        handler.onRequestStart?.(controller, context);
      },
      onRequestUpgrade: (...given) => handler.onRequestUpgrade?.(...given),
      onResponseStart: (...given) => handler.onResponseStart?.(...given),
      onResponseData: (...given) => handler.onResponseData?.(...given),
      onResponseEnd: (...given) => handler.onResponseEnd?.(...given),
      onResponseError: (...given) => handler.onResponseError?.(...given),
    });
}

interface Current {
  readonly fingerprint: string;
  readonly pool: Pool;
  /** Monotonic milliseconds at which it is replaced. */
  readonly renewAt: number;
}

function open(connection: KubeConnection, renewAt: number): Current {
  const pool = new Pool(connection.origin, {
    // One request per socket at a time: a request that is given up takes its socket with it, so a frozen server never
    // leaves a dead connection behind for the next one.
    allowH2: false,
    pipelining: 1,
    connect: { ...connection.tls, timeout: CONNECT_TIMEOUT_MS, keepAlive: true, keepAliveInitialDelay: 15_000 },
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    // Every caller has a deadline of its own.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  return { fingerprint: connection.fingerprint, pool, renewAt };
}

/** Sockets to one API server, kept for some minutes while the address and the TLS material stay the same. */
export class ConnectionPool {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #pools = new Set<Pool>();
  #current: Current | undefined;
  #distrustedAt = Number.NEGATIVE_INFINITY;

  /** @param random gives numbers from 0 to 1, for jitter */
  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The dispatcher for a request under this connection. */
  dispatcher(connection: KubeConnection): Dispatcher {
    const now = this.#clock.monotonic();
    if (this.#current?.fingerprint === connection.fingerprint && now < this.#current.renewAt) {
      return this.#current.pool;
    }
    this.#retire();
    this.#current = open(connection, now + RENEW_AFTER_MS + this.#random() * RENEW_SPREAD_MS);
    this.#pools.add(this.#current.pool);
    return this.#current.pool;
  }

  /**
   * Gives new requests new sockets, since one got no answer in time: idle sockets may be as dead as its own. Running
   * requests go on over the old ones.
   */
  distrust(): void {
    if (this.#current !== undefined && this.#clock.monotonic() - this.#distrustedAt >= DISTRUST_EVERY_MS) {
      this.#distrustedAt = this.#clock.monotonic();
      this.#retire();
    }
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    this.#current = undefined;
    await Promise.all([...this.#pools].map((pool) => pool.destroy()));
    this.#pools.clear();
  }

  #retire(): void {
    const pool = this.#current?.pool;
    this.#current = undefined;
    if (pool !== undefined) {
      const forget = (): boolean => this.#pools.delete(pool);
      // Resolves when the last request on it has ended, which for a watch can be minutes from now.
      pool.close().then(forget, forget);
    }
  }
}
