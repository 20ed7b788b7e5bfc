// One hop of the bare two-hop proxy, as a program: the same transport as gateway and agent, none of their code.
//   node bare-proxy.ts front PORT-OF-BACK CERTIFICATES   HTTP/1.1 in, gRPC over mutual TLS out
//   node bare-proxy.ts back URL-OF-WORKER CERTIFICATES CONNECTIONS   gRPC in, HTTP/1.1 out
// Prints the port that it listens on.
import { readFileSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';
import { join } from 'node:path';
import {
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

interface InvokeRequest {
  readonly payload: Buffer;
}
type InvokePart =
  | { readonly head: { readonly status: number; readonly contentType: string } }
  | { readonly chunk: Buffer }
  | { readonly trailer: object };

const definition = loadSync('esb/agent/v1/agent.proto', {
  includeDirs: [join(import.meta.dirname, '../../proto')],
  longs: Number,
  enums: String,
});
const { Agent: AgentClient } = (
  loadPackageDefinition(definition) as unknown as {
    esb: { agent: { v1: { Agent: ServiceClientConstructor } } };
  }
).esb.agent.v1;

/** Bytes of an answer from which on the front hop passes it on as it comes. */
const STREAMED_BYTES = 64 * 1024;

function front(backPort: number, folder: string): void {
  const client = new AgentClient(
    // By name: TLS takes no address for the name of a server.
    `localhost:${backPort}`,
    credentials.createSsl(
      readFileSync(join(folder, 'ca.pem')),
      readFileSync(join(folder, 'client.key')),
      readFileSync(join(folder, 'client.pem')),
    ),
  ) as unknown as { invoke(request: object): ClientReadableStream<InvokePart> };
  const server = createServer((incoming, answer) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const stream = client.invoke({ payload: Buffer.concat(chunks) });
      let body: Buffer[] | undefined = [];
      let size = 0;
      stream.on('data', (part: InvokePart) => {
        if (!('chunk' in part) || part.chunk.length === 0) {
          return;
        }
        size += part.chunk.length;
        body?.push(part.chunk);
        const ready = body === undefined ? part.chunk : size > STREAMED_BYTES ? Buffer.concat(body) : undefined;
        if (ready === undefined) {
          return;
        }
        body = undefined;
        if (!answer.write(ready)) {
          stream.pause();
          answer.once('drain', () => stream.resume());
        }
      });
      stream.on('error', (error) => {
        answer.statusCode = 502;
        answer.end(String(error));
      });
      stream.on('end', () => {
        if (body === undefined) {
          answer.end();
        } else if (!answer.writableEnded) {
          answer.setHeader('content-length', size);
          answer.end(Buffer.concat(body));
        }
      });
    });
  });
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    console.log(typeof address === 'object' ? address?.port : '');
  });
}

function back(url: string, folder: string, connections: number): void {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const server = new Server();
  server.addService(AgentClient.service, {
    invoke(call: ServerWritableStream<InvokeRequest, InvokePart>) {
      const { payload } = call.request;
      const outgoing = request(
        url,
        { agent, method: 'POST', headers: { 'content-length': payload.length } },
        (answer) => {
          call.write({ head: { status: answer.statusCode ?? 0, contentType: '' } });
          answer.on('data', (chunk: Buffer) => {
            if (!call.write({ chunk })) {
              answer.pause();
              call.once('drain', () => answer.resume());
            }
          });
          answer.on('end', () => {
            call.write({ trailer: {} });
            call.end();
          });
        },
      );
      // Destroyed, the stream would end without a status, and the front hop would wait for ever.
      outgoing.on('error', (error) => call.emit('error', error));
      outgoing.end(payload);
    },
  });
  const pair = {
    private_key: readFileSync(join(folder, 'server.key')),
    cert_chain: readFileSync(join(folder, 'server.pem')),
  };
  server.bindAsync(
    '127.0.0.1:0',
    ServerCredentials.createSsl(readFileSync(join(folder, 'ca.pem')), [pair], true),
    (error, port) => {
      if (error !== null) {
        throw error;
      }
      console.log(port);
    },
  );
}

const [hop, target, folder, connections] = process.argv.slice(2);
if (hop === 'front') {
  front(Number(target), folder ?? '');
} else {
  back(target ?? '', folder ?? '', Number(connections));
}
