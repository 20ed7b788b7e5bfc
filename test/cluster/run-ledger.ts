import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { labAddress } from './cluster-network.ts';

/** Notes of functions about the calls that run in them, by `ledger-function.py`. */
export interface RunLedger {
  /** Where functions tell it, `host:port`. */
  readonly address: string;
  /** How often a call began. */
  runs(call: string): number;
  /** Whether a call ended. */
  ended(call: string): boolean;
  /** Calls that began more than once. */
  readonly repeated: readonly string[];
  /** How many calls began. */
  readonly size: number;
  stop(): Promise<void>;
}

/** Starts one in the network of the lab. */
export async function startRunLedger(): Promise<RunLedger> {
  const began = new Map<string, number>();
  const ended = new Set<string>();
  const sockets = new Set<Socket>();
  const take = (line: string): void => {
    const [, what, call = ''] = /^(began|ended) (.*)\n$/.exec(line) ?? [];
    if (what === 'began') {
      began.set(call, (began.get(call) ?? 0) + 1);
    } else if (what === 'ended') {
      ended.add(call);
    }
  };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    text(socket).then(
      (line) => {
        take(line);
        socket.end();
      },
      () => socket.destroy(),
    );
  });
  server.listen(0, labAddress);
  await once(server, 'listening');
  const address = server.address();
  return {
    address: `${labAddress}:${typeof address === 'object' ? address?.port : ''}`,
    runs: (call) => began.get(call) ?? 0,
    ended: (call) => ended.has(call),
    get repeated() {
      return [...began].filter(([, runs]) => runs > 1).map(([call, runs]) => `${call} ran ${runs} times`);
    },
    get size() {
      return began.size;
    },
    async stop() {
      for (const socket of sockets) {
        socket.destroy();
      }
      server.close();
      await once(server, 'close');
    },
  };
}
