import { once } from 'node:events';
import {
  createSecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { loadSync, type ServiceDefinition } from '@grpc/proto-loader';
import { onTestFinished } from 'vitest';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import type { IssuedCertificate } from './certificate-authority.ts';
import { makeServerCertificate } from './fake-agent.ts';
import { nodeFixture } from './worker-fixture.ts';

/** One step of what a hostile agent does with a stream. */
export type HostileStep =
  /** A gRPC message. */
  | { readonly kind: 'message'; readonly bytes: Buffer }
  /** Bytes that need be no message. */
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  /** The end, with these trailers. */
  | { readonly kind: 'end'; readonly trailers: Readonly<Record<string, string>> }
  | { readonly kind: 'reset'; readonly code: number }
  | { readonly kind: 'goAway'; readonly code: number }
  | { readonly kind: 'cut' };

/** A TLS and HTTP/2 server in place of an agent, with answers that the test chooses. */
export interface HostileAgent {
  /** Its LambdaNode. */
  readonly node: LambdaNode;
  /** Connections that were opened to it. */
  connections(): number;
  /** Streams that a gateway opened for calls. */
  callStreams(): number;
  /** Handlers of streams from now on, by path. */
  onStream(script: (path: string) => readonly HostileStep[]): void;
  /** Says something more on every Watch that is open. */
  tell(bytes: Buffer): void;
}

/** The messages that an agent sends, as bytes. */
export const agentMessages = ((): {
  watchEvent(event: object): Buffer;
  answer(response: object): Buffer;
  many(response: object): Buffer;
} => {
  const service = loadSync('esb/agent/v1/agent.proto', {
    keepCase: false,
    includeDirs: [fileURLToPath(new URL('../../proto', import.meta.url))],
  })['esb.agent.v1.Agent'] as ServiceDefinition;
  const serializer = (name: string) => (message: object) =>
    service[name]?.responseSerialize(message) ?? Buffer.alloc(0);
  return {
    watchEvent: serializer('Watch'),
    answer: serializer('Invoke'),
    many: serializer('InvokeMany'),
  };
})();

/** Starts one on a free loopback port; it ends with the test. */
export async function startHostileAgent(nodeName: string, identity?: IssuedCertificate): Promise<HostileAgent> {
  const { certificate, key } = identity ?? (await makeServerCertificate(nodeName));
  const server = createSecureServer({ cert: certificate, key, requestCert: true, rejectUnauthorized: false });
  const sessions = new Set<ServerHttp2Session>();
  const watches = new Set<ServerHttp2Stream>();
  let connections = 0;
  let callStreams = 0;
  let script: (path: string) => readonly HostileStep[] = () => [];
  server.on('session', (session) => {
    connections += 1;
    sessions.add(session);
    session.on('error', () => undefined);
    session.on('close', () => sessions.delete(session));
  });
  server.on('sessionError', () => undefined);
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const path = headers[':path'] ?? '';
    stream.on('error', () => undefined);
    stream.resume();
    if (path.endsWith('/Watch')) {
      watches.add(stream);
      stream.on('close', () => watches.delete(stream));
    } else {
      callStreams += 1;
    }
    follow(stream, script(path));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const session of sessions) {
      session.destroy();
    }
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    node: nodeFixture({ name: nodeName, status: { endpoint: `127.0.0.1:${port}`, certificate } }),
    connections: () => connections,
    callStreams: () => callStreams,
    onStream: (next) => {
      script = next;
    },
    tell(bytes) {
      for (const watch of watches) {
        if (!watch.destroyed && watch.writable) {
          watch.write(framed(bytes));
        }
      }
    },
  };
}

function framed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function follow(stream: ServerHttp2Stream, steps: readonly HostileStep[]): void {
  let trailers: Readonly<Record<string, string>> = {};
  // A server in Node.js 26 aborts when it resets a stream whose trailers are still to be asked for.
  const waitForTrailers = steps.every(({ kind }) => kind !== 'reset');
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers });
  stream.on('wantTrailers', () => {
    try {
      stream.sendTrailers({ ...trailers });
    } catch {
      stream.close();
    }
  });
  for (const step of steps) {
    if (stream.destroyed || !stream.writable) {
      return;
    }
    switch (step.kind) {
      case 'message':
        stream.write(framed(step.bytes));
        break;
      case 'bytes':
        stream.write(step.bytes);
        break;
      case 'end':
        ({ trailers } = step);
        stream.end();
        break;
      case 'reset':
        stream.close(step.code);
        break;
      case 'goAway':
        stream.session?.goaway(step.code);
        break;
      case 'cut':
        stream.session?.destroy();
        break;
      default:
        step satisfies never;
    }
  }
}
