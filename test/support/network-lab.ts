import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { onTestFinished } from 'vitest';
import type { NodeNetwork } from '../../src/cni/contract.ts';
import { removeNodeNetwork } from '../../src/cni/gc/uninstall.ts';
import { remoteIpForward } from '../../src/cni/host/ip-forward.ts';
import { createNodeNetwork, type NodeNetworkOptions } from '../../src/cni/node-network.ts';
import { inNetworkNamespace, systemCommandRunner } from '../../src/common/exec/command-runner.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { type CommandResult, run } from './command.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { toolsFolder } from './tools.ts';
import { waitFor } from './wait-for.ts';

/** The address of the node on the wire to the outside, and that of the outside. */
const NODE_ADDRESS = '198.51.100.1';
const OUTSIDE_ADDRESS = '198.51.100.2';
/** Further addresses that the outside answers on. */
const OUTSIDE_EXTRA = ['169.254.169.254', '203.0.113.5'] as const;

/** Result of an attempt to connect: the peer's word, or the error. */
export interface Reach {
  readonly connected: boolean;
  /** The address that the server saw; empty when not connected. */
  readonly seenAs: string;
}

/**
 * A node in a network namespace of its own, wired to a second namespace that plays everything outside: its default
 * gateway, a metadata service, and a range that workers may be denied. Nothing of the machine's own network is touched.
 */
export interface NetworkLab {
  /** Path of the node's network namespace. */
  readonly netnsPath: string;
  readonly stateDir: string;
  readonly nodeAddress: string;
  readonly outsideAddress: string;
  /** Address of the outside in a range that a test may deny. */
  readonly extraAddress: string;
  readonly metadataAddress: string;
  /** Options that let `createNodeNetwork` run in this process and work on the lab's node. */
  readonly networkOptions: NodeNetworkOptions;
  /** Makes a network on the node; it is stopped when the test is over. */
  network(options?: Partial<NodeNetworkOptions>): NodeNetwork;
  /** Takes everything away again, as `down` does. */
  remove(): Promise<string[]>;
  /** Runs a program on the node. */
  onNode(program: string, args: readonly string[], mayFail?: boolean): Promise<CommandResult>;
  /** Listens on every address of a namespace, and answers each connection with the peer's address. */
  listen(netnsPath: string, port: number): Promise<OwnedProcess>;
  /** Connects from inside a namespace. */
  connect(netnsPath: string, host: string, port: number): Promise<Reach>;
  /** Path of the namespace that is the outside. */
  readonly outsidePath: string;
}

export interface NetworkLabOptions {
  readonly subnet?: string;
}

const SERVER = `require('net').createServer((s) => {
  s.on('error', () => {});
  s.end(s.remoteAddress.replace('::ffff:', ''));
}).listen(Number(process.argv[1]), () => console.log('listening'));`;

const CLIENT = `const s = require('net').connect(Number(process.argv[2]), process.argv[1]);
s.setEncoding('utf8');
s.on('data', (text) => { process.stdout.write(text); process.exit(0); });
s.on('error', () => process.exit(7));
setTimeout(() => process.exit(7), 3000);`;

/** Makes a lab that ends with the test. */
export async function createNetworkLab({ subnet = '10.234.0.0/16' }: NetworkLabOptions = {}): Promise<NetworkLab> {
  const id = randomBytes(3).toString('hex');
  const [node, outside] = [`esb-t-${id}`, `esb-t-${id}-out`];
  const [netnsPath, outsidePath] = [`/run/netns/${node}`, `/run/netns/${outside}`];
  const stateDir = await mkdtemp(join(tmpdir(), 'esb-network-'));
  onTestFinished(async () => {
    await rm(stateDir, { recursive: true, force: true });
  });
  for (const name of [node, outside]) {
    await run('ip', ['netns', 'add', name]);
    onTestFinished(async () => {
      await run('ip', ['netns', 'delete', name]);
    });
  }
  const ip = async (name: string, ...args: string[]): Promise<void> => {
    await run('ip', ['-n', name, ...args]);
  };
  await ip(node, 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'down0', 'netns', outside);
  for (const [name, link, address] of [
    [node, 'up0', NODE_ADDRESS],
    [outside, 'down0', OUTSIDE_ADDRESS],
  ] as const) {
    await ip(name, 'address', 'add', `${address}/30`, 'dev', link);
    await ip(name, 'link', 'set', link, 'up');
    await ip(name, 'link', 'set', 'lo', 'up');
  }
  for (const address of OUTSIDE_EXTRA) {
    await ip(outside, 'address', 'add', `${address}/32`, 'dev', 'lo');
  }
  await ip(node, 'route', 'add', 'default', 'via', OUTSIDE_ADDRESS);

  const inside = (path: string, program: string, args: readonly string[]): string[] => [
    `--net=${path}`,
    '--',
    program,
    ...args,
  ];
  // Somebody has to live there, so that /proc shows the node's routes and interfaces.
  const resident = await startOwnedProcess({
    program: 'nsenter',
    args: inside(netnsPath, 'sleep', ['infinity']),
    logFile: join(stateDir, 'resident.log'),
  });
  onTestFinished(() => resident.kill());
  await waitFor('the resident of the node', async () => {
    const links = await run('cat', [`/proc/${resident.pid}/net/dev`]);
    return links.stdout.includes('up0');
  });

  const runner = inNetworkNamespace(systemCommandRunner, netnsPath);
  const networkOptions: NodeNetworkOptions = {
    stateDir,
    configFile: resolve(import.meta.dirname, '../../cni/10-esb.conflist'),
    pluginFolder: toolsFolder(),
    subnet,
    logger: silentLogger(),
    runner,
    procFolder: `/proc/${resident.pid}`,
    ipForward: remoteIpForward(runner),
  };
  const remove = (): Promise<string[]> =>
    removeNodeNetwork({ ...networkOptions, runner: systemCommandRunner, nodeNetns: netnsPath });
  onTestFinished(async () => {
    await remove();
  });

  return {
    netnsPath,
    outsidePath,
    stateDir,
    nodeAddress: NODE_ADDRESS,
    outsideAddress: OUTSIDE_ADDRESS,
    metadataAddress: OUTSIDE_EXTRA[0],
    extraAddress: OUTSIDE_EXTRA[1],
    networkOptions,
    remove,
    network(options = {}) {
      const network = createNodeNetwork({ ...networkOptions, ...options });
      onTestFinished(() => network.stop());
      return network;
    },
    onNode: (program, args, mayFail = false) => run('nsenter', inside(netnsPath, program, args), { mayFail }),
    async listen(path, port) {
      const server = await startOwnedProcess({
        program: 'nsenter',
        args: inside(path, process.execPath, ['-e', SERVER, String(port)]),
        logFile: join(stateDir, `server-${randomBytes(3).toString('hex')}.log`),
      });
      onTestFinished(() => server.kill());
      await waitFor(`a server on port ${port}`, () => server.output().includes('listening'));
      return server;
    },
    async connect(path, host, port) {
      const { code, stdout } = await run(
        'nsenter',
        inside(path, process.execPath, ['-e', CLIENT, host, String(port)]),
        { mayFail: true },
      );
      return { connected: code === 0, seenAs: stdout.trim() };
    },
  };
}
