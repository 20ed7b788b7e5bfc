import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { withDeadline } from '../../src/common/deadline.ts';
import { EsbError } from '../../src/common/errors.ts';
import { netnsPath } from './node-address.ts';

export interface RelayOptions {
  /** Network namespace with the listening loopback. */
  readonly namespace: string;
  /** Unix socket that takes connections while the relay works. */
  readonly healthSocket: string;
  /** TCP ports; each leads to the same port of 127.0.0.1 in the namespace of this process. */
  readonly ports: readonly number[];
}

const LISTEN_DEADLINE_MS = 20_000;

/**
 * Listens in another network namespace and dials in this one. Returns once it serves, for the life of the process.
 *
 * @throws {EsbError} `ListenFailed` when a port is taken there or the namespace is missing
 */
export async function serveRelay(options: RelayOptions): Promise<void> {
  for (const { port, server } of await listenInside(options)) {
    server.on('connection', (inside) => couple(inside, connect({ host: '127.0.0.1', port, noDelay: true })));
  }
  await rm(options.healthSocket, { force: true });
  const health = createServer((socket) => socket.destroy());
  const listening = Promise.withResolvers<void>();
  health.once('error', listening.reject);
  health.listen(options.healthSocket, () => listening.resolve());
  await listening.promise;
}

interface Listener {
  readonly port: number;
  readonly server: Server;
}

/** A helper inside the namespace makes the listening sockets and hands them over. */
async function listenInside({ namespace, ports }: RelayOptions): Promise<Listener[]> {
  const helper = spawn(
    'nsenter',
    [
      `--net=${netnsPath(namespace)}`,
      '--',
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      join(import.meta.dirname, 'relay-listener-process.ts'),
    ],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  );
  const listeners: Listener[] = [];
  const done = Promise.withResolvers<void>();
  helper.on('error', done.reject);
  helper.on('exit', () => done.reject(new EsbError(`nothing can listen in ${namespace}`, { code: 'ListenFailed' })));
  helper.on('message', (message, handle) => {
    const { port, error } = message as { readonly port: number; readonly error?: string };
    if (error !== undefined) {
      done.reject(new EsbError(`port ${port} in ${namespace}: ${error}`, { code: 'ListenFailed' }));
      return;
    }
    listeners.push({ port, server: handle as Server });
    if (listeners.length === ports.length) {
      done.resolve();
    }
  });
  for (const port of ports) {
    helper.send(port);
  }
  try {
    await withDeadline(`listening in ${namespace}`, LISTEN_DEADLINE_MS, undefined, () => done.promise);
    return listeners;
  } finally {
    done.promise.catch(() => undefined);
    if (helper.connected) {
      helper.disconnect();
    }
  }
}

/** Carries bytes both ways. The end or failure of one side ends the other. */
function couple(one: Socket, other: Socket): void {
  one.setNoDelay(true);
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.on('error', () => to.destroy());
    from.on('close', () => to.destroy());
    from.pipe(to);
  }
}
