import { join } from 'node:path';
import { run } from './command.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { waitFor } from './wait-for.ts';

/** Addresses of the cable between a lab's node and everything outside. */
export const uplinkAddresses = { node: '198.51.100.1', outside: '198.51.100.2' } as const;

/** Everything outside of a node: its default gateway, and further addresses that a test gives it. */
export interface Uplink {
  /** Path of the network namespace that is the outside. */
  readonly outsidePath: string;
  /** Accepts TCP connections on all addresses of a namespace. */
  listen(netnsPath: string, port: number): Promise<void>;
  /** Answers every question for an address, over UDP, with `address`. */
  nameServer(netnsPath: string, address: string): Promise<void>;
  /** Whether a TCP connection from a namespace comes about. */
  reach(netnsPath: string, host: string, port: number): Promise<boolean>;
  close(): Promise<void>;
}

const LISTENER = `require('net').createServer((socket) => {
  socket.on('error', () => {});
  socket.end('here');
}).listen(Number(process.argv[1]), () => console.log('listening'));`;

const CLIENT = `const socket = require('net').connect(Number(process.argv[2]), process.argv[1]);
socket.on('connect', () => process.exit(0));
socket.on('error', () => process.exit(7));
setTimeout(() => process.exit(7), 3000);`;

/** The head and the question of a query are given back, with one answer behind them. */
const NAME_SERVER = `const socket = require('dgram').createSocket('udp4');
socket.on('message', (query, from) => {
  let end = 12;
  while (query[end] !== 0) end += query[end] + 1;
  end += 5;
  const isAddress = query.readUInt16BE(end - 4) === 1;
  const head = Buffer.from(query.subarray(0, 12));
  head.writeUInt16BE(0x8180, 2);
  head.writeUInt16BE(isAddress ? 1 : 0, 6);
  head.writeUInt16BE(0, 10);
  const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...process.argv[1].split('.').map(Number)]);
  socket.send(Buffer.concat([head, query.subarray(12, end), ...(isAddress ? [answer] : [])]), from.port, from.address);
});
socket.bind(53, () => console.log('listening'));`;

/**
 * Gives the node of a lab a way to the outside. The caller closes it. The namespace is named after the node, so that
 * the clean-up of the lab finds it as well.
 *
 * @param addresses further ones that the outside answers on
 */
export async function createUplink(
  node: { readonly netnsPath: string; readonly folder: string },
  addresses: readonly string[],
): Promise<Uplink> {
  const name = node.netnsPath.split('/').at(-1) ?? '';
  const outside = `${name}-out`;
  const outsidePath = `/run/netns/${outside}`;
  const processes: OwnedProcess[] = [];
  const batch = (netns: string, lines: readonly string[]) =>
    run('ip', ['-n', netns, '-batch', '-'], { input: lines.join('\n') });
  await run('ip', ['netns', 'add', outside]);
  await batch(name, [
    `link add up0 type veth peer name down0 netns ${outside}`,
    `addr add ${uplinkAddresses.node}/30 dev up0`,
    'link set up0 up',
  ]);
  await batch(outside, [
    `addr add ${uplinkAddresses.outside}/30 dev down0`,
    'link set down0 up',
    'link set lo up',
    ...addresses.map((address) => `addr add ${address}/32 dev lo`),
  ]);
  await run('ip', ['-n', name, 'route', 'add', 'default', 'via', uplinkAddresses.outside]);
  const serve = async (netnsPath: string, script: string, argument: string): Promise<void> => {
    const server = await startOwnedProcess({
      program: 'nsenter',
      args: [`--net=${netnsPath}`, '--', process.execPath, '-e', script, argument],
      logFile: join(node.folder, `outside-${processes.length}.log`),
    });
    processes.push(server);
    await waitFor('a server to listen', () => server.output().includes('listening'));
  };
  return {
    outsidePath,
    listen: (netnsPath, port) => serve(netnsPath, LISTENER, String(port)),
    nameServer: (netnsPath, address) => serve(netnsPath, NAME_SERVER, address),
    async reach(netnsPath, host, port) {
      const { code } = await run(
        'nsenter',
        [`--net=${netnsPath}`, '--', process.execPath, '-e', CLIENT, host, String(port)],
        { mayFail: true },
      );
      return code === 0;
    },
    async close() {
      await Promise.all(processes.map((each) => each.kill()));
      await run('ip', ['netns', 'delete', outside], { mayFail: true });
    },
  };
}
