import { buildConnector, type Dispatcher, Pool } from 'undici';
import { withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import { formatHostPort, type HostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import type { CertifiedKey } from '../../common/x509.ts';
import { eventsRoleRefusal } from '../../peers/peer-names.ts';
import type { FunctionCall } from '../agents/function-call.ts';
import { type EventKeeper, UNCERTAIN_MESSAGE } from '../events/event-keeper.ts';
import { storeUnavailable, storeUncertain } from '../events/event-store.ts';
import { throttled, unavailable } from '../lambda/lambda-error.ts';
import { EVENTS_PATH, encodeEvent } from './event-message.ts';

/** Connections to the role; each has one event under way. */
const MAX_CONNECTIONS = 64;
/** Milliseconds for a connection: callers of a role that is away are to know soon. */
const CONNECT_MS = 2_000;
/** Milliseconds for an event, from the caller's view: the disk of the role may stall for seconds. */
const DEADLINE_MS = 10_000;
/** Events that wait for either, and bytes of their payloads: the role's absence takes no more from other calls. */
const MAX_WAITING = 1_024;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;

export interface RemoteEventKeeperOptions {
  readonly address: HostPort;
  readonly namespace: string;
  /** The certificate of this gateway; undefined while there is none. */
  readonly identity: () => CertifiedKey | undefined;
  /** The authority of both, in PEM; undefined while it is not known. */
  readonly authority: () => string | undefined;
  readonly logger: Logger;
  /** Milliseconds, in place of 2,000 and 10,000. */
  readonly connectMs?: number;
  readonly deadlineMs?: number;
}

/** The connections that were made with one certificate and one authority. */
interface Connected {
  readonly identity: CertifiedKey;
  readonly authority: string;
  readonly pool: Pool;
}

/**
 * Hands events to the role that keeps them. An event is sent once: after an acknowledgement that did not come nothing
 * is known of it, the caller is told so, and repeats the call or not.
 */
export class RemoteEventKeeper implements EventKeeper {
  readonly #options: RemoteEventKeeperOptions;
  #connected: Connected | undefined;
  #waiting = 0;
  #waitingBytes = 0;
  #failure: EsbError | undefined;
  readonly size = 0;

  constructor(options: RemoteEventKeeperOptions) {
    this.#options = options;
  }

  /** By the end of the last event: an idle gateway does not ask. */
  get health(): Health {
    return this.#failure === undefined
      ? { ok: true }
      : { ok: false, reason: this.#failure.code, message: this.#failure.message };
  }

  start(): void {}

  async accept(call: FunctionCall): Promise<void> {
    const { payload, requestId } = call;
    if (this.#waiting >= MAX_WAITING || this.#waitingBytes + payload.length > MAX_WAITING_BYTES) {
      throw unavailable('Too many events wait for the role that keeps them; this one was not accepted.');
    }
    this.#waiting += 1;
    this.#waitingBytes += payload.length;
    try {
      await this.#send(call);
      this.#failure = undefined;
    } catch (error) {
      if (hasCode(error, 'EventStoreFull')) {
        throw throttled(error.message, 'ConcurrentInvocationLimitExceeded', 5);
      }
      const failure = EsbError.from(error);
      if (this.#failure?.code !== failure.code) {
        this.#options.logger.warn({ err: failure, requestId }, 'the role that keeps events took none');
      }
      this.#failure = failure;
      throw hasCode(failure, 'EventStoreUncertain')
        ? unavailable(UNCERTAIN_MESSAGE, failure)
        : unavailable('The event could not be kept, and was not accepted.', failure);
    } finally {
      this.#waiting -= 1;
      this.#waitingBytes -= payload.length;
    }
  }

  async stop(): Promise<void> {
    const pool = this.#connected?.pool;
    this.#connected = undefined;
    await pool?.destroy();
  }

  async #send(call: FunctionCall): Promise<void> {
    const pool = this.#pool();
    let answer: Dispatcher.ResponseData;
    let said: string;
    try {
      [answer, said] = await withDeadline(
        'an event',
        this.#options.deadlineMs ?? DEADLINE_MS,
        undefined,
        async (signal) => {
          const given = await pool.request({ method: 'POST', path: EVENTS_PATH, body: encodeEvent(call), signal });
          return [given, messageIn(await given.body.text())];
        },
      );
    } catch (error) {
      if (hasCode(error, 'DeadlineExceeded')) {
        this.#distrust(pool);
      }
      throw hasCode(error, 'EventStoreUnavailable')
        ? error
        : storeUncertain(`the events role did not acknowledge an event: ${messageOf(error)}`, error);
    }
    switch (answer.statusCode) {
      case 204:
        return;
      case 429:
        throw new EsbError(said, { code: 'EventStoreFull' });
      case 503:
        throw said === UNCERTAIN_MESSAGE ? storeUncertain(said) : storeUnavailable(`the events role said: ${said}`);
      default: {
        const message = `the events role answered ${answer.statusCode}: ${said}`;
        throw answer.statusCode < 500 ? storeUnavailable(message) : storeUncertain(message);
      }
    }
  }

  /** Gives later events new connections: those of the role's node are all as dead as the one without an answer. */
  #distrust(pool: Pool): void {
    if (this.#connected?.pool === pool) {
      this.#connected = undefined;
      // Events under way on them have deadlines of their own.
      void pool.close();
    }
  }

  /** The connections with the certificate and the authority of now. */
  #pool(): Pool {
    const { authority: authorityNow, identity: identityNow } = this.#options;
    const [authority, identity] = [authorityNow(), identityNow()];
    if (authority === undefined || identity === undefined) {
      throw storeUnavailable(
        identity === undefined
          ? 'this gateway has no certificate yet'
          : 'the client authority has not been read from the API server yet',
      );
    }
    const known = this.#connected;
    if (known?.authority === authority && known.identity === identity) {
      return known.pool;
    }
    const pool = this.#connect(identity, authority);
    this.#connected = { identity, authority, pool };
    // Events under way on the connections of before end there.
    void known?.pool.close();
    return pool;
  }

  #connect({ certificate, privateKey }: CertifiedKey, authority: string): Pool {
    const { address, namespace, connectMs = CONNECT_MS } = this.#options;
    const connect = buildConnector({
      ca: authority,
      cert: certificate,
      key: privateKey,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['http/1.1'],
      // A session that is resumed would show nothing of a certificate that has changed.
      maxCachedSessions: 0,
      timeout: connectMs,
      // The role has the name of the namespace, wherever it is.
      checkServerIdentity: (_host, shown) => eventsRoleRefusal(namespace, shown),
    });
    return new Pool(`https://${formatHostPort(address)}`, {
      connections: MAX_CONNECTIONS,
      pipelining: 1,
      // Each event has a deadline of its own.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (options, callback) =>
        connect(options, (error, socket) =>
          error === null
            ? callback(null, socket)
            : callback(storeUnavailable(`no way to the events role: ${messageOf(error)}`, error), null),
        ),
    });
  }
}

/** The message of an error in the words of the Lambda API; the text itself where it is none. */
function messageIn(answer: string): string {
  try {
    const { Message, message } = JSON.parse(answer) as { readonly Message?: unknown; readonly message?: unknown };
    const found = Message ?? message;
    return typeof found === 'string' ? found : answer;
  } catch {
    return answer;
  }
}
