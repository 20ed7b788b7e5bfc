import type { Dispatcher } from 'undici';
import { AbortedError, type CallOptions, DeadlineError } from '../../common/deadline.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import { ApiError } from '../api/api-error.ts';
import { keyText, objectKey } from '../api/object-key.ts';
import { apiVersionOf, collectionPath, objectPath, queryText } from '../api/resource-path.ts';
import { isGone } from '../api/resource-version.ts';
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
import { type KubeRequest, Transport, type TransportOptions } from './transport.ts';
import { linesOf, parseWatchFrame } from './watch-frames.ts';

export interface KubeClientOptions extends TransportOptions {
  /** Objects per page of a list. Default 500, as in client-go. */
  readonly pageSize?: number;
}

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
  readonly metadata?: {
    readonly resourceVersion?: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
}

/** The client over HTTP: makes the requests that {@link Transport} sends. */
class HttpKubeClient implements KubeClient {
  readonly #transport: Transport;
  readonly #pageSize: number;

  constructor(options: KubeClientOptions) {
    this.#transport = new Transport(options);
    this.#pageSize = options.pageSize ?? 500;
  }

  async get<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    options: CallOptions = {},
  ): Promise<T | undefined> {
    try {
      const request = { what: describe('get', type, key), method: 'GET', path: objectPath(type, key) } as const;
      return await this.#object<T>(request, options);
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

  async count<T extends KubeObject>(type: ResourceType<T>, options: CallOptions = {}): Promise<number | undefined> {
    const what = describe('count', type);
    const request = { what, method: 'GET', path: readPath(type, {}, { limit: 1 }) } as const;
    const { items, metadata = {} } = await this.#object<Page<T>>(request, options);
    const isWhole = (metadata.continue ?? '') === '';
    const rest = isWhole ? 0 : metadata.remainingItemCount;
    return rest === undefined ? undefined : (items ?? []).length + rest;
  }

  create<T extends KubeObject>(type: ResourceType<T>, object: T, options: FenceOptions = {}): Promise<T> {
    const what = describe('create', type, objectKey(object));
    const path = collectionPath(type, object.metadata.namespace);
    return this.#object({ what, method: 'POST', path, ...jsonContent(typed(type, object)) }, options);
  }

  update<T extends KubeObject>(type: ResourceType<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const key = objectKey(object);
    const path = objectPath(type, key, options.subresource);
    const what = describe('update', type, key);
    return this.#object({ what, method: 'PUT', path, ...jsonContent(typed(type, object)) }, options);
  }

  patch<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    patch: PatchBody,
    options: WriteOptions = {},
  ): Promise<T> {
    const { fieldManager } = patch;
    const query = queryText({
      fieldManager,
      ...(patch.kind === 'apply' ? { force: patch.force ?? true } : {}),
      ...(options.dryRun === true ? { dryRun: 'All' } : {}),
    });
    const path = `${objectPath(type, key, options.subresource)}${query}`;
    const what = describe('patch', type, key);
    return this.#object({ what, method: 'PATCH', path, ...patchContent(type, key, patch) }, options);
  }

  async delete<T extends KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    options: DeleteOptions = {},
  ): Promise<T | undefined> {
    const { fence, gracePeriodSeconds, resourceVersion, uid } = options;
    const what = describe('delete', type, key);
    try {
      const isAny = uid === undefined && resourceVersion === undefined;
      const preconditions = isAny ? {} : { preconditions: { uid, resourceVersion } };
      const content = jsonContent({ apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds, ...preconditions });
      const request = { what, method: 'DELETE', path: objectPath(type, key), ...content, fence } as const;
      const answer = parseObject<T>(what, await this.#transport.request(request, options));
      return answer.kind === 'Status' || isGone(answer) ? undefined : answer;
    } catch (error) {
      if (isMissingObject(error)) {
        return undefined;
      }
      // A conflict is also the answer to another uid under the name: ours is missing then.
      if (error instanceof ApiError && error.status === 409 && uid !== undefined) {
        const present = await this.get(type, key, options);
        if (present?.metadata.uid !== uid) {
          return undefined;
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
    const { signal } = options;
    const { resourceVersion, timeoutSeconds } = parameters;
    const what = describe('watch', type);
    const query = { watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds };
    if (signal?.aborted === true) {
      throw new AbortedError(what, signal.reason);
    }
    const deadlineMs = options.deadlineMs ?? timeoutSeconds * 1000 + WATCH_OVERRUN_MS;
    const stream = new AbortController();
    const onAbort = (): void => stream.abort(new AbortedError(what, signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => stream.abort(new DeadlineError(what, deadlineMs)), deadlineMs);
    let body: Dispatcher.ResponseData['body'] | undefined;
    try {
      const path = readPath(type, parameters, query);
      ({ body } = await this.#transport.stream({ what, method: 'GET', path }, stream.signal));
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

  close(): Promise<void> {
    return this.#transport.close();
  }

  async #object<T extends object>(request: KubeRequest, options: FenceOptions): Promise<T> {
    return parseObject<T>(request.what, await this.#transport.request({ ...request, fence: options.fence }, options));
  }
}

async function listPages<T extends KubeObject>(
  send: (request: KubeRequest) => Promise<string>,
  type: ResourceType<T>,
  parameters: ListParameters,
  limit: number | undefined,
  transform: (object: T) => T,
): Promise<ObjectList<T>> {
  const what = describe('list', type);
  const items: T[] = [];
  let token: string | undefined;
  for (;;) {
    const path = readPath(type, parameters, { limit, continue: token });
    const page = parseObject<Page<T>>(what, await send({ what, method: 'GET', path }));
    for (const item of page.items ?? []) {
      items.push(transform(item));
    }
    token = page.metadata?.continue;
    if (token === undefined || token === '') {
      const resourceVersion = page.metadata?.resourceVersion;
      if (resourceVersion === undefined) {
        throw ApiError.invalidAnswer(what, 'a list without a version');
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
    throw ApiError.invalidAnswer(what, 'not an object');
  }
  return value as T;
}

function readPath<T extends KubeObject>(
  type: ResourceType<T>,
  { namespace, labelSelector, fieldSelector }: ListParameters,
  query: Parameters<typeof queryText>[0],
): string {
  return `${collectionPath(type, namespace)}${queryText({ labelSelector, fieldSelector, ...query })}`;
}

/** Objects out of a list of a built-in kind carry no kind; the server wants one on every write. */
function typed<T extends KubeObject>(type: ResourceType<T>, object: object): object {
  return { apiVersion: apiVersionOf(type), kind: type.kind, ...object };
}

type Content = Pick<KubeRequest, 'body' | 'contentType'>;

function jsonContent(body: object): Content {
  return { contentType: 'application/json', body: JSON.stringify(body) };
}

function patchContent<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey, patch: PatchBody): Content {
  switch (patch.kind) {
    case 'merge':
    case 'json':
      return { contentType: `application/${patch.kind}-patch+json`, body: JSON.stringify(patch.body) };
    case 'apply': {
      const { metadata, ...rest } = patch.body as { readonly metadata?: object };
      const body = { ...typed(type, rest), metadata: { ...key, ...metadata } };
      // JSON is YAML; every version of the API server knows this type.
      return { contentType: 'application/apply-patch+yaml', body: JSON.stringify(body) };
    }
    default:
      return unreachable(patch);
  }
}

/** The request, for error messages. */
function describe<T extends KubeObject>(verb: string, { plural }: ResourceType<T>, key?: ObjectKey): string {
  return `${verb} ${plural}${key === undefined ? '' : ` ${keyText(key)}`}`;
}

/** "No such object", as opposed to "no such kind". */
function isMissingObject(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404 && error.subject !== undefined;
}
