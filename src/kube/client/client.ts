import type { Dispatcher } from 'undici';
import { type Clock, systemClock } from '../../common/clock.ts';
import { AbortedError, type CallOptions, DeadlineError, sleep, withDeadline } from '../../common/deadline.ts';
import { EsbError, errnoOf, unreachable } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import { ApiError } from '../api/api-error.ts';
import { collectionPath, objectPath, queryText, selectors } from '../api/resource-path.ts';
import type {
  DeleteOptions,
  FenceOptions,
  KubeClient,
  KubeObject,
  ListOptions,
  ListParameters,
  ObjectKey,
  ObjectList,
  PatchBody,
  ResourceType,
  WatchFrame,
  WriteOptions,
} from '../api/types.ts';
import { createConnectionPool, withFence } from './connection-pool.ts';
import type { KubeConnection, KubeConnectionSource } from './kube-config.ts';
import { linesOf, parseWatchFrame } from './watch-frames.ts';

export interface KubeClientOptions {
  readonly source: KubeConnectionSource;
  /** How the API server's audit log shows us. Default `esb`. */
  readonly userAgent?: string;
  readonly clock?: Clock;
  /** Gives numbers from 0 to 1, for jitter. */
  readonly random?: () => number;
  /** Milliseconds that a call may take where it does not say itself. Default 30,000. */
  readonly deadlineMs?: number;
  /** Requests at a time, watches not counted. Default 32. {@link LEASE_REQUESTS} of a client for Leases alone. */
  readonly maxInFlight?: number;
  /** Objects per page of a list. Default 500, as in client-go. */
  readonly pageSize?: number;
}

/**
 * Requests at a time of a client that renews Leases and does nothing else. Signs of life wait neither in the gate nor on
 * the sockets of other requests.
 */
export const LEASE_REQUESTS = 2;

const DEFAULT_DEADLINE_MS = 30_000;
const DEFAULT_MAX_IN_FLIGHT = 32;
const DEFAULT_PAGE_SIZE = 500;
/** Tries of a read that the server answers with 429. */
const MAX_TRIES = 4;
const DEFAULT_RETRY_AFTER_MS = 1000;
/** Milliseconds by which the server may overrun the time after which it is to end a watch. */
const WATCH_OVERRUN_MS = 30_000;

const JSON_TYPE = 'application/json';

interface Request {
  /** For error messages. */
  readonly what: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly body?: string;
  readonly contentType?: string;
  readonly fence?: (() => void) | undefined;
}

function describe(verb: string, type: ResourceType<KubeObject>, key?: ObjectKey): string {
  const subject =
    key === undefined ? '' : ` ${key.namespace === undefined ? '' : `${key.namespace}/`}${key.name}`;
  return `${verb} ${type.plural}${subject}`;
}

function apiVersionOf(type: ResourceType<KubeObject>): string {
  return type.group === '' ? type.version : `${type.group}/${type.version}`;
}

/** Objects out of a list of a built-in kind carry no kind; the server wants one on every write. */
function typed(type: ResourceType<KubeObject>, object: object): object {
  return { apiVersion: apiVersionOf(type), kind: type.kind, ...object };
}

function keyOf(object: KubeObject): ObjectKey {
  const { namespace, name } = object.metadata;
  return namespace === undefined ? { name } : { namespace, name };
}

interface PatchRequest {
  readonly contentType: string;
  readonly body: object;
  readonly query: Readonly<Record<string, string | boolean | undefined>>;
}

function patchRequest(type: ResourceType<KubeObject>, key: ObjectKey, patch: PatchBody): PatchRequest {
  switch (patch.kind) {
    case 'merge':
      return {
        contentType: 'application/merge-patch+json',
        body: patch.body,
        query: { fieldManager: patch.fieldManager },
      };
    case 'json':
      return {
        contentType: 'application/json-patch+json',
        body: patch.body,
        query: { fieldManager: patch.fieldManager },
      };
    case 'apply': {
      const { metadata, ...rest } = patch.body as { readonly metadata?: object };
      return {
        // JSON is YAML; every version of the API server knows this type.
        contentType: 'application/apply-patch+yaml',
        body: { ...typed(type, rest), metadata: { ...key, ...metadata } },
        query: { fieldManager: patch.fieldManager, force: true },
      };
    }
    default:
      return unreachable(patch);
  }
}

