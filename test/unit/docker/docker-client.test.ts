import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createDockerClient, type DockerClient } from '../../../src/docker/docker-client.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A client of an engine that answers as it is told to. */
async function engine(handle: Handler): Promise<DockerClient> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-engine-'));
  const socketPath = join(folder, 'docker.sock');
  const server = createServer(handle);
  const listening = Promise.withResolvers<void>();
  server.listen(socketPath, listening.resolve);
  await listening.promise;
  const client = createDockerClient(socketPath);
  onTestFinished(async () => {
    client.close();
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true, force: true });
  });
  return client;
}

const reply =
  (status: number, body: unknown): Handler =>
  (_, response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));

describe('a call to the engine', () => {
  it('says that nobody is there', async () => {
    const client = createDockerClient('/no/such/socket');
    await expect(client.system.version()).rejects.toMatchObject({
      code: 'RuntimeUnavailable',
      retryable: true,
    });
    client.close();
  });

  it('ends when its time is over, or its caller gives up', async () => {
    const client = await engine(() => undefined);
    await expect(client.containers.inspect('x', { deadlineMs: 50 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
    });
    const caller = new AbortController();
    const paused = client.containers.pause('x', { signal: caller.signal });
    caller.abort();
    await expect(paused).rejects.toMatchObject({ code: 'Aborted' });
  });

  it.each([304, 409])('to stop or to kill what has ended, status %i, is done', async (status) => {
    const client = await engine(reply(status, { message: 'it is not running' }));
    await client.containers.stop('x', 1);
    await client.containers.kill('x');
    await expect(client.containers.pause('x')).rejects.toMatchObject({ code: 'FailedPrecondition' });
  });

  it('leaves out of a list what is removed meanwhile', async () => {
    const client = await engine((request, response) =>
      request.url?.startsWith('/containers/json') === true
        ? reply(200, [{ Id: 'gone' }])(request, response)
        : reply(404, { message: 'No such container: gone' })(request, response),
    );
    expect(await client.containers.list('esb.dev/uid')).toEqual([]);
  });

  it('hears of a fault of a pull in the middle of the answer', async () => {
    const client = await engine((_, response) => {
      response.writeHead(200);
      response.write('{"status":"Downloading","id":"a","progressDetail":{"current":1,"total":2}}\r\n');
      response.end('{"errorDetail":{"message":"x"},"error":"write /x: no space left on device"}\r\n');
    });
    const seen: unknown[] = [];
    const pull = {
      reference: 'r/x:1',
      platform: 'linux/amd64',
      onProgress: (told: unknown) => seen.push(told),
    };
    const { signal } = new AbortController();
    await expect(client.images.pull(pull, signal)).rejects.toMatchObject({ code: 'DiskFull' });
    expect(seen).toEqual([{ layer: 'a', status: 'Downloading', done: 1, total: 2 }]);
  });

  it('shows a registry its credentials in the header of the API, never in the address', async () => {
    const seen: { url?: string | undefined; auth?: string }[] = [];
    const client = await engine((request, response) => {
      seen.push({ url: request.url, auth: String(request.headers['x-registry-auth']) });
      response.end('{"status":"done"}\r\n');
    });
    await client.images.pull(
      {
        reference: 'r.example/x:1',
        platform: 'linux/amd64',
        credentials: { username: 'u', password: 'secret' },
      },
      new AbortController().signal,
    );
    expect(seen[0]?.url).not.toContain('secret');
    expect(JSON.parse(Buffer.from(seen[0]?.auth ?? '', 'base64url').toString())).toEqual({
      username: 'u',
      password: 'secret',
    });
  });

  it('asks for a log from the very nanosecond on', async () => {
    let url = '';
    const client = await engine((request, response) => {
      url = request.url ?? '';
      response.end();
    });
    const { signal } = new AbortController();
    for await (const frames of client.containers.logs('x', '2026-11-26T01:43:09.000000078Z', signal)) {
      expect(frames).toEqual([]);
    }
    expect(new URL(url, 'http://engine').searchParams.get('since')).toBe('1795657389.000000078');
  });

  it('follows events until it is told to end', async () => {
    const client = await engine((_, response) => {
      response.writeHead(200);
      response.write('{"Action":"die","Actor":{"Attributes":{"name":"hello-1"}}}\n{"Action":"x"}\n');
    });
    const end = new AbortController();
    const seen: unknown[] = [];
    const follow = async (): Promise<void> => {
      for await (const event of client.events.follow('esb.dev/uid', end.signal, () => seen.push('begun'))) {
        seen.push(event);
        if (seen.length === 3) {
          end.abort();
        }
      }
    };
    await expect(follow()).rejects.toMatchObject({ code: 'Aborted' });
    expect(seen).toEqual(['begun', { action: 'die', containerName: 'hello-1' }, { action: 'x', containerName: '' }]);
  });
});
