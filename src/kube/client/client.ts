import type { Dispatcher } from 'undici';
import { AbortedError, type CallOptions, DeadlineError } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { ApiError } from '../api/api-error.ts';
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
import { ResourceRequests } from './resource-requests.ts';
import { type KubeRequest, Transport, type TransportOptions } from './transport.ts';
import { linesOf, parseWatchFrame } from './watch-frames.ts';

export interface KubeClientOptions extends TransportOptions {
  /** Objects per page of a list. Default 500, as in client-go. */
  readonly pageSize?: number;
}

const DEFAULT_PAGE_SIZE = 500;
/** Milliseconds by which the server may overrun the time after which it is to end a watch. */
const WATCH_OVERRUN_MS = 30_000;

/**
 * Requests at a time of a client that renews Leases and does nothing else. Signs of life wait neither in the limiter
 * nor on the sockets of other requests.
 */
export const LEASE_REQUESTS = 2;

export function createKubeClient(options: KubeClientOptions): KubeClient {
  return new HttpKubeClient(options);
}

interface Page<T extends KubeObject> {
  readonly items?: readonly T[] | null;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
}

/** The client over HTTP: {@link ResourceRequests} makes the requests, {@link Transport} sends them. */
class HttpKubeClient implements KubeClient {
  readonly #transport: Transport;
  readonly #pageSize: number;

  constructor(options: KubeClientOptions) {
    this.#transport = new Transport(options);
    this.#pageSize = options.pageSize ?? DEFAULT_PAGE_SIZE;
  }

  async get<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    options: CallOptions = {},
  ): Promise<T | undefined> {
    try {
      return await this.#object<T>(new ResourceRequests(type).get(key), options);
    } catch (error) {
      if (isMissingObject(error)) {
        return undefined;
      }
      throw error;
    }
  }

  list<T extends KubeObject>(
    type: ResourceType<T>,
    parameters: ListParameters = {},
    options: ListOptions<T> = {},
  ): Promise<ObjectList<T>> {
    const { transform = (object) => object } = options;
    return this.#transport.within(`list ${type.plural}`, options, async (send) => {
      try {
        return await listPages(send, type, parameters, this.#pageSize, transform);
      } catch (error) {
        // The snapshot that the pages came from is gone. A list in one piece cannot expire.
        if (error instanceof ApiError && error.code === 'Expired') {
          return listPages(send, type, parameters, undefined, transform);
        }
        throw error;
      }
    });
  }

  create<T extends KubeObject>(type: ResourceType<T>, object: T, options: FenceOptions = {}): Promise<T> {
    return this.#object({ ...new ResourceRequests(type).create(object), fence: options.fence }, options);
  }

  update<T extends KubeObject>(type: ResourceType<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const request = new ResourceRequests(type).update(object, options.subresource);
    return this.#object({ ...request, fence: options.fence }, options);
  }

  patch<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    patch: PatchBody,
    options: WriteOptions = {},
  ): Promise<T> {
    const request = new ResourceRequests(type).patch(key, patch, options.subresource);
    return this.#object({ ...request, fence: options.fence }, options);
  }

  async delete<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    options: DeleteOptions = {},
  ): Promise<void> {
    const { fence, uid } = options;
    try {
      await this.#transport.request({ ...new ResourceRequests(type).delete(key, uid), fence }, options);
    } catch (error) {
      if (isMissingObject(error)) {
        return;
      }
      // A conflict is also the answer to another uid under the name: ours is missing then.
      if (error instanceof ApiError && error.status === 409 && uid !== undefined) {
        const present = await this.get(type, key, options);
        if (present?.metadata.uid !== uid) {
          return;
        }
      }
      throw error;
    }
  }

  async *watch<T extends KubeObject>(
    type: ResourceType<T>,
    parameters: ListParameters & { readonly resourceVersion: string; readonly timeoutSeconds: number },
    options: CallOptions = {},
  ): AsyncGenerator<WatchFrame<T>> {
    const request = new ResourceRequests(type).watch(parameters);
    const { what } = request;
    const { signal } = options;
    if (signal?.aborted === true) {
      throw new AbortedError(what, signal.reason);
    }
    const deadlineMs = options.deadlineMs ?? parameters.timeoutSeconds * 1000 + WATCH_OVERRUN_MS;
    const stream = new AbortController();
    const onAbort = (): void => stream.abort(new AbortedError(what, signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => stream.abort(new DeadlineError(what, deadlineMs)), deadlineMs);
    let body: Dispatcher.ResponseData['body'] | undefined;
    try {
      ({ body } = await this.#transport.stream(request, stream.signal));
      for await (const line of linesOf(body)) {
        yield parseWatchFrame<T>(what, line);
      }
    } catch (error) {
      if (stream.signal.aborted) {
        throw stream.signal.reason;
      }
      throw error instanceof EsbError ? error : ApiError.unreachable(what, error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      // Also after a head that came too late.
      stream.abort();
      body?.on('error', () => undefined).destroy();
    }
  }

  raw(path: string, options: CallOptions = {}): Promise<string> {
    return this.#transport.request({ what: `get ${path}`, method: 'GET', path }, options);
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  async #object<T extends object>(request: KubeRequest, options: CallOptions): Promise<T> {
    return parseObject<T>(request.what, await this.#transport.request(request, options));
  }
}

async function listPages<T extends KubeObject>(
  send: (request: KubeRequest) => Promise<string>,
  type: ResourceType<T>,
  parameters: ListParameters,
  limit: number | undefined,
  transform: (object: T) => T,
): Promise<ObjectList<T>> {
  const requests = new ResourceRequests(type);
  const items: T[] = [];
  let token: string | undefined;
  for (;;) {
    const request = requests.list(parameters, { limit, continue: token });
    const page = parseObject<Page<T>>(request.what, await send(request));
    for (const item of page.items ?? []) {
      items.push(transform(item));
    }
    token = page.metadata?.continue;
    if (token === undefined || token === '') {
      const resourceVersion = page.metadata?.resourceVersion;
      if (resourceVersion === undefined) {
        throw invalidAnswer(request.what, 'a list without a version');
      }
      return { items, resourceVersion };
    }
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
    throw invalidAnswer(what, 'not an object');
  }
  return value as T;
}

function invalidAnswer(what: string, why: string): ApiError {
  return ApiError.invalidAnswer(what, new EsbError(why, { code: 'InvalidAnswer' }));
}

/** "No such object", as opposed to "no such kind". */
function isMissingObject(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404 && error.subject !== undefined;
}
