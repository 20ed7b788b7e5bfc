/**
 * Runs inside a network namespace and does there what its parent, outside, asks for: one JSON line per request and per
 * answer. Started by `netns-caller.ts`.
 */
import { request } from 'node:http';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import type { RelayAnswer, RelayRequest } from './netns-caller.ts';

for await (const line of createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line) as RelayRequest;
  perform(wanted).then(
    (answer) => tell({ id: wanted.id, ...answer }),
    (error: unknown) => tell({ id: wanted.id, error: String(error) }),
  );
}

function tell(answer: RelayAnswer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

function perform(wanted: RelayRequest): Promise<Omit<RelayAnswer, 'id'>> {
  return wanted.body === undefined ? open(wanted) : post(wanted, wanted.body);
}

function open({ ip, port, timeoutMs }: RelayRequest): Promise<Omit<RelayAnswer, 'id'>> {
  const done = Promise.withResolvers<Omit<RelayAnswer, 'id'>>();
  const socket = connect({ host: ip, port });
  const end = (isOpen: boolean): void => {
    socket.destroy();
    done.resolve({ open: isOpen });
  };
  socket.setTimeout(timeoutMs, () => end(false));
  socket.once('connect', () => end(true));
  socket.once('error', () => end(false));
  return done.promise;
}

function post({ ip, port, timeoutMs }: RelayRequest, body: string): Promise<Omit<RelayAnswer, 'id'>> {
  const done = Promise.withResolvers<Omit<RelayAnswer, 'id'>>();
  const path = '/2015-03-31/functions/function/invocations';
  const call = request({ host: ip, port, path, method: 'POST', timeout: timeoutMs }, (response) => {
    const parts: Buffer[] = [];
    response.on('data', (part: Buffer) => parts.push(part));
    response.on('error', done.reject);
    response.on('end', () => done.resolve({ body: Buffer.concat(parts).toString() }));
  });
  call.on('timeout', () => call.destroy(new Error(`no answer within ${timeoutMs} ms`)));
  call.on('error', done.reject);
  call.end(body);
  return done.promise;
}
