import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { hasCode } from '../../../src/common/errors.ts';
import { isLoopbackRegistry, RegistryClient } from '../../../src/oci/registry-client.ts';
import { challengeOf } from '../../../src/oci/registry-token.ts';
import { freePort } from '../../support/free-port.ts';
import { testImage } from '../../support/test-image.ts';
import { startTestRegistry, type TestRegistry } from '../../support/test-registry.ts';

const login = { username: 'ada', password: 'lovelace' };

async function world(): Promise<TestRegistry> {
  const registry = await startTestRegistry();
  onTestFinished(() => registry.close());
  return registry;
}

function blobOf(text: string) {
  const content = Buffer.from(text);
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  return { digest, size: content.length, open: () => Promise.resolve(content) };
}

/** Has a server serve on the loopback until the test is over; gives its host and port. */
async function served(server: Server): Promise<string> {
  const listening = Promise.withResolvers<void>();
  const port = await freePort();
  server.listen(port, '127.0.0.1', listening.resolve);
  await listening.promise;
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${port}`;
}

const smallImage = () => testImage({ files: [{ path: '/file', content: 'content' }] });

describe('a client of a registry', () => {
  it('reads manifests by tag and digest, documents and layers', async () => {
    const registry = await world();
    const image = await smallImage();
    registry.put('team/hello:1', image);
    const client = new RegistryClient({ registry: registry.host });
    const found = await client.manifest('team/hello', '1');
    expect(found).toEqual({
      digest: image.manifest.digest,
      mediaType: image.manifest.mediaType,
      content: image.manifest.content,
    });
    expect(await client.manifest('team/hello', found.digest)).toEqual(found);
    const [layer, config] = image.blobs;
    expect(await client.document('team/hello', config?.digest ?? '')).toEqual(config?.content);
    const stream = await client.blob('team/hello', layer?.digest ?? '', new AbortController().signal);
    expect(await buffer(stream)).toEqual(layer?.content);
  });

  it('pushes a blob once, and mounts what another repository has', async () => {
    const registry = await world();
    const client = new RegistryClient({ registry: registry.host });
    const blob = blobOf('a layer');
    expect(await client.pushBlob('one', blob)).toBe('uploaded');
    expect(await client.pushBlob('one', blob)).toBe('there');
    expect(await client.pushBlob('other', blob, { mountFrom: 'one' })).toBe('mounted');
    expect(await client.pushBlob('third', blob, { mountFrom: 'nowhere' })).toBe('uploaded');
    expect(await client.document('other', blob.digest)).toEqual(Buffer.from('a layer'));
  });

  it('stores a manifest under a tag, and finds it by its digest', async () => {
    const registry = await world();
    const client = new RegistryClient({ registry: registry.host });
    const { manifest } = await smallImage();
    expect(await client.hasManifest('hello', manifest.digest)).toBe(false);
    await client.pushManifest('hello', 'one', manifest);
    expect(await client.hasManifest('hello', manifest.digest)).toBe(true);
    expect((await client.manifest('hello', 'one')).content).toEqual(manifest.content);
  });

  it.each(['basic', 'token'] as const)('shows its login where the registry asks for it: %s', async (authentication) => {
    const registry = await world();
    registry.credentials = login;
    registry.authentication = authentication;
    const client = new RegistryClient({ registry: registry.host, login });
    const blob = blobOf('a layer');
    expect(await client.pushBlob('hello', blob)).toBe('uploaded');
    expect(await client.pushBlob('hello', blob)).toBe('there');
    // One token for all requests of one scope.
    expect(registry.requests.filter((each) => each.includes('/token'))).toEqual(
      authentication === 'basic' ? [] : ['GET /token?service=test&scope=repository%3Ahello%3Apull%2Cpush'],
    );
  });

  it('shows its login to a registry whose host is written in capitals', async () => {
    const registry = await world();
    registry.credentials = login;
    const named = registry.host.replace('127.0.0.1', 'LOCALHOST');
    const client = new RegistryClient({ registry: named, login, plainHttp: true });
    expect(await client.hasBlob('hello', blobOf('a layer').digest)).toBe(false);
  });

  it('uploads what it may not mount', async () => {
    const requests: string[] = [];
    const server = createServer((request, response) => {
      requests.push(`${request.method} ${request.url?.includes('mount=') ? 'mount' : ''}`.trim());
      const answers = { HEAD: 404, POST: request.url?.includes('mount=') ? 403 : 202, PUT: 201 } as const;
      response.writeHead(answers[request.method as keyof typeof answers], { location: '/upload' });
      request.resume().on('end', () => response.end());
    });
    const client = new RegistryClient({ registry: await served(server) });
    expect(await client.pushBlob('hello', blobOf('a layer'), { mountFrom: 'base' })).toBe('uploaded');
    expect(requests).toEqual(['HEAD', 'POST mount', 'POST', 'PUT']);
  });

  it('asks for the right to both repositories where it mounts', async () => {
    const registry = await world();
    const blob = blobOf('a layer');
    await new RegistryClient({ registry: registry.host }).pushBlob('base', blob);
    registry.credentials = login;
    registry.authentication = 'token';
    const client = new RegistryClient({ registry: registry.host, login });
    expect(await client.pushBlob('hello', blob, { mountFrom: 'base' })).toBe('mounted');
    expect(registry.requests.filter((each) => each.includes('/token')).at(-1)).toContain(
      'scope=repository%3Ahello%3Apull%2Cpush&scope=repository%3Abase%3Apull',
    );
  });

  it('tells what the registry said when it refuses', async () => {
    const registry = await world();
    const client = new RegistryClient({ registry: registry.host });
    registry.pushRefusal = 'the quota of team is used up';
    await expect(client.pushBlob('hello', blobOf('a layer'))).rejects.toSatisfy(
      (error: unknown) =>
        hasCode(error, 'ImagePushFailed') &&
        /the registry answered 403: DENIED the quota of team is used up/.test(error.message),
    );
    registry.pushRefusal = undefined;
    const wrong = { ...blobOf('a layer'), digest: blobOf('another').digest };
    await expect(client.pushBlob('hello', wrong)).rejects.toThrow(/400: DIGEST_INVALID/);
    registry.credentials = login;
    await expect(client.pushBlob('hello', blobOf('a layer'))).rejects.toThrow(/401.*log in/);
    await expect(client.manifest('hello', 'none')).rejects.toThrow(/401.*log in/);
    registry.credentials = undefined;
    await expect(client.manifest('hello', 'none')).rejects.toSatisfy((error) => hasCode(error, 'ImageNotFound'));
  });

  it('tells of a registry that does not answer', async () => {
    const client = new RegistryClient({ registry: `127.0.0.1:${await freePort()}` });
    await expect(client.manifest('hello', '1')).rejects.toSatisfy((error) => hasCode(error, 'RegistryUnreachable'));
    // The one that layers come from, where another one takes them.
    const taker = new RegistryClient({ registry: (await world()).host });
    const { signal } = new AbortController();
    const layer = blobOf('a layer');
    const open = () => client.blob('base', layer.digest, signal);
    await expect(taker.pushBlob('hello', { ...layer, open })).rejects.toThrow(
      `http://${client.registry} does not answer`,
    );
  });

  it('fetches content that is kept elsewhere, and does not show its login there', async () => {
    const seen: string[] = [];
    const content = Buffer.from('{}');
    const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
    const elsewhere = createServer((request, response) => {
      seen.push(request.headers.authorization ?? 'none');
      response.end(content);
    });
    const place = await served(elsewhere);
    const front = createServer((request, response) => {
      if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      } else {
        response.writeHead(307, { location: `http://${place}/x` }).end();
      }
    });
    const client = new RegistryClient({ registry: await served(front), login });
    expect(await client.document('hello', digest)).toEqual(content);
    expect(seen).toEqual(['none']);
    await expect(client.document('hello', `sha256:${'0'.repeat(64)}`)).rejects.toThrow(/sent other content/);
  });

  it('finds a blob that the registry keeps elsewhere, and sends it no second time', async () => {
    const requests: string[] = [];
    const elsewhere = createServer((request, response) => {
      requests.push(`${request.method} elsewhere`);
      response.writeHead(request.url === '/x' ? 200 : 404).end();
    });
    const place = await served(elsewhere);
    const front = createServer((request, response) => {
      requests.push(`${request.method}`);
      response.writeHead(307, { location: `http://${place}/${request.url?.includes('gone') ? 'y' : 'x'}` }).end();
    });
    const client = new RegistryClient({ registry: await served(front) });
    expect(await client.pushBlob('hello', blobOf('a layer'))).toBe('there');
    expect(requests).toEqual(['HEAD', 'HEAD elsewhere']);
    expect(await client.hasBlob('gone', blobOf('a layer').digest)).toBe(false);
  });

  it('compares content with a digest of any kind', async () => {
    const content = Buffer.from('{}');
    const digest = (algorithm: string, of = content) =>
      `${algorithm}:${createHash(algorithm).update(of).digest('hex')}`;
    const client = new RegistryClient({ registry: await served(createServer((_, answer) => answer.end(content))) });
    for (const algorithm of ['sha256', 'sha512']) {
      const found = await client.manifest('hello', digest(algorithm));
      expect([found.digest, found.content]).toEqual([digest(algorithm), content]);
      const other = digest(algorithm, Buffer.from('other'));
      await expect(client.manifest('hello', other)).rejects.toThrow(/sent other content/);
      await expect(client.document('hello', other)).rejects.toThrow(/sent other content/);
    }
    await expect(client.document('hello', digest('md5'))).rejects.toThrow(/digests by md5 are not known/);
  });

  it('shows its login in the clear to no server beyond the loopback', async () => {
    const seen: string[] = [];
    const front = createServer((request, response) => {
      seen.push(request.headers.authorization ?? 'none');
      response.writeHead(401, { 'www-authenticate': 'Bearer realm="http://192.0.2.1/token"' }).end();
    });
    const client = new RegistryClient({ registry: await served(front), login });
    await expect(client.manifest('hello', '1')).rejects.toThrow(
      /sent to http:\/\/192.0.2.1\/token, which is not HTTPS/,
    );
    expect(seen).toEqual(['none']);
  });

  it('reads no more of an answer than such an answer has', async () => {
    const megabyte = Buffer.alloc(1024 * 1024, ' ');
    let sent = 0;
    const endless = createServer((request, response) => {
      response.writeHead(request.url?.includes('broken') ? 500 : 200);
      const more = (): void => {
        while (!response.destroyed && response.write(megabyte)) {
          sent += 1;
        }
        sent += 1;
      };
      response.on('drain', more);
      more();
    });
    const client = new RegistryClient({ registry: await served(endless) });
    await expect(client.manifest('hello', '1')).rejects.toSatisfy((error) => hasCode(error, 'InvalidAnswer'));
    await expect(client.manifest('broken', '1')).rejects.toThrow(/the registry answered 500$/);
    expect(sent).toBeLessThan(40);
  });

  it.each([
    ['<html>', /answered with no JSON where a token was due/],
    ['{}', /answered without a token/],
    ['{"token": 7}', /answered without a token/],
  ])('tells a server of tokens that answers %s from a registry that does not answer', async (text, message) => {
    const tokens = createServer((_, response) => response.end(text));
    const realm = `http://${await served(tokens)}/token`;
    const front = createServer((_, response) => {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end();
    });
    const client = new RegistryClient({ registry: await served(front) });
    await expect(client.manifest('hello', '1')).rejects.toSatisfy(
      (error: unknown) => hasCode(error, 'InvalidAnswer') && message.test(error.message),
    );
  });

  it('gives up on a registry that sends it round in circles', async () => {
    const front = createServer((request, response) => {
      response.writeHead(307, { location: `${request.url}` }).end();
    });
    const client = new RegistryClient({ registry: await served(front) });
    const { digest } = blobOf('a layer');
    await expect(client.hasBlob('hello', digest)).rejects.toSatisfy((error) => hasCode(error, 'ImagePushFailed'));
    await expect(client.document('hello', digest)).rejects.toSatisfy((error) => hasCode(error, 'ImagePullFailed'));
  });
});

it.each([
  ['127.0.0.1:5000', true],
  ['localhost', true],
  ['[::1]:5000', true],
  ['127.0.0.1.example:5000', false],
  ['10.0.0.1:5000', false],
  ['registry.example', false],
])('plain HTTP is spoken with the loopback alone: %s %s', (registry, expected) => {
  expect(isLoopbackRegistry(registry)).toBe(expected);
});

it.each([
  ['Basic realm="x"', { kind: 'basic' }],
  [
    'Bearer realm="https://auth.example/token",service="registry.example",scope="a"',
    { kind: 'bearer', realm: 'https://auth.example/token', service: 'registry.example' },
  ],
  ['bearer Realm="https://auth.example/token"', { kind: 'bearer', realm: 'https://auth.example/token' }],
  ['Bearer realm="nonsense"', undefined],
  ['Negotiate', undefined],
])('the challenge %s is understood', (header, expected) => {
  expect(challengeOf(header)).toEqual(expected);
});