function parseObject<T extends object>(what: string, text: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw ApiError.invalidAnswer(what, error);
  }
  if (typeof value !== 'object' || value === null) {
    throw ApiError.invalidAnswer(what, new EsbError('it is not an object', { code: 'InvalidAnswer' }));
  }
  return value as T;
}

interface Page<T extends KubeObject> {
  readonly items?: readonly T[] | null;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
}

function headerText(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** Whether the server has closed a socket that we took for open, so that it cannot have read the request's answer. */
function isStaleSocket(error: unknown): boolean {
  const code = error instanceof ApiError ? errnoOf(error.cause) : undefined;
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE';
}

/** "No such object", as opposed to "no such kind". */
function isMissingObject(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404 && error.subject !== undefined;
}

/**
 * A client over one set of kept-alive connections. Calls beyond `maxInFlight` wait their turn; watches have sockets of
 * their own and hold up nobody. Credentials are read again when they get old or are refused.
 *
 * Reads are tried again, within their deadline, when the server asks for patience (429) or when a kept-alive connection
 * turns out to be closed. Writes are sent once: what became of one that failed is for its caller to find out.
 */
export function createKubeClient(options: KubeClientOptions): KubeClient {
  const {
    source,
    userAgent = 'esb',
    clock = systemClock,
    random = Math.random,
    deadlineMs: defaultDeadlineMs = DEFAULT_DEADLINE_MS,
    maxInFlight = DEFAULT_MAX_IN_FLIGHT,
    pageSize = DEFAULT_PAGE_SIZE,
  } = options;
  const gate = new Limiter(maxInFlight);
  const pool = createConnectionPool(clock, random);
  let closed = false;

  const send = async (
    connection: KubeConnection,
    request: Request,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> => {
    if (closed) {
      throw new AbortedError(request.what, new EsbError('the client is closed', { code: 'Aborted' }));
    }
    let fenced: { readonly error: unknown } | undefined;
    const { fence } = request;
    const guard =
      fence === undefined
        ? undefined
        : () => {
            try {
              fence();
            } catch (error) {
              fenced = { error };
              throw error;
            }
          };
    try {
      const answer = await pool.dispatcher(connection).request(
        withFence(
          {
            origin: connection.origin,
            path: `${connection.basePath}${request.path}`,
            method: request.method,
            headers: {
              accept: JSON_TYPE,
              'user-agent': userAgent,
              ...connection.headers,
              ...(request.contentType === undefined ? {} : { 'content-type': request.contentType }),
            },
            body: request.body ?? null,
            signal,
          },
          guard,
        ),
      );
      if (answer.statusCode >= 400) {
        throw ApiError.fromAnswer(
          request.what,
          answer.statusCode,
          await answer.body.text(),
          headerText(answer.headers['retry-after']),
        );
      }
      return answer;
    } catch (error) {
      if (fenced !== undefined) {
        throw fenced.error;
      }
      if (error instanceof ApiError || signal.aborted) {
        throw error;
      }
      source.invalidate();
      throw ApiError.unreachable(request.what, error);
    }
  };

  /** Sends a request and, when its credentials are refused and there are newer ones, once more with those. */
  const authenticated = async (request: Request, signal: AbortSignal): Promise<Dispatcher.ResponseData> => {
    const connection = await source.current();
    try {
      return await send(connection, request, signal);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) {
        throw error;
      }
      source.invalidate();
      const renewed = await source.current();
      if (
        renewed.fingerprint === connection.fingerprint &&
        JSON.stringify(renewed.headers) === JSON.stringify(connection.headers)
      ) {
        throw error;
      }
      return send(renewed, request, signal);
    }
  };

  const exchange = async (request: Request, signal: AbortSignal): Promise<string> => {
    const leave = await gate.enter(signal);
    try {
      const answer = await authenticated(request, signal);
      try {
        return await answer.body.text();
      } catch (error) {
        throw signal.aborted ? error : ApiError.unreachable(request.what, error);
      }
    } finally {
      leave();
    }
  };

  /** Milliseconds until the request is sent again; undefined when it is not. */
  const retryDelay = (request: Request, error: unknown, tries: number): number | undefined => {
    if (request.method !== 'GET' || !(error instanceof ApiError) || tries >= MAX_TRIES) {
      return undefined;
    }
    if (error.status === 429) {
      return (error.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS) * (1 + random() / 4);
    }
    return tries === 1 && isStaleSocket(error) ? 0 : undefined;
  };

  const within = async <T>(
    what: string,
    call: CallOptions,
    body: (signal: AbortSignal, endsAt: number) => Promise<T>,
  ): Promise<T> => {
    const deadlineMs = call.deadlineMs ?? defaultDeadlineMs;
    const endsAt = clock.monotonic() + deadlineMs;
    try {
      return await withDeadline(what, deadlineMs, call.signal, (signal) => body(signal, endsAt));
    } catch (error) {
      if (error instanceof DeadlineError) {
        pool.distrust();
      }
      throw error;
    }
  };

  const patiently = async (request: Request, signal: AbortSignal, endsAt: number): Promise<string> => {
    for (let tries = 1; ; tries++) {
      try {
        return await exchange(request, signal);
      } catch (error) {
        const delayMs = signal.aborted ? undefined : retryDelay(request, error, tries);
        if (delayMs === undefined || clock.monotonic() + delayMs >= endsAt) {
          throw error;
        }
        await sleep(clock, delayMs, signal);
      }
    }
  };

  const call = (request: Request, callOptions: CallOptions): Promise<string> =>
    within(request.what, callOptions, (signal, endsAt) => patiently(request, signal, endsAt));

  const callForObject = async <T extends object>(request: Request, callOptions: CallOptions): Promise<T> =>
    parseObject<T>(request.what, await call(request, callOptions));

  const get = async <T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    callOptions: CallOptions = {},
  ): Promise<T | undefined> => {
    const request: Request = {
      what: describe('get', type, key),
      method: 'GET',
      path: objectPath(type, key, undefined),
    };
    try {
      return await callForObject<T>(request, callOptions);
    } catch (error) {
      if (isMissingObject(error)) {
        return undefined;
      }
      throw error;
    }
  };

  const listPages = async <T extends KubeObject>(
    type: ResourceType<T>,
    parameters: ListParameters,
    limit: number | undefined,
    transform: (object: T) => T,
    signal: AbortSignal,
    endsAt: number,
  ): Promise<ObjectList<T>> => {
    const what = describe('list', type);
    const items: T[] = [];
    let token: string | undefined;
    for (;;) {
      const query = queryText({ ...selectors(parameters), limit, continue: token });
      const path = `${collectionPath(type, parameters.namespace)}${query}`;
      const page = parseObject<Page<T>>(what, await patiently({ what, method: 'GET', path }, signal, endsAt));
      for (const item of page.items ?? []) {
        items.push(transform(item));
      }
      token = page.metadata?.continue;
      if (token === undefined || token === '') {
        const resourceVersion = page.metadata?.resourceVersion;
        if (resourceVersion === undefined) {
          throw ApiError.invalidAnswer(what, new EsbError('it has no version', { code: 'InvalidAnswer' }));
        }
        return { items, resourceVersion };
      }
    }
  };

  async function* watch<T extends KubeObject>(
    type: ResourceType<T>,
    parameters: ListParameters & { readonly resourceVersion: string; readonly timeoutSeconds: number },
    callOptions: CallOptions = {},
  ): AsyncGenerator<WatchFrame<T>> {
    const what = describe('watch', type);
    const query = queryText({
      ...selectors(parameters),
      watch: true,
      allowWatchBookmarks: true,
      resourceVersion: parameters.resourceVersion,
      timeoutSeconds: parameters.timeoutSeconds,
    });
    const request: Request = {
      what,
      method: 'GET',
      path: `${collectionPath(type, parameters.namespace)}${query}`,
    };
    const wholeMs = callOptions.deadlineMs ?? parameters.timeoutSeconds * 1000 + WATCH_OVERRUN_MS;
    const stream = new AbortController();
    let ended: EsbError | undefined;
    const end = (error: EsbError): void => {
      ended ??= error;
      stream.abort(ended);
    };
    const onAbort = (): void => end(new AbortedError(what, callOptions.signal?.reason));
    if (callOptions.signal?.aborted === true) {
      throw new AbortedError(what, callOptions.signal.reason);
    }
    callOptions.signal?.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => end(new DeadlineError(what, wholeMs)), wholeMs);
    let body: Dispatcher.ResponseData['body'] | undefined;
    try {
      // The server sends the head at once, whatever there is to watch.
      const answer = await within(what, { deadlineMs: defaultDeadlineMs, signal: stream.signal }, () =>
        authenticated(request, stream.signal),
      );
      body = answer.body;
      for await (const line of linesOf(body)) {
        yield parseWatchFrame<T>(what, line);
      }
    } catch (error) {
      throw ended ?? (error instanceof EsbError ? error : ApiError.unreachable(what, error));
    } finally {
      clearTimeout(timer);
      callOptions.signal?.removeEventListener('abort', onAbort);
      // Also where the head came too late for anybody to read on.
      stream.abort();
      body?.on('error', () => undefined).destroy();
    }
  }

  return {
    get,
    list<T extends KubeObject>(
      type: ResourceType<T>,
      parameters: ListParameters = {},
      callOptions: ListOptions<T> = {},
    ): Promise<ObjectList<T>> {
      const { transform = (object) => object } = callOptions;
      return within(describe('list', type), callOptions, async (signal, endsAt) => {
        try {
          return await listPages(type, parameters, pageSize, transform, signal, endsAt);
        } catch (error) {
          // The snapshot that the pages came from is gone. In one piece there is nothing that can expire.
          if (error instanceof ApiError && error.code === 'Expired') {
            return listPages(type, parameters, undefined, transform, signal, endsAt);
          }
          throw error;
        }
      });
    },
    create<T extends KubeObject>(
      type: ResourceType<T>,
      object: T,
      callOptions: FenceOptions = {},
    ): Promise<T> {
      return callForObject<T>(
        {
          what: describe('create', type, keyOf(object)),
          method: 'POST',
          path: collectionPath(type, object.metadata.namespace),
          body: JSON.stringify(typed(type, object)),
          contentType: JSON_TYPE,
          fence: callOptions.fence,
        },
        callOptions,
      );
    },
    update<T extends KubeObject>(
      type: ResourceType<T>,
      object: T,
      callOptions: WriteOptions = {},
    ): Promise<T> {
      return callForObject<T>(
        {
          what: describe('update', type, keyOf(object)),
          method: 'PUT',
          path: objectPath(type, keyOf(object), callOptions.subresource),
          body: JSON.stringify(typed(type, object)),
          contentType: JSON_TYPE,
          fence: callOptions.fence,
        },
        callOptions,
      );
    },
    patch<T extends KubeObject>(
      type: ResourceType<T>,
      key: ObjectKey,
      patch: PatchBody,
      callOptions: WriteOptions = {},
    ): Promise<T> {
      const { contentType, body, query } = patchRequest(type, key, patch);
      return callForObject<T>(
        {
          what: describe('patch', type, key),
          method: 'PATCH',
          path: `${objectPath(type, key, callOptions.subresource)}${queryText(query)}`,
          body: JSON.stringify(body),
          contentType,
          fence: callOptions.fence,
        },
        callOptions,
      );
    },
    async delete(type, key, callOptions: DeleteOptions = {}) {
      const { uid } = callOptions;
      try {
        await call(
          {
            what: describe('delete', type, key),
            method: 'DELETE',
            path: objectPath(type, key, undefined),
            body: JSON.stringify({
              apiVersion: 'v1',
              kind: 'DeleteOptions',
              ...(uid === undefined ? {} : { preconditions: { uid } }),
            }),
            contentType: JSON_TYPE,
            fence: callOptions.fence,
          },
          callOptions,
        );
      } catch (error) {
        if (isMissingObject(error)) {
          return;
        }
        // A conflict is what another uid under the name gives, too: then ours is missing.
        if (error instanceof ApiError && error.status === 409 && uid !== undefined) {
          const present = await get(type, key, callOptions);
          if (present?.metadata.uid !== uid) {
            return;
          }
        }
        throw error;
      }
    },
    watch,
    raw(path, callOptions = {}) {
      return call({ what: `get ${path}`, method: 'GET', path }, callOptions);
    },
    async close() {
      closed = true;
      await pool.close();
    },
  };
}
