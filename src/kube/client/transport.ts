import type { Dispatcher } from 'undici';
import { type Clock, systemClock } from '../../common/clock.ts';
import { AbortedError, type CallOptions, DeadlineError, sleep, withDeadline } from '../../common/deadline.ts';
import { EsbError, errnoOf } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import { ApiError } from '../api/api-error.ts';
import { ConnectionPool, fencing } from './connection-pool.ts';
import type { KubeConnection, KubeConnectionSource } from './kube-config.ts';

export interface TransportOptions {
  readonly source: KubeConnectionSource;
  /** How the API server's audit log shows us. Default `esb`. */
  readonly userAgent?: string;
  readonly clock?: Clock;
  /** Gives numbers from 0 to 1, for jitter. */
  readonly random?: () => number;
  /** Milliseconds that a call may take by default. Default 30,000. */
  readonly deadlineMs?: number;
  /** Requests at a time, streams not counted. Default 32. */
  readonly maxInFlight?: number;
}

export interface KubeRequest {
  /** For error messages. */
  readonly what: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly body?: string;
  readonly contentType?: string;
  /** See `FenceOptions`. */
  readonly fence?: (() => void) | undefined;
}

const DEFAULTS = {
  userAgent: 'esb',
  clock: systemClock,
  random: Math.random,
  deadlineMs: 30_000,
  maxInFlight: 32,
} as const;
/** Attempts of a read that the server answers with 429. */
const MAX_ATTEMPTS = 4;
const DEFAULT_RETRY_AFTER_MS = 1000;

/**
 * Sends requests over one set of kept-alive connections. Requests beyond `maxInFlight` wait in order; streams have
 * sockets of their own and hold up no request. Credentials are read again when they get old or are refused.
 *
 * Reads are sent again, within their deadline, when the server asks for patience (429) or when a kept-alive connection
 * turns out to be closed. Writes are sent once: their caller finds out the outcome of one that failed.
 */
export class Transport {
  readonly #settings: Required<TransportOptions>;
  readonly #limiter: Limiter;
  readonly #pool: ConnectionPool;
  #closed = false;

  constructor(options: TransportOptions) {
    this.#settings = { ...DEFAULTS, ...options };
    const { clock, maxInFlight, random } = this.#settings;
    this.#limiter = new Limiter(maxInFlight);
    this.#pool = new ConnectionPool(clock, random);
  }

  /** Sends one request; gives the body of the answer. */
  request(request: KubeRequest, call: CallOptions): Promise<string> {
    return this.within(request.what, call, (send) => send(request));
  }

  /** Runs `body` within the deadline of one call. `body` sends requests with the function that it is given. */
  within<T>(
    what: string,
    call: CallOptions,
    body: (send: (request: KubeRequest) => Promise<string>) => Promise<T>,
  ): Promise<T> {
    const deadlineMs = call.deadlineMs ?? this.#settings.deadlineMs;
    const endsAt = this.#settings.clock.monotonic() + deadlineMs;
    return this.#bounded(what, deadlineMs, call.signal, (signal) =>
      body((request) => this.#patiently(request, signal, endsAt)),
    );
  }

  /**
   * Opens a stream; gives its head and the body to be read. The default deadline bounds the wait for the head, since
   * the server sends one at once.
   */
  stream(request: KubeRequest, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    return this.#bounded(request.what, this.#settings.deadlineMs, signal, () => this.#authenticated(request, signal));
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool.close();
  }

  async #bounded<T>(
    what: string,
    deadlineMs: number,
    callerSignal: AbortSignal | undefined,
    body: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    try {
      return await withDeadline(what, deadlineMs, callerSignal, body);
    } catch (error) {
      if (error instanceof DeadlineError) {
        this.#pool.distrust();
      }
      throw error;
    }
  }

  async #patiently(request: KubeRequest, signal: AbortSignal, endsAt: number): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#exchange(request, signal);
      } catch (error) {
        const delayMs = signal.aborted ? undefined : this.#retryDelay(request, error, attempt);
        if (delayMs === undefined || this.#settings.clock.monotonic() + delayMs >= endsAt) {
          throw error;
        }
        await sleep(this.#settings.clock, delayMs, signal);
      }
    }
  }

  /** Milliseconds until the request is sent again; undefined when it is not. */
  #retryDelay(request: KubeRequest, error: unknown, attempt: number): number | undefined {
    if (request.method !== 'GET' || !(error instanceof ApiError) || attempt >= MAX_ATTEMPTS) {
      return undefined;
    }
    if (error.status === 429) {
      return (error.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS) * (1 + this.#settings.random() / 4);
    }
    return attempt === 1 && isStaleSocket(error) ? 0 : undefined;
  }

  #exchange(request: KubeRequest, signal: AbortSignal): Promise<string> {
    return this.#limiter.run(async () => {
      const answer = await this.#authenticated(request, signal);
      try {
        return await answer.body.text();
      } catch (error) {
        throw signal.aborted ? error : ApiError.unreachable(request.what, error);
      }
    }, signal);
  }

  /** Sends a request and, when its credentials are refused and there are newer ones, once more with those. */
  async #authenticated(request: KubeRequest, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const connection = await this.#settings.source.current();
    try {
      return await this.#send(connection, request, signal);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) {
        throw error;
      }
      this.#settings.source.invalidate();
      const renewed = await this.#settings.source.current();
      if (
        renewed.fingerprint === connection.fingerprint &&
        JSON.stringify(renewed.headers) === JSON.stringify(connection.headers)
      ) {
        throw error;
      }
      return this.#send(renewed, request, signal);
    }
  }

  async #send(connection: KubeConnection, request: KubeRequest, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const { what, fence } = request;
    if (this.#closed) {
      throw new AbortedError(what, new EsbError('the client is closed', { code: 'Aborted' }));
    }
    let fenced: { readonly error: unknown } | undefined;
    const guard = (): void => {
      try {
        fence?.();
      } catch (error) {
        fenced = { error };
        throw error;
      }
    };
    try {
      const pool = this.#pool.dispatcher(connection);
      const dispatcher = fence === undefined ? pool : pool.compose(fencing(guard));
      const answer = await dispatcher.request(this.#dispatchOptions(connection, request, signal));
      if (answer.statusCode >= 400) {
        const [retryAfter] = [answer.headers['retry-after']].flat();
        throw ApiError.fromAnswer(what, answer.statusCode, await answer.body.text(), retryAfter);
      }
      return answer;
    } catch (error) {
      if (fenced !== undefined) {
        throw fenced.error;
      }
      if (error instanceof ApiError || signal.aborted) {
        throw error;
      }
      this.#settings.source.invalidate();
      throw ApiError.unreachable(what, error);
    }
  }

  #dispatchOptions(connection: KubeConnection, request: KubeRequest, signal: AbortSignal): Dispatcher.RequestOptions {
    return {
      origin: connection.origin,
      path: `${connection.basePath}${request.path}`,
      method: request.method,
      headers: {
        accept: 'application/json',
        'user-agent': this.#settings.userAgent,
        ...connection.headers,
        ...(request.contentType === undefined ? {} : { 'content-type': request.contentType }),
      },
      body: request.body ?? null,
      signal,
    };
  }
}

/** Whether the server had closed a socket that we took for open: it has not answered the request then. */
function isStaleSocket(error: ApiError): boolean {
  const code = errnoOf(error.cause);
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE';
}
