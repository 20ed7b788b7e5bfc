// The bare Runtime API, as a program: one page, without any code of ours, for runtimes on any address.
//   node bare-runtime-api.ts
// Prints the port for runtimes and the port for callers. A runtime has the address that it comes from as its name:
//   GET /ADDRESS    answered once a runtime of that address waits for a call
//   POST /ADDRESS   a call
// The front is the same as the gateway's: Fastify.
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import fastify, { type FastifyReply } from 'fastify';

interface Call {
  readonly event: Buffer;
  readonly reply: FastifyReply;
}

/** A runtime of one address: its open request for the next call, or the calls that wait for one. */
interface Runtime {
  next: ServerResponse | undefined;
  readonly waiting: Call[];
  readonly watchers: FastifyReply[];
}

const runtimes = new Map<string, Runtime>();
const running = new Map<string, Call>();

function runtimeOf(address: string): Runtime {
  const known = runtimes.get(address) ?? { next: undefined, waiting: [], watchers: [] };
  runtimes.set(address, known);
  return known;
}

function hand(runtime: Runtime): void {
  const { next, waiting, watchers } = runtime;
  if (next === undefined) {
    return;
  }
  for (const watcher of watchers.splice(0)) {
    watcher.send('');
  }
  const call = waiting.shift();
  if (call !== undefined) {
    const id = randomUUID();
    runtime.next = undefined;
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
    call?.reply.type('application/octet-stream').send(request);
    return;
  }
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    call?.reply.type('application/json').send(Buffer.concat(chunks));
    accept();
  });
}

const api = createServer((request, response) => {
  const runtime = runtimeOf(request.socket.remoteAddress?.replace('::ffff:', '') ?? '');
  if (request.url?.endsWith('/next') === true) {
    runtime.next = response;
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
  runtime.waiting.push({ event: request.body as Buffer, reply });
  hand(runtime);
});
await front.listen({ port: 0, host: '127.0.0.1' });
console.log(`${(api.address() as AddressInfo).port} ${(front.server.address() as AddressInfo).port}`);
