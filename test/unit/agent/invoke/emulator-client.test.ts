import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { WorkerConnection, type WorkerRequest } from '../../../../src/agent/invoke/emulator-client.ts';
import { systemClock } from '../../../../src/common/clock.ts';

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** A server that plays the emulator, and a connection to it. */
async function emulator(handle: Handler, pid?: number) {
  let connections = 0;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => handle(request, response, Buffer.concat(chunks).toString()));
  });
  server.on('connection', () => {
    connections += 1;
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', listening.resolve);
  await listening.promise;
  const { port } = server.address() as AddressInfo;
  const connection = new WorkerConnection({ ip: '127.0.0.1', port }, systemClock, pid);
  onTestFinished(() => {
    connection.close();
    server.closeAllConnections();
    server.close();
  });
  return { connection, server, connections: () => connections };
}

function request(change: Partial<WorkerRequest> = {}) {
  const told: string[] = [];
  const made: WorkerRequest = {
    functionName: 'hello',
    timeoutSeconds: 3,
    payload: Buffer.from('{"a":1}'),
    requestId: 'request-1',
    clientContext: '',
    timeoutMs: 5_000,
    onSending: () => told.push('sending'),
    onHead: ({ status, contentType }) => told.push(`${status} ${contentType}`),
    onChunk: (chunk) => told.push(chunk.toString()),
    ...change,
  };
  return { made, told };
}

describe('the connection to a worker in the network of the node', () => {
  it('is used where the process of the worker listens', async () => {
    const { connection } = await emulator((_incoming, response) => response.end('one'), process.pid);
    const { made, told } = request();
    expect(await connection.call(made)).toEqual({ kind: 'Answered', status: 200 });
    expect(told).toEqual(['sending', '200 ', 'one']);
  });

  it('carries nothing where another process listens, as long as the worker’s lives and after it', async () => {
    const other = spawn('sleep', ['60']);
    onTestFinished(() => void other.kill());
    let heard = 0;
    const { connection } = await emulator((_incoming, response) => {
      heard += 1;
      response.end();
    }, other.pid);
    const { made, told } = request();
    const refused = { kind: 'NotSent', message: expect.stringContaining("is not the worker's") };
    expect(await connection.call(made)).toEqual(refused);
    const ended = once(other, 'exit');
    other.kill();
    await ended;
    expect(await connection.call(made)).toEqual(refused);
    expect(told).toEqual([]);
    expect(heard).toBe(0);
  });
});

describe('the connection to a worker', () => {
  it('sends what the emulator expects and passes the answer on as it comes', async () => {
    const seen: unknown[] = [];
    const { connection } = await emulator((incoming, response, body) => {
      seen.push(incoming.method, incoming.url, incoming.headers, body);
      response.writeHead(200, { 'content-type': 'text/plain' });
      response.write('one');
      setTimeout(() => response.end('two'), 20);
    });
    const { made, told } = request({ clientContext: 'eyJ9' });
    expect(await connection.call(made)).toEqual({ kind: 'Answered', status: 200 });
    expect(told).toEqual(['sending', '200 text/plain', 'one', 'two']);
    expect(seen).toMatchObject([
      'POST',
      '/2015-03-31/functions/function/invocations',
      { 'x-amzn-requestid': 'request-1', 'x-amz-client-context': 'eyJ9', 'content-length': '7' },
      '{"a":1}',
    ]);
  });

  it('passes the trace of a caller on, where it is one', async () => {
    const seen: unknown[] = [];
    const { connection } = await emulator((incoming, response) => {
      seen.push(incoming.headers['x-amzn-trace-id']);
      response.end('{}');
    });
    for (const traceId of ['Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1', '', undefined, 'a\r\nx: y']) {
      expect(await connection.call(request({ traceId }).made)).toMatchObject({ kind: 'Answered' });
    }
    expect(seen).toEqual(['Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1', undefined, undefined, undefined]);
  });

  it('is one connection for all calls', async () => {
    const { connection, connections } = await emulator((_incoming, response) => response.end('{}'));
    for (let each = 0; each < 5; each += 1) {
      expect(await connection.call(request().made)).toMatchObject({ kind: 'Answered' });
    }
    expect(connections()).toBe(1);
  });

  it('passes an answer with no success and one with nothing in it', async () => {
    const { connection } = await emulator((_incoming, response) => {
      response.writeHead(502);
      response.end();
    });
    const { made, told } = request();
    expect(await connection.call(made)).toEqual({ kind: 'Answered', status: 502 });
    expect(told).toEqual(['sending', '502 ']);
  });

  it('tells a silent worker from one that was never reached and one that was lost', async () => {
    const silent = await emulator(() => undefined);
    expect(await silent.connection.call(request({ timeoutMs: 30 }).made)).toEqual({ kind: 'TimedOut' });

    const lost = await emulator((incoming) => incoming.socket.destroy());
    expect(await lost.connection.call(request().made)).toMatchObject({ kind: 'Unknown' });

    const gone = await emulator(() => undefined);
    const closed = Promise.withResolvers<void>();
    gone.server.close(() => closed.resolve());
    await closed.promise;
    const { made, told } = request();
    expect(await gone.connection.call(made)).toMatchObject({ kind: 'NotSent' });
    expect(told).toEqual([]);
  });

  it('that is lost in the middle of an answer has an unknown outcome', async () => {
    const { connection } = await emulator((incoming, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half');
      setTimeout(() => incoming.socket.destroy(), 20);
    });
    expect(await connection.call(request().made)).toMatchObject({ kind: 'Unknown' });
  });

  it('gives up a call when it is told to, and can be used again', async () => {
    let silent = true;
    const arrived = Promise.withResolvers<void>();
    const { connection } = await emulator((_incoming, response) => {
      arrived.resolve();
      if (!silent) {
        response.end('{}');
      }
    });
    const call = connection.call(request({ onSending: () => undefined }).made);
    await arrived.promise;
    connection.abort('the worker exited');
    expect(await call).toEqual({ kind: 'Unknown', message: 'the worker exited' });
    silent = false;
    expect(await connection.call(request().made)).toMatchObject({ kind: 'Answered' });
  });

  it('survives that the worker closes it between two calls', async () => {
    const { connection, server, connections } = await emulator((_incoming, response) => response.end('{}'));
    expect(await connection.call(request().made)).toMatchObject({ kind: 'Answered' });
    server.closeAllConnections();
    // No word tells when the other side has come so far.
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await connection.call(request().made)).toMatchObject({ kind: 'Answered' });
    expect(connections()).toBe(2);
  });

  it('tells a lack of descriptors, which is no fault of the worker', async () => {
    const { server } = await emulator((_incoming, response) => response.end('{}'));
    const { port } = server.address() as AddressInfo;
    const program = `
      import { openSync } from 'node:fs';
      import { WorkerConnection } from '${new URL('../../../../src/agent/invoke/emulator-client.ts', import.meta.url).href}';
      import { systemClock } from '${new URL('../../../../src/common/clock.ts', import.meta.url).href}';
      const connection = new WorkerConnection({ ip: '127.0.0.1', port: ${port} }, systemClock);
      const nothing = () => undefined;
      const call = () => connection.call({ payload: Buffer.from('{}'), requestId: 'r', clientContext: '',
        timeoutMs: 1_000, onSending: nothing, onHead: nothing, onChunk: nothing });
      try {
        for (;;) openSync('/dev/null');
      } catch {}
      console.log(JSON.stringify(await call()));
      process.exit(0);`;
    const { stdout } = await promisify(execFile)('sh', [
      '-c',
      'ulimit -n 100; exec "$0" --input-type=module -e "$1"',
      process.execPath,
      program,
    ]);
    expect(JSON.parse(stdout)).toEqual({
      kind: 'NotSent',
      message: expect.stringContaining('EMFILE'),
      own: true,
    });
  });

  it('reads no more of an answer than a function may give', { tags: ['T29'] }, async () => {
    const limit = 6 * 1024 * 1024 + 100;
    const closed = Promise.withResolvers<number>();
    let size = limit;
    const { connection, connections } = await emulator((incoming, response) => {
      const { socket } = incoming;
      if (size === limit) {
        response.end(Buffer.alloc(size, 'x'));
        return;
      }
      response.flushHeaders();
      const smallPieces = Buffer.from('8\r\nxxxxxxxx\r\n'.repeat(10_000));
      const more = (): void => {
        while (socket.write(smallPieces)) {
          // Without end.
        }
      };
      socket.on('drain', more);
      socket.once('close', () => closed.resolve(socket.bytesWritten));
      more();
    });
    let bytes = 0;
    const onChunk = (chunk: Buffer): void => {
      bytes += chunk.length;
    };
    expect(await connection.call(request({ onChunk }).made)).toEqual({ kind: 'Answered', status: 200 });
    expect(bytes).toBe(limit);

    size = Number.POSITIVE_INFINITY;
    bytes = 0;
    const { made } = request({ onChunk, timeoutMs: 60_000 });
    expect(await connection.call(made)).toEqual({ kind: 'CutOff', status: 200 });
    expect(bytes).toBe(limit + 1);
    // Size of a piece on the wire, and the bytes that the kernel had taken beyond that.
    expect(await closed.promise).toBeLessThan(2 * limit + 16 * 1024 * 1024);

    size = limit;
    bytes = 0;
    expect(await connection.call(request({ onChunk }).made)).toEqual({ kind: 'Answered', status: 200 });
    expect([bytes, connections()]).toEqual([limit, 2]);
  });

  it('lets others have their turn while a worker floods it', async () => {
    const { connection } = await emulator((_incoming, response) => {
      response.end(Buffer.alloc(4 * 1024 * 1024, 'x'));
    });
    let bytes = 0;
    let longest = 0;
    const onChunk = (chunk: Buffer): void => {
      bytes += chunk.length;
    };
    let before = 0;
    const turn = (): void => {
      longest = Math.max(longest, bytes - before);
      before = bytes;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    onTestFinished(() => clearImmediate(next));
    expect(await connection.call(request({ onChunk }).made)).toMatchObject({ kind: 'Answered' });
    expect(bytes).toBe(4 * 1024 * 1024);
    expect(longest).toBeLessThanOrEqual(512 * 1024);
  });

  it('never sends a header that is none', async () => {
    const { connection } = await emulator((_incoming, response) => response.end('{}'));
    expect(await connection.call(request({ clientContext: 'a\r\nx: y' }).made)).toMatchObject({
      kind: 'NotSent',
    });
  });
});
