import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { objectPath } from '../../src/kube/api/resource-path.ts';
import type { KubeObject, ObjectKey, ResourceType } from '../../src/kube/api/types.ts';
import type { KubeConnection, KubeConnectionSource } from '../../src/kube/client/kube-config.ts';

/** A request as the server saw it. */
export interface SeenRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** Number of the connection that it came on, from 1. */
  readonly connection: number;
}

/** An answer that is given instead of the right one. */
export type Fault =
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly reason?: string;
      readonly retryAfterSeconds?: number;
      /** Also carry out the request. Default false. */
      readonly applied?: boolean;
    }
  /** Takes the request in and never answers. */
  | { readonly kind: 'hang'; readonly applied?: boolean }
  /** Cuts the connection instead of answering. */
  | { readonly kind: 'cut'; readonly applied?: boolean }
  /** Answers with this text and status 200. */
  | { readonly kind: 'text'; readonly text: string }
  /** Answers rightly, but later. */
  | { readonly kind: 'slow'; readonly delayMs: number };

export type RequestMatch = (request: SeenRequest) => boolean;

/**
 * An API server in memory, over plain HTTP on loopback, for the faults that a real one cannot be made to show. Objects
 * are not validated. Server-side apply is treated as a merge patch.
 */
export interface FakeApiServer {
  readonly origin: string;
  readonly source: KubeConnectionSource;
  /** Everything that was asked, oldest first. */
  readonly requests: readonly SeenRequest[];
  /** Connections taken so far. */
  connections(): number;
  /** Watches that are open now. */
  openWatches(): number;
  resourceVersion(): number;
  /** Creates or changes an object as another client would. Keeps uid, gives a new version. */
  put<T extends KubeObject>(type: ResourceType<T>, object: T): T;
  remove(type: ResourceType<KubeObject>, key: ObjectKey): void;
  get<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey): T | undefined;
  all<T extends KubeObject>(type: ResourceType<T>): readonly T[];
  /** Forgets the history: versions and continue tokens of before are answered with 410. */
  compact(): void;
  /** Gives wrong answers to the next `times` requests that match. Default 1. */
  inject(match: RequestMatch, fault: Fault, times?: number): void;
  clearFaults(): void;
  /** Sends every open watch a bookmark. */
  bookmark(): void;
  /** Sends every open watch a raw line. */
  sendLine(line: string): void;
  /** Ends every open watch as a server does whose time is over. */
  endWatches(): void;
  /** Cuts the connections of open watches, possibly in the middle of a frame. */
  cutWatches(options?: { readonly midFrame?: boolean }): void;
  /** Open watches stay open and are told nothing any more; new ones are told everything. */
  silenceWatches(): void;
  /** From now on nothing is answered, on old connections and new ones. */
  freeze(): void;
  /** Answers what has waited, and goes on. */
  thaw(): void;
  stop(): Promise<void>;
}

interface StoredEvent {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly collection: string;
  readonly object: KubeObject;
}

interface OpenWatch {
  readonly response: ServerResponse;
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly matches: (object: KubeObject) => boolean;
  silenced: boolean;
}

interface Target {
  /** `group/version/plural`. */
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly plural: string;
}

function parseTarget(path: string): Target | undefined {
  const match =
    /^\/(?:api|apis\/(?<group>[^/]+))\/(?<version>[^/]+)(?:\/namespaces\/(?<namespace>[^/]+)(?=\/))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+))?(?:\/status)?$/.exec(
      path,
    );
  const groups = match?.groups;
  if (groups?.plural === undefined) {
    return undefined;
  }
  return {
    collection: `${groups.group ?? ''}/${groups.version}/${groups.plural}`,
    namespace: groups.namespace,
    name: groups.name === undefined ? undefined : decodeURIComponent(groups.name),
    plural: groups.plural,
  };
}

function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) {
    return patch;
  }
  const base = typeof target === 'object' && target !== null && !Array.isArray(target) ? target : {};
  const result: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) {
      delete result[name];
    } else {
      result[name] = merge(result[name], value);
    }
  }
  return result;
}

function field(object: unknown, path: string): string {
  let value: unknown = object;
  for (const part of path.split('.')) {
    value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[part] : undefined;
  }
  return typeof value === 'string' ? value : JSON.stringify(value ?? '');
}

