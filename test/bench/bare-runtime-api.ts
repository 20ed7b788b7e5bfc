// The bare Runtime API, as a program: one page, without any code of ours, for runtimes on any address.
//   node bare-runtime-api.ts CERTIFICATES
// Prints the port for runtimes, the port for callers, and the port for calls by gRPC from another hop (bare-proxy.ts). A
// runtime has the address that it comes from as its name:
//   GET /ADDRESS    answered once a runtime of that address waits for a call
//   POST /ADDRESS   a call
// The front is the same as the gateway's: Fastify.
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import fastify, { type FastifyReply } from 'fastify';
import { serveHop } from './bare-hop.ts';

interface Call {
  readonly event: Buffer;
  /** Takes the answer, and its bytes as they come where the function streams. */
  readonly answer: (body: Buffer | IncomingMessage) => void;
}

/** A runtime of one address: its open requests for a next call, or the calls that wait for one. */
interface Runtime {
  nexts: ServerResponse[];
  readonly waiting: Call[];
  readonly watchers: FastifyReply[];
}

const runtimes = new Map<string, Runtime>();
const running = new Map<string, Call>();

function runtimeOf(address: string): Runtime {
  const known = runtimes.get(address) ?? { nexts: [], waiting: [], watchers: [] };
  runtimes.set(address, known);
  return known;
}

function hand(runtime: Runtime): void {
  const { nexts, waiting, watchers } = runtime;
  if (nexts.length === 0) {
    return;
  }
  for (const watcher of watchers.splice(0)) {
    watcher.send('');
  }
  const call = waiting.shift();
  const next = call === undefined ? undefined : nexts.shift();
  if (call !== undefined && next !== undefined) {
    const id = randomUUID();
    running.set(id, call);
    next.writeHead(200, {
      'content-type': 'application/json',
      'content-length': call.event.length,
      'lambda-runtime-aws-request-id': id,
      'lambda-runtime-deadline-ms': String(Date.now() + 60_000),
      'lambda-runtime-invoked-function-arn': 'arn:aws:lambda:us-east-1:000000000000:function:bare',
    });
    next.end(call.event);
  }
}

function answered(request: IncomingMessage, response: ServerResponse): void {
  const id = request.url?.split('/')[4] ?? '';
  const call = running.get(id);
  running.delete(id);
  const accept = (): void => {
    response.writeHead(202, { 'content-type': 'application/json' });
    response.end('{"status":"OK"}');
  };
  if (request.headers['lambda-runtime-function-response-mode'] === 'streaming') {
    request.on('end', accept);
    call?.answer(request);
    return;
  }
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    call?.answer(Buffer.concat(chunks));
    accept();
  });
}

const api = createServer((request, response) => {
  const runtime = runtimeOf(request.socket.remoteAddress?.replace('::ffff:', '') ?? '');
  if (request.url?.endsWith('/next') === true) {
    runtime.nexts.push(response);
    // A runtime that was ended takes no call any more.
    response.once('close', () => {
      runtime.nexts = runtime.nexts.filter((next) => next !== response);
    });
    hand(runtime);
  } else {
    answered(request, response);
  }
});
api.keepAliveTimeout = 0;
api.requestTimeout = 0;
api.listen(0, '0.0.0.0');

const front = fastify({ keepAliveTimeout: 600_000 });
front.removeAllContentTypeParsers();
front.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body));
front.get<{ Params: { address: string } }>('/:address', (request, reply) => {
  const runtime = runtimeOf(request.params.address);
  runtime.watchers.push(reply);
  hand(runtime);
});
front.post<{ Params: { address: string } }>('/:address', (request, reply) => {
  const runtime = runtimeOf(request.params.address);
  const answer = (body: Buffer | IncomingMessage): void => {
    reply.type(Buffer.isBuffer(body) ? 'application/json' : 'application/octet-stream').send(body);
  };
  runtime.waiting.push({ event: request.body as Buffer, answer });
  hand(runtime);
});
await front.listen({ port: 0, host: '127.0.0.1' });
const hopPort = await serveHop(process.argv[2] ?? '', (call) => {
  const runtime = runtimeOf(call.request.requestId);
  const answer = (body: Buffer | IncomingMessage): void => {
    if (!Buffer.isBuffer(body)) {
      throw new Error('streamed answers are not passed on between hops');
    }
    call.write({ chunk: body });
    call.end();
  };
  runtime.waiting.push({ event: call.request.payload, answer });
  hand(runtime);
});
console.log(`${(api.address() as AddressInfo).port} ${(front.server.address() as AddressInfo).port} ${hopPort}`);
