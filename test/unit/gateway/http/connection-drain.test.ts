import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../../../src/common/clock.ts';
import { ConnectionDrain } from '../../../../src/gateway/http/connection-drain.ts';
import { waitFor } from '../../../support/wait-for.ts';

interface BusyServerOptions {
  readonly clock?: Clock;
  /** Milliseconds of waiting, before each answer; 0 to answer at once. */
  readonly answerAfterMs?: number;
}

/** A server that is kept busy: while it works, requests arrive that it has not read. */
async function busyServer(workMs: number, { clock = systemClock, answerAfterMs = 0 }: BusyServerOptions = {}) {
  let draining = false;
  const server = createServer((request, response) => {
    request.resume();
    const until = performance.now() + workMs;
    while (performance.now() < until);
    if (draining) {
      response.setHeader('connection', 'close');
    }
    if (answerAfterMs === 0) {
      response.end('{}');
    } else {
      setTimeout(() => response.end('{}'), answerAfterMs);
    }
  });
  const drain = new ConnectionDrain(server, clock);
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  return {
    server,
    port,
    url: `http://127.0.0.1:${port}/`,
    async drain(quietMs: number, maxMs: number) {
      draining = true;
      await drain.run({ quietMs, maxMs });
    },
  };
}

const REQUEST = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';

/** A connection to the server, and all that comes by it until its end. */
function caller(port: number) {
  const socket = connect(port, '127.0.0.1');
  const text = Promise.withResolvers<string>();
  let received = '';
  socket.on('data', (chunk) => {
    received += String(chunk);
  });
  socket.on('error', text.reject);
  socket.on('close', () => text.resolve(received));
  text.promise.catch(() => undefined);
  return { socket, received: () => received, text: text.promise };
}

describe('a server that ends', () => {
  it('answers a request that the system has and nobody has read', async () => {
    const lab = await busyServer(0);
    const kept = caller(lab.port);
    kept.socket.write(REQUEST);
    await waitFor('the first answer', () => kept.received().includes('{}'), { everyMs: 5 });
    kept.socket.write(REQUEST);
    const ended = lab.drain(0, 0);
    const text = await kept.text;
    expect(text.match(/200 OK/g)).toHaveLength(2);
    expect(text.toLowerCase()).toContain('connection: close');
    await ended;
  });

  it('answers all who wait at its port', async () => {
    const lab = await busyServer(1);
    const callers = Array.from({ length: 20 }, () => caller(lab.port));
    for (const { socket } of callers) {
      socket.once('connect', () => socket.write(REQUEST));
    }
    const ended = lab.drain(0, 0);
    for (const { text } of callers) {
      expect(await text).toContain('200 OK');
    }
    await ended;
  });

  it('ends soon after the last request, and closes what is idle', async () => {
    const lab = await busyServer(0);
    const socket = connect(lab.port, '127.0.0.1');
    const closed = Promise.withResolvers<void>();
    socket.on('close', () => closed.resolve());
    socket.on('data', () => undefined);
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    await waitFor('the answer', () => socket.bytesRead > 0, { everyMs: 5 });
    const begun = performance.now();
    await lab.drain(100, 5_000);
    await closed.promise;
    expect(performance.now() - begun).toBeGreaterThan(99);
    expect(performance.now() - begun).toBeLessThan(3_000);
  });

  it('answers whoever has connected just before, and does not wait for one who says nothing', async () => {
    const lab = await busyServer(0);
    const silent = connect(lab.port, '127.0.0.1');
    silent.on('error', () => undefined);
    const ended = lab.drain(200, 200);
    // The time is what is tested.
    await delay(150);
    const late = connect(lab.port, '127.0.0.1');
    const text = Promise.withResolvers<string>();
    late.setEncoding('utf8');
    let received = '';
    late.on('data', (chunk: string) => {
      received += chunk;
    });
    late.on('close', () => text.resolve(received));
    await waitFor('the port to be closed', () => !lab.server.listening, { everyMs: 1 });
    late.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    expect(await text.promise).toContain('200 OK');
    await ended;
  });

  it('answers a request that is read right after the last one has ended', { tags: ['G10'] }, async () => {
    let onLook = (): void => undefined;
    const clock: Clock = {
      ...systemClock,
      setTimer: (callback, delayMs) =>
        systemClock.setTimer(() => {
          onLook();
          callback();
        }, delayMs),
    };
    const lab = await busyServer(0, { clock, answerAfterMs: 10 });
    const kept = connect(lab.port, '127.0.0.1');
    const text = Promise.withResolvers<string>();
    let received = '';
    kept.on('data', (chunk) => {
      received += String(chunk);
    });
    kept.on('error', text.reject);
    kept.on('close', () => text.resolve(received));
    const request = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';
    kept.write(request);
    await waitFor('the first answer', () => received !== '', { everyMs: 5 });
    received = '';
    const connected = once(lab.server, 'connection');
    const silent = connect(lab.port, '127.0.0.1');
    const [accepted] = (await connected) as [Socket];
    let looks = 0;
    // The look that finds no call to wait for is the last one; bytes that are sent then have not been read yet.
    onLook = () => {
      looks += 1;
      if (looks === 2) {
        silent.destroy();
      } else if (accepted.closed) {
        onLook = () => undefined;
        kept.write(request);
      }
    };
    await lab.drain(0, 0);
    expect(await text.promise).toMatch(/200 OK[\s\S]*connection: close/i);
  });
});
