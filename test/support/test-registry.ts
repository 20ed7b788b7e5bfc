import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Blob, TestImage } from './test-image.ts';

/** A registry on loopback that serves images from memory. */
export interface TestRegistry {
  /** Such as `127.0.0.1:41234`. */
  readonly host: string;
  /** Serves `image` as `repository:tag` and returns the full reference. */
  put(name: string, image: TestImage): string;
  /** What was asked for so far, as `METHOD path`. */
  readonly requests: readonly string[];
  /** Who may pull; undefined for everybody. */
  credentials: { readonly username: string; readonly password: string } | undefined;
  /** While set, downloads of blobs wait for it. */
  hold: Promise<void> | undefined;
  close(): Promise<void>;
}

export async function startTestRegistry(): Promise<TestRegistry> {
  const manifests = new Map<string, Blob>();
  const blobs = new Map<string, Blob>();
  const requests: string[] = [];

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    requests.push(`${request.method} ${path}`);
    if (registry.credentials !== undefined && !authorized(request, registry.credentials)) {
      response
        .writeHead(401, { 'www-authenticate': 'Basic realm="test"' })
        .end('{"errors":[{"code":"UNAUTHORIZED"}]}');
      return;
    }
    const [, repository, kind, reference] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)/.exec(path) ?? [];
    const found =
      kind === 'manifests' ? manifests.get(`${repository}:${reference}`) : blobs.get(reference ?? '');
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
    response.end(request.method === 'HEAD' ? undefined : found.content);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', listening.resolve);
  await listening.promise;
  const address = server.address();
  const host = `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  const registry: TestRegistry = {
    host,
    requests,
    credentials: undefined,
    hold: undefined,
    put(name, image) {
      const repository = name.slice(0, name.lastIndexOf(':'));
      manifests.set(name, image.manifest);
      manifests.set(`${repository}:${image.manifest.digest}`, image.manifest);
      for (const blob of image.blobs) {
        blobs.set(blob.digest, blob);
      }
      return `${host}/${name}`;
    },
    async close() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
  return registry;
}

function authorized(
  request: IncomingMessage,
  { username, password }: { readonly username: string; readonly password: string },
): boolean {
  const expected = Buffer.from(`${username}:${password}`).toString('base64');
  return request.headers.authorization === `Basic ${expected}`;
}
