import { request } from 'node:http';
import { type CallOptions, withDeadline } from '../../src/common/deadline.ts';
import { foreignCode } from '../../src/common/error-codes.ts';
import { EsbError, errnoOf } from '../../src/common/errors.ts';
import { localCode } from '../common/error-codes.ts';
import type { PartSpec, PartStatus } from './part.ts';

/** The supervisor's report. */
export interface SupervisorStatus {
  readonly supervisor: { readonly pid: number };
  readonly parts: readonly PartStatus[];
}

export interface StopPartOptions extends CallOptions {
  /** The first signal. SIGKILL gives the part no chance to tidy up. Default SIGTERM. */
  readonly with?: 'SIGTERM' | 'SIGKILL';
}

/** Talks to the supervisor of a local instance. Each call takes at most 60,000 ms by default. */
export interface SupervisorClient {
  status(options?: CallOptions): Promise<SupervisorStatus>;
  /** Sets the supervised parts: starts new ones, restarts changed ones, stops all others. */
  apply(parts: readonly PartSpec[], options?: CallOptions): Promise<void>;
  /** Ends a part and keeps it ended; resolves when its process is gone. */
  stopPart(name: string, options?: StopPartOptions): Promise<void>;
  /** Starts a stopped part; resolves when its process exists. */
  startPart(name: string, options?: CallOptions): Promise<void>;
  restartPart(name: string, options?: StopPartOptions): Promise<void>;
  /** Process id of a part; 0 when it does not run. */
  pidOf(name: string, options?: CallOptions): Promise<number>;
  /** Stops every part, the last started first, and ends the supervisor. */
  shutdown(options?: CallOptions): Promise<void>;
}

const DEFAULT_DEADLINE_MS = 60_000;

/**
 * A client for the supervisor on the Unix socket `socket`. Calls fail with `SupervisorGone` when there is no
 * supervisor, and with its code and message when it refuses.
 */
export function createSupervisorClient(socket: string): SupervisorClient {
  const call = (method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<unknown> =>
    withDeadline(
      `${method} ${path} of the supervisor`,
      options.deadlineMs ?? DEFAULT_DEADLINE_MS,
      options.signal,
      (signal) => exchange(socket, method, path, body, signal),
    );
  const status = async (options?: CallOptions): Promise<SupervisorStatus> =>
    (await call('GET', '/parts', undefined, options)) as SupervisorStatus;
  const act = async (name: string, action: string, options: StopPartOptions = {}): Promise<void> => {
    const path = `/parts/${encodeURIComponent(name)}/${action}`;
    await call('POST', path, { with: options.with ?? 'SIGTERM' }, options);
  };
  return {
    status,
    apply: async (parts, options) => {
      await call('PUT', '/parts', { parts }, options);
    },
    stopPart: (name, options) => act(name, 'stop', options),
    startPart: (name, options) => act(name, 'start', options),
    restartPart: (name, options) => act(name, 'restart', options),
    pidOf: async (name, options) => (await status(options)).parts.find((part) => part.name === name)?.pid ?? 0,
    shutdown: async (options) => {
      await call('POST', '/shutdown', undefined, options);
    },
  };
}

async function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  const answered = Promise.withResolvers<{ readonly status: number; readonly text: string }>();
  const outgoing = request({ socketPath, method, path, signal, agent: false }, (answer) => {
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => chunks.push(chunk));
    answer.on('error', answered.reject);
    answer.on('end', () =>
      answered.resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
    );
  });
  outgoing.on('error', (error) => {
    const gone = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET'].includes(errnoOf(error) ?? '');
    answered.reject(
      gone
        ? new EsbError('the supervisor is not running; start the instance with: npm run up', {
            code: localCode('SupervisorGone'),
            cause: error,
          })
        : error,
    );
  });
  outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  const { status, text } = await answered.promise;
  const parsed: unknown = text === '' ? undefined : JSON.parse(text);
  if (status >= 400) {
    const { code, message } = parsed as { readonly code: string; readonly message: string };
    throw new EsbError(message, { code: foreignCode(code) });
  }
  return parsed;
}
