import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type ConnectionLimits, guardedServer, HttpGuard } from '../../../../src/gateway/http/http-guard.ts';
import { converse, openSocket } from '../../../support/raw-http.ts';
import { waitFor } from '../../../support/wait-for.ts';

/** Starts a guarded server; gives its port, and how many requests have not been closed. */
async function guarded(
  listener: RequestListener,
  limits: Partial<ConnectionLimits> = {},
): Promise<{ readonly port: number; open(): number }> {
  let open = 0;
  const server = createServer(guardedServer(limits.patience), (request, response) => {
    open += 1;
    response.once('close', () => {
      open -= 1;
    });
    listener(request, response);
  });
  const guard = new HttpGuard(server, { maxConnections: 100, maxConnectionsPerAddress: 100, ...limits });
  server.on('clientError', (error, socket) => guard.refuse(error, socket as never));
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, open: () => open };
}

const late: RequestListener = (request, response) => {
  request.resume();
  setTimeout(() => response.end('{}'), 50);
};
const post = 'POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n';

function said(text: string) {
  return { pieces: [Buffer.from(text, 'latin1')], gapMs: 0, ending: 'Wait' } as const;
}

describe('a guarded server', () => {
  it.each([
    ['what is no HTTP', 'NONSENSE\r\n\r\n', 400, 'InvalidRequestContentException'],
    [
      'headers that are too large',
      `GET / HTTP/1.1\r\nHost: g\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`,
      431,
      'InvalidParameterValueException',
    ],
    [
      'a body that is no body',
      'POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      400,
      'InvalidRequestContentException',
    ],
  ])('answers %s in the form of the API, and closes', async (_what, text, status, name) => {
    const { port, open } = await guarded((request) => void request.on('error', () => undefined).resume());
    const heard = await converse(port, said(text), { quietMs: 3_000 });
    expect(heard).toMatchObject({
      answers: [{ status, headers: { 'x-amzn-errortype': name, 'x-amzn-requestid': expect.any(String) } }],
      closed: true,
    });
    await waitFor('every request to be closed', () => open() === 0, { everyMs: 5 });
  });

  it('closes without an answer where a call that came before is running', { tags: ['G13'] }, async () => {
    const { port, open } = await guarded(late);
    const heard = await converse(port, said(`${post}NONSENSE\r\n\r\n`), { quietMs: 3_000 });
    expect(heard).toMatchObject({ answers: [], rest: '', closed: true });
    await waitFor('every request to be closed', () => open() === 0, { everyMs: 5 });
  });

  it('closes every request of a connection that ends in a CONNECT', { tags: ['G12'] }, async () => {
    const { port, open } = await guarded(late);
    await converse(port, said(`${post.repeat(5)}CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n`));
    await waitFor('every request to be closed', () => open() === 0, { everyMs: 5, timeoutMs: 3_000 });
  });

  it('serves requests with an expectation that it does not know', async () => {
    const { port } = await guarded(late);
    const { answers } = await converse(port, said(post.replace('\r\n\r\n', '\r\nExpect: tea\r\n\r\n')), {
      answers: 1,
      quietMs: 3_000,
    });
    expect(answers).toMatchObject([{ status: 200, body: '{}' }]);
  });

  it('lets a client take its time between two requests, also one that was slow to read', async () => {
    const large = Buffer.alloc(16 * 1024 * 1024, 'x');
    const { port, open } = await guarded((request, response) => {
      request.resume();
      response.end(large);
    });
    const socket = await openSocket(port);
    onTestFinished(() => void socket.destroy());
    socket.pause();
    socket.write(post);
    await waitFor('the request', () => open() === 1, { everyMs: 5 });
    // Nothing may happen meanwhile.
    await delay(200);
    expect(open()).toBe(1);
    let bytes = 0;
    socket.on('data', (chunk) => {
      bytes += chunk.length;
    });
    socket.resume();
    await waitFor('the whole answer', () => bytes > large.length, { everyMs: 5 });
    await waitFor('its end', () => open() === 0, { everyMs: 5 });
    bytes = 0;
    socket.write(post);
    await waitFor('another one', () => bytes > large.length, { everyMs: 5 });
    expect(socket.destroyed).toBe(false);
  });

  it('takes no more connections than it may', async () => {
    const { port } = await guarded(late, { maxConnections: 2 });
    const sockets = await Promise.all([1, 2, 3].map(() => openSocket(port)));
    onTestFinished(() => {
      for (const socket of sockets) {
        socket.destroy();
      }
    });
    for (const socket of sockets) {
      socket.resume();
    }
    await waitFor('one to be closed', () => sockets.filter(({ destroyed }) => destroyed).length === 1);
  });

  it('takes no more connections of one address than it may, and others of another', async () => {
    const { port } = await guarded(late, { maxConnectionsPerAddress: 2 });
    const open = async (localAddress: string): Promise<Socket> => {
      const socket = connect({ port, host: '127.0.0.1', localAddress });
      onTestFinished(() => void socket.destroy());
      socket.resume().on('error', () => undefined);
      await once(socket, 'connect');
      return socket;
    };
    const ended = (sockets: readonly Socket[]): number => sockets.filter(({ destroyed }) => destroyed).length;
    const first = [await open('127.0.0.1'), await open('127.0.0.1'), await open('127.0.0.1')];
    const others = [await open('127.0.0.2'), await open('127.0.0.2')];
    await waitFor('one to be closed', () => ended(first) === 1, { everyMs: 5 });
    expect(ended(others)).toBe(0);
    for (const socket of first) {
      socket.destroy();
    }
    // Their places are free again, once the server has heard of it.
    await waitFor(
      'another connection to be taken',
      async () => {
        const again = await open('127.0.0.1');
        again.write(post);
        return (await Promise.race([once(again, 'data'), once(again, 'close')])).length > 0 && !again.destroyed;
      },
      { everyMs: 20 },
    );
  });
});
