/**
 * Carries connections from one socket to another: `node socket-relay.ts FROM TO`, each `tcp:HOST:PORT` or `unix:PATH`.
 * Unix sockets reach over network namespaces, so that two of these are a way into one and out of it.
 */
import { rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { argv } from 'node:process';

/** Starts to carry; resolves once it listens. */
export async function relaySockets(from: string, to: string): Promise<Server> {
  const server = createServer((inbound) => {
    const outbound = connect(endpoint(to));
    inbound.on('error', () => outbound.destroy());
    outbound.on('error', () => inbound.destroy());
    // Bytes that a peer has sent before its end still reach the other one.
    inbound.on('close', () => outbound.destroySoon());
    outbound.on('close', () => inbound.destroySoon());
    inbound.pipe(outbound);
    outbound.pipe(inbound);
  });
  const place = endpoint(from);
  if ('path' in place) {
    rmSync(place.path, { force: true });
  }
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(place, () => listening.resolve());
  await listening.promise;
  return server;
}

function endpoint(text: string): { readonly path: string } | { readonly host: string; readonly port: number } {
  const unix = /^unix:(.+)$/.exec(text)?.[1];
  if (unix !== undefined) {
    return { path: unix };
  }
  const tcp = /^tcp:(.+):(\d+)$/.exec(text);
  if (tcp === null) {
    throw new Error(`'${text}' is neither unix:PATH nor tcp:HOST:PORT`);
  }
  return { host: tcp[1] ?? '', port: Number(tcp[2]) };
}

const [, program, from, to] = argv;
if (program?.endsWith('socket-relay.ts') === true && from !== undefined && to !== undefined) {
  await relaySockets(from, to);
}
