// One hop of the bare two-hop proxy, as a program: the same transport as gateway and agent, none of their code.
//   node bare-proxy.ts front PORT-OF-BACK CERTIFICATES   HTTP/1.1 in, gRPC over mutual TLS out
//   node bare-proxy.ts back URL-OF-WORKER CERTIFICATES CONNECTIONS   gRPC in, HTTP/1.1 out
// Prints the port that it listens on.
import { Agent, createServer, request } from 'node:http';
import type { ClientReadableStream } from '@grpc/grpc-js';
import { clientCredentials, HopClient, type HopPart, type HopRequest, serveHop } from './bare-hop.ts';

/** Bytes of an answer from which on the front hop passes it on as it comes. */
const STREAMED_BYTES = 64 * 1024;

function front(backPort: number, folder: string): void {
  const client = new HopClient(
    // By name: TLS takes no address for the name of a server.
    `localhost:${backPort}`,
    clientCredentials(folder),
  ) as unknown as { invoke(request: HopRequest): ClientReadableStream<HopPart> };
  const server = createServer((incoming, answer) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const stream = client.invoke({ payload: Buffer.concat(chunks), requestId: incoming.url?.slice(1) ?? '' });
      let body: Buffer[] | undefined = [];
      let size = 0;
      stream.on('data', (part: HopPart) => {
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

async function back(url: string, folder: string, connections: number): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const port = await serveHop(folder, (call) => {
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
  });
  console.log(port);
}

const [hop, target, folder, connections] = process.argv.slice(2);
if (hop === 'front') {
  front(Number(target), folder ?? '');
} else {
  await back(target ?? '', folder ?? '', Number(connections));
}
