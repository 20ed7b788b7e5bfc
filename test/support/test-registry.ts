import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import type { Blob, TestImage, TestIndex } from './test-image.ts';

/** A registry on loopback that serves images from memory, and takes pushes of whole blobs. */
export interface TestRegistry {
  /** Such as `127.0.0.1:41234`. */
  readonly host: string;
  /** Serves `image` as `repository:tag` and returns the full reference. */
  put(name: string, image: TestImage): string;
  /** Adds an index. */
  putIndex(name: string, index: TestIndex): string;
  /** Requests so far, as `METHOD path`. */
  readonly requests: readonly string[];
  /** Credentials that may pull; undefined for all. */
  credentials: { readonly username: string; readonly password: string } | undefined;
  /** How they are asked for: with each request, or once for a token that stands for them. Default basic. */
  authentication: 'basic' | 'token';
  /** While set, downloads of blobs wait for it. */
  hold: Promise<void> | undefined;
  /** While set, blobs are sent so many bytes at a time; what is left of them is sent at once when it is no longer. */
  pace: { readonly bytes: number; readonly everyMs: number } | undefined;
  /** While set, nothing is taken, for this reason. */
  pushRefusal: string | undefined;
  /** Faults of the next pushes in turn: a status, or a connection that is cut. */
  readonly pushFaults: (number | 'cut')[];
  /** Refuses connections until `bringUp()`. */
  takeDown(): Promise<void>;
  bringUp(): Promise<void>;
  close(): Promise<void>;
}

export async function startTestRegistry(): Promise<TestRegistry> {
  const manifests = new Map<string, Blob>();
  const blobs = new Map<string, Blob>();
  const requests: string[] = [];
  const tokens = new Set<string>();

  /** Whether the request may go on; otherwise it has been answered. */
  function admit(request: IncomingMessage, response: ServerResponse): boolean {
    const { credentials, authentication, host } = registry;
    if (credentials === undefined) {
      return true;
    }
    const expected = `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
    const shown = request.headers.authorization ?? '';
    if (authentication === 'basic' ? shown === expected : tokens.has(shown.replace('Bearer ', ''))) {
      return true;
    }
    if (request.url?.startsWith('/token') === true && shown === expected) {
      const token = randomUUID();
      tokens.add(token);
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ token }));
      return false;
    }
    const challenge =
      authentication === 'basic' || request.url?.startsWith('/token') === true
        ? 'Basic realm="test"'
        : `Bearer realm="http://${host}/token",service="test"`;
    response.writeHead(401, { 'www-authenticate': challenge }).end('{"errors":[{"code":"UNAUTHORIZED"}]}');
    return false;
  }

  async function send(response: ServerResponse, content: Buffer): Promise<void> {
    let at = 0;
    while (registry.pace !== undefined && at < content.length && !response.destroyed) {
      const { bytes, everyMs } = registry.pace;
      response.write(content.subarray(at, at + bytes));
      at += bytes;
      await delay(everyMs);
    }
    response.end(content.subarray(at));
  }

  /** Takes a part of a push, or begins one. */
  async function take(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const [, repository = '', kind, reference = ''] =
      /^\/v2\/(.+)\/(manifests|blobs\/uploads)\/([^/]*)$/.exec(url.pathname) ?? [];
    const refuse = (status: number, code: string, message: string): void => {
      response.writeHead(status).end(JSON.stringify({ errors: [{ code, message }] }));
    };
    const fault = registry.pushFaults.shift();
    if (fault === 'cut') {
      request.socket.resetAndDestroy();
      return;
    }
    const content = await buffer(request);
    if (fault !== undefined) {
      refuse(fault, 'UNAVAILABLE', 'not now');
      return;
    }
    if (registry.pushRefusal !== undefined) {
      refuse(403, 'DENIED', registry.pushRefusal);
      return;
    }
    if (request.method === 'POST') {
      const mounted = blobs.get(`${url.searchParams.get('from')}:${url.searchParams.get('mount')}`);
      if (mounted !== undefined) {
        blobs.set(`${repository}:${mounted.digest}`, mounted);
      }
      response
        .writeHead(mounted === undefined ? 202 : 201, {
          location: `/v2/${repository}/blobs/uploads/${randomUUID()}?a=b`,
        })
        .end();
      return;
    }
    const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
    const blob = { mediaType: request.headers['content-type'] ?? '', digest, content };
    if (kind === 'manifests') {
      manifests.set(`${repository}:${reference}`, blob);
      manifests.set(`${repository}:${digest}`, blob);
    } else if (url.searchParams.get('digest') === digest) {
      blobs.set(`${repository}:${digest}`, blob);
    } else {
      refuse(400, 'DIGEST_INVALID', `this is ${digest}`);
      return;
    }
    response.writeHead(201).end();
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    requests.push(`${request.method} ${path}`);
    if (!admit(request, response)) {
      return;
    }
    if (request.method === 'POST' || request.method === 'PUT') {
      await take(request, response, new URL(path, `http://${registry.host}`));
      return;
    }
    const [, repository, kind, reference] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)/.exec(path) ?? [];
    const place = `${repository}:${reference}`;
    const found = kind === 'manifests' ? manifests.get(place) : blobs.get(place);
    if (found === undefined) {
      response.writeHead(path === '/v2/' ? 200 : 404).end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
      return;
    }
    if (kind === 'blobs') {
      await registry.hold;
    }
    response.writeHead(200, {
      'content-type': found.mediaType,
      'content-length': found.content.length,
      'docker-content-digest': found.digest,
    });
    if (request.method === 'HEAD' || kind === 'manifests') {
      response.end(request.method === 'HEAD' ? undefined : found.content);
    } else {
      await send(response, found.content);
    }
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  const listen = async (port: number): Promise<number> => {
    const listening = Promise.withResolvers<void>();
    server.once('error', listening.reject);
    server.listen(port, '127.0.0.1', listening.resolve);
    await listening.promise;
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  };
  const close = async (): Promise<void> => {
    const closed = Promise.withResolvers<void>();
    server.close(() => closed.resolve());
    server.closeAllConnections();
    await closed.promise;
  };
  const put = (name: string, manifest: Blob, images: readonly TestImage[]): string => {
    const repository = name.slice(0, name.lastIndexOf(':'));
    for (const each of [manifest, ...images.map((image) => image.manifest)]) {
      manifests.set(`${repository}:${each.digest}`, each);
    }
    manifests.set(name, manifest);
    for (const blob of images.flatMap((image) => image.blobs)) {
      blobs.set(`${repository}:${blob.digest}`, blob);
    }
    return `${host}/${name}`;
  };
  const port = await listen(0);
  const host = `127.0.0.1:${port}`;
  const registry: TestRegistry = {
    host,
    requests,
    credentials: undefined,
    authentication: 'basic',
    hold: undefined,
    pace: undefined,
    pushRefusal: undefined,
    pushFaults: [],
    put: (name, image) => put(name, image.manifest, [image]),
    putIndex: (name, { index, images }) => put(name, index, images),
    takeDown: close,
    bringUp: async () => {
      await listen(port);
    },
    async close() {
      if (server.listening) {
        await close();
      }
    },
  };
  return registry;
}
