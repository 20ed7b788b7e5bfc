import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { GUARDED_SERVER, HttpGuard } from '../../../../src/gateway/http/http-guard.ts';
import { converse, openSocket } from '../../../support/raw-http.ts';
import { waitFor } from '../../../support/wait-for.ts';

/** Starts a guarded server; gives its port, and how many requests have not been closed. */
async function guarded(
  listener: RequestListener,
  maxConnections = 100,
): Promise<{ readonly port: number; open(): number }> {
  let open = 0;
  const server = createServer(GUARDED_SERVER, (request, response) => {
    open += 1;
    response.once('close', () => {
      open -= 1;
    });
    listener(request, response);
  });
  const guard = new HttpGuard(server, maxConnections);
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

  it('closes without an answer where a call that came before is running', async () => {
    const { port, open } = await guarded(late);
    const heard = await converse(port, said(`${post}NONSENSE\r\n\r\n`), { quietMs: 3_000 });
    expect(heard).toMatchObject({ answers: [], rest: '', closed: true });
    await waitFor('every request to be closed', () => open() === 0, { everyMs: 5 });
  });

  it('closes every request of a connection that ends in a CONNECT', async () => {
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
    const { port } = await guarded(late, 2);
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
});