/** Terms `a=b` joined by commas. */
function selectorMatch(selector: string | null, read: (name: string) => string): boolean {
  return (selector ?? '')
    .split(',')
    .filter((term) => term !== '')
    .every((term) => {
      const [name = '', value = ''] = term.split('=');
      return read(name) === value;
    });
}

function statusBody(status: number, reason: string, message: string, details: object = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Status',
    status: 'Failure',
    code: status,
    reason,
    message,
    details,
  });
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
}

export async function startFakeApiServer(): Promise<FakeApiServer> {
  const stored = new Map<string, KubeObject>();
  const watches = new Set<OpenWatch>();
  const sockets = new Map<Socket, number>();
  const requests: SeenRequest[] = [];
  const faults: { match: RequestMatch; fault: Fault; left: number }[] = [];
  let history: StoredEvent[] = [];
  let compactedAt = 0;
  let version = 1;
  let connections = 0;
  let frozen: (() => void)[] | undefined;

  const idOf = (collection: string, key: ObjectKey): string => `${collection}|${key.namespace ?? ''}|${key.name}`;
  const collectionOf = (type: ResourceType<KubeObject>): string => `${type.group}/${type.version}/${type.plural}`;

  const tell = (watch: OpenWatch, event: StoredEvent): void => {
    if (
      !watch.silenced &&
      watch.collection === event.collection &&
      (watch.namespace === undefined || watch.namespace === event.object.metadata.namespace) &&
      watch.matches(event.object)
    ) {
      watch.response.write(`${JSON.stringify({ type: event.type, object: event.object })}\n`);
    }
  };

  const record = (event: StoredEvent): void => {
    history.push(event);
    for (const watch of watches) {
      tell(watch, event);
    }
  };

  const store = (collection: string, object: KubeObject): KubeObject => {
    const id = idOf(collection, object.metadata);
    const old = stored.get(id);
    version++;
    const kept: KubeObject = {
      ...object,
      metadata: {
        ...object.metadata,
        uid: old?.metadata.uid ?? object.metadata.uid ?? randomUUID(),
        resourceVersion: String(version),
      },
    };
    stored.set(id, kept);
    record({ version, type: old === undefined ? 'ADDED' : 'MODIFIED', collection, object: kept });
    return kept;
  };

  const drop = (collection: string, key: ObjectKey): void => {
    const id = idOf(collection, key);
    const old = stored.get(id);
    if (old !== undefined) {
      stored.delete(id);
      version++;
      const object = { ...old, metadata: { ...old.metadata, resourceVersion: String(version) } };
      record({ version, type: 'DELETED', collection, object });
    }
  };

  const answer = (response: ServerResponse, status: number, body: string, headers: object = {}): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(body);
  };

  const list = (response: ServerResponse, target: Target, query: URLSearchParams): void => {
    const limit = Number(query.get('limit') ?? 0);
    const token = query.get('continue');
    const [tokenVersion, from] = token === null ? [version, 0] : token.split('-').map(Number);
    if (token !== null && (tokenVersion ?? 0) < compactedAt) {
      answer(response, 410, statusBody(410, 'Expired', 'The provided continue parameter is too old'));
      return;
    }
    const all = [...stored]
      .filter(([id]) => id.startsWith(`${target.collection}|`))
      .map(([, object]) => object)
      .filter((object) => target.namespace === undefined || object.metadata.namespace === target.namespace)
      .filter((object) => matcher(query)(object));
    const start = from ?? 0;
    const items = limit > 0 ? all.slice(start, start + limit) : all;
    const more = limit > 0 && start + limit < all.length;
    answer(
      response,
      200,
      JSON.stringify({
        kind: 'List',
        // Pages of one list all carry the version of the first.
        metadata: {
          resourceVersion: String(tokenVersion),
          ...(more
            ? { continue: `${tokenVersion}-${start + limit}`, remainingItemCount: all.length - start - limit }
            : {}),
        },
        items,
      }),
    );
  };

  const matcher =
    (query: URLSearchParams) =>
    (object: KubeObject): boolean =>
      selectorMatch(query.get('labelSelector'), (name) => object.metadata.labels?.[name] ?? '') &&
      selectorMatch(query.get('fieldSelector'), (name) => field(object, name));

  const openWatch = (response: ServerResponse, target: Target, query: URLSearchParams): void => {
    const from = Number(query.get('resourceVersion'));
    if (from > version) {
      answer(
        response,
        504,
        statusBody(504, 'Timeout', 'Too large resource version', {
          causes: [{ reason: 'ResourceVersionTooLarge' }],
        }),
      );
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (from < compactedAt) {
      const status: unknown = JSON.parse(statusBody(410, 'Expired', 'too old resource version'));
      response.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
      return;
    }
    const watch: OpenWatch = {
      response,
      collection: target.collection,
      namespace: target.namespace,
      matches: matcher(query),
      silenced: false,
    };
    watches.add(watch);
    response.on('close', () => watches.delete(watch));
    for (const event of history.filter((one) => one.version > from)) {
      tell(watch, event);
    }
  };

  const write = (request: SeenRequest, target: Target): { status: number; body: string } => {
    const namespace = target.namespace === undefined ? {} : { namespace: target.namespace };
    const sent = (request.body === '' ? {} : JSON.parse(request.body)) as KubeObject & {
      readonly preconditions?: { readonly uid?: string };
    };
    const name = target.name ?? sent.metadata.name;
    const key = { ...namespace, name };
    const old = stored.get(idOf(target.collection, key));
    const details = { name, kind: target.plural };
    const missing = { status: 404, body: statusBody(404, 'NotFound', `${name} not found`, details) };
    const conflict = {
      status: 409,
      body: statusBody(409, 'Conflict', 'the object has been modified', details),
    };
    const keep = (object: unknown): { status: number; body: string } => {
      const next = object as KubeObject;
      const metadata = { ...next.metadata, ...namespace, name };
      return { status: 200, body: JSON.stringify(store(target.collection, { ...next, metadata })) };
    };
    const staleVersion =
      sent.metadata?.resourceVersion !== undefined && sent.metadata.resourceVersion !== old?.metadata.resourceVersion;
    switch (request.method) {
      case 'POST':
        return old === undefined
          ? { ...keep(sent), status: 201 }
          : { status: 409, body: statusBody(409, 'AlreadyExists', `${name} already exists`, details) };
      case 'PUT':
        return old === undefined ? missing : staleVersion ? conflict : keep(sent);
      case 'PATCH':
        if (old === undefined && request.query.get('force') !== 'true') {
          return missing;
        }
        return staleVersion ? conflict : keep(merge(old, sent));
      case 'DELETE': {
        const uid = sent.preconditions?.uid;
        if (old === undefined) {
          return missing;
        }
        if (uid !== undefined && uid !== old.metadata.uid) {
          return conflict;
        }
        drop(target.collection, key);
        return { status: 200, body: JSON.stringify({ kind: 'Status', status: 'Success' }) };
      }
      default:
        return { status: 405, body: statusBody(405, 'MethodNotAllowed', 'no such method') };
    }
  };

  const serveRightly = (request: SeenRequest, response: ServerResponse): void => {
    const target = parseTarget(request.path);
    if (target === undefined) {
      answer(
        response,
        request.path === '/readyz' ? 200 : 404,
        request.path === '/readyz' ? 'ok' : '404 page not found',
      );
      return;
    }
    if (request.method !== 'GET') {
      const result = write(request, target);
      answer(response, result.status, result.body);
    } else if (target.name !== undefined) {
      const namespace = target.namespace === undefined ? {} : { namespace: target.namespace };
      const found = stored.get(idOf(target.collection, { ...namespace, name: target.name }));
      answer(
        response,
        found === undefined ? 404 : 200,
        found === undefined
          ? statusBody(404, 'NotFound', `${target.name} not found`, { name: target.name })
          : JSON.stringify(found),
      );
    } else if (request.query.get('watch') === 'true') {
      openWatch(response, target, request.query);
    } else {
      list(response, target, request.query);
    }
  };

  const applyUnanswered = (request: SeenRequest): void => {
    const target = parseTarget(request.path);
    if (target !== undefined && request.method !== 'GET') {
      write(request, target);
    }
  };

  const serve = (request: SeenRequest, response: ServerResponse): void => {
    const found = faults.find((one) => one.left > 0 && one.match(request));
    if (found === undefined) {
      serveRightly(request, response);
      return;
    }
    found.left--;
    const { fault } = found;
    switch (fault.kind) {
      case 'status':
        if (fault.applied === true) {
          applyUnanswered(request);
        }
        answer(
          response,
          fault.status,
          statusBody(fault.status, fault.reason ?? '', `injected ${fault.status}`),
          fault.retryAfterSeconds === undefined ? {} : { 'retry-after': String(fault.retryAfterSeconds) },
        );
        break;
      case 'hang':
      case 'cut':
        if (fault.applied === true) {
          applyUnanswered(request);
        }
        if (fault.kind === 'cut') {
          response.socket?.destroy();
        }
        break;
      case 'text':
        answer(response, 200, fault.text);
        break;
      case 'slow':
        setTimeout(() => serveRightly(request, response), fault.delayMs).unref();
        break;
    }
  };

  const receive = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readBody(incoming);
    const url = new URL(incoming.url ?? '/', 'http://fake');
    const request: SeenRequest = {
      method: incoming.method ?? 'GET',
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      body,
      connection: sockets.get(incoming.socket) ?? 0,
    };
    const go = (): void => {
      if (!response.destroyed) {
        requests.push(request);
        serve(request, response);
      }
    };
    if (frozen === undefined) {
      go();
    } else {
      frozen.push(go);
    }
  };

  const server = createServer((incoming, response) => {
    response.on('error', () => undefined);
    receive(incoming, response).catch(() => response.destroy());
  });
  server.keepAliveTimeout = 60_000;
  server.on('connection', (socket) => {
    connections++;
    sockets.set(socket, connections);
    socket.on('close', () => sockets.delete(socket));
  });
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const connection: KubeConnection = { origin, basePath: '', tls: {}, headers: {}, fingerprint: origin };

  return {
    origin,
    source: { current: () => Promise.resolve(connection), invalidate: () => undefined },
    requests,
    connections: () => connections,
    openWatches: () => watches.size,
    resourceVersion: () => version,
    put<T extends KubeObject>(type: ResourceType<T>, object: T): T {
      return store(collectionOf(type), object) as T;
    },
    remove(type, key) {
      drop(collectionOf(type), key);
    },
    get<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey): T | undefined {
      return stored.get(idOf(collectionOf(type), key)) as T | undefined;
    },
    all<T extends KubeObject>(type: ResourceType<T>): readonly T[] {
      return [...stored].filter(([id]) => id.startsWith(`${collectionOf(type)}|`)).map(([, object]) => object as T);
    },
    compact() {
      version++;
      compactedAt = version;
      history = [];
    },
    inject(match, fault, times = 1) {
      faults.push({ match, fault, left: times });
    },
    clearFaults() {
      faults.length = 0;
    },
    bookmark() {
      const object = { metadata: { resourceVersion: String(version) } };
      for (const watch of watches) {
        if (!watch.silenced) {
          watch.response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
        }
      }
    },
    sendLine(line) {
      for (const watch of watches) {
        watch.response.write(`${line}\n`);
      }
    },
    endWatches() {
      for (const watch of watches) {
        watch.response.end();
      }
    },
    cutWatches({ midFrame = false } = {}) {
      for (const { response } of watches) {
        if (midFrame) {
          response.write('{"type":"ADDED","object":{"metadata":{"na', () => response.socket?.destroy());
        } else {
          response.socket?.destroy();
        }
      }
    },
    silenceWatches() {
      for (const watch of watches) {
        watch.silenced = true;
      }
    },
    freeze() {
      frozen ??= [];
    },
    thaw() {
      const waiting = frozen ?? [];
      frozen = undefined;
      for (const go of waiting) {
        go();
      }
    },
    async stop() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
}

/** Matches requests of a method to an object, its subresources included. */
export function requestFor(method: string, type: ResourceType<KubeObject>, key: ObjectKey): RequestMatch {
  const path = objectPath(type, key, undefined);
  return (request) => request.method === method && (request.path === path || request.path === `${path}/status`);
}

/** Matches lists, not watches. */
export function listsOf(type: ResourceType<KubeObject>): RequestMatch {
  return ({ method, path, query }) =>
    method === 'GET' && query.get('watch') !== 'true' && path.endsWith(`/${type.plural}`);
}

export function watchesOf(type: ResourceType<KubeObject>): RequestMatch {
  return ({ method, path, query }) =>
    method === 'GET' && query.get('watch') === 'true' && path.endsWith(`/${type.plural}`);
}
