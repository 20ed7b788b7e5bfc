import { once } from 'node:events';
import { writeOperations } from '../../src/gateway/http/control-routes.ts';
import { operationsOf } from '../../src/gateway/http/function-routes.ts';
import { invokeOperations } from '../../src/gateway/http/invoke-route.ts';
import { lambdaOperations, type OperationName } from '../../src/gateway/lambda/generated/operations.ts';
import { openSocket } from './raw-http.ts';
import { waitFor } from './wait-for.ts';

const MIB = 2 ** 20;

/** Bodies of 6 MiB that cost most: to parse, to keep as objects, to write as JSON, to encode. */
export const WORST: Readonly<Record<string, Buffer>> = {
  'nested arrays': Buffer.alloc(6 * MIB, '['),
  'many small values': Buffer.concat([Buffer.from('{"a":['), Buffer.alloc(6 * MIB - 8, '[],'), Buffer.from(']}')]),
  'control characters': Buffer.alloc(6 * MIB, 1),
  'no text': Buffer.alloc(6 * MIB, 200),
};

/** One operation of the Lambda API. */
export interface ApiRoute {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  /** Whether a body may have 6 MiB. */
  readonly isCall: boolean;
}

function routeOf(operation: OperationName, isCall: boolean): ApiRoute {
  const { method, path } = lambdaOperations[operation];
  return { operation, method, path: path.replace(/:\w+/g, 'hello'), isCall };
}

/** Every route of the Lambda API, with the operations that write and those that are refused where callers may not write. */
export const apiRoutes: readonly ApiRoute[] = [
  ...invokeOperations.map(({ name }) => routeOf(name, true)),
  ...[...writeOperations, ...operationsOf(true)].map(({ name }) => routeOf(name, false)),
];

/** The head of a request. */
export interface SentHead {
  readonly method: string;
  readonly path: string;
  /** Lines. */
  readonly headers: readonly string[];
}

/** How a client says where a body ends. */
export type Framing = 'announced' | 'chunked';

/** The status of the answer to a request, once all of the body has left or the server has cut the connection. */
export async function sendBody(port: number, { headers, method, path }: SentHead, body: Buffer, how: Framing) {
  const socket = await openSocket(port);
  const closed = once(socket, 'close');
  let text = '';
  socket.on('data', (data) => {
    text += String(data);
  });
  const length = how === 'announced' ? `content-length: ${body.length}` : 'transfer-encoding: chunked';
  socket.write([`${method} ${path} HTTP/1.1`, ...headers, length, '', ''].join('\r\n'));
  if (how === 'chunked') {
    socket.write(`${body.length.toString(16)}\r\n`);
  }
  const left = Promise.withResolvers<void>();
  socket.write(body, () => left.resolve());
  if (how === 'chunked') {
    socket.write('\r\n0\r\n\r\n');
  }
  await Promise.race([left.promise, closed]);
  await waitFor('an answer', () => text.length > 12, { everyMs: 1 });
  socket.destroy();
  return Number(text.slice(9, 12));
}
