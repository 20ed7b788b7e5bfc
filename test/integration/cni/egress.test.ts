import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { NodeNetwork } from '../../../src/cni/contract.ts';
import type { EgressClass } from '../../../src/cni/host/egress-rules.ts';
import { readRefusals } from '../../../src/cni/host/nftables.ts';
import type { NodeNetworkOptions } from '../../../src/cni/node-network.ts';
import { systemCommandRunner } from '../../../src/common/exec/command-runner.ts';
import { run } from '../../support/command.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { startOwnedProcess } from '../../support/owned-process.ts';
import { waitFor } from '../../support/wait-for.ts';

const CLASSES = ['All', 'Internet', 'Cluster', 'None'] as const;

/** Destinations that the outside plays, by what each is. */
const PLACES = {
  internet: '198.51.100.2',
  private: '192.168.77.7',
  pod: '10.97.0.5',
  publicPod: '203.0.113.5',
  denied: '198.18.0.1',
  internet6: '2001:db8:1::2',
  private6: 'fd00:77::7',
  pod6: 'fd00:97::5',
} as const;
/** A Service of the cluster whose endpoint is the Internet, one whose endpoint is a Pod, and one of a name server. */
const SERVICES = { outerService: '10.96.0.1', service: '10.96.0.2' } as const;
const NAME_SERVER = '192.168.77.53';

type Place = keyof typeof PLACES | keyof typeof SERVICES | 'nameServer' | 'node';

const PROBE = `const targets = JSON.parse(process.argv[1]);
const attempt = ([name, host, port]) => new Promise((done) => {
  const socket = require('net').connect(port, host);
  const end = (reached) => { socket.destroy(); done(reached ? [name] : []); };
  socket.on('connect', () => end(true));
  socket.on('error', () => end(false));
  setTimeout(() => end(false), 5000).unref();
});
Promise.all(targets.map(attempt)).then((found) => console.log(JSON.stringify(found.flat())));`;

const ECHO = `const socket = require('dgram').createSocket('udp4');
socket.on('message', (text, { address, port }) => socket.send(text, port, address));
socket.bind(9, process.argv[1], () => console.log('listening'));`;

/** Always from the same port: to the node all runs are one flow. */
const ASK = `const socket = require('dgram').createSocket('udp4');
const [host, timeoutMs] = process.argv.slice(1);
socket.on('message', () => { console.log('answered'); process.exit(); });
socket.bind(4000, () => setInterval(() => socket.send('?', 9, host), 50));
setTimeout(() => process.exit(), Number(timeoutMs));`;

/** A node with a way by both families, to an Internet, a cluster and a private network that the outside plays. */
async function egressLab(): Promise<NetworkLab> {
  const lab = await createNetworkLab();
  const outside = lab.outsidePath.split('/').at(-1) ?? '';
  const ip = (...args: string[]) => run('ip', ['-n', outside, ...args]);
  await lab.onNode('ip', ['address', 'add', '2001:db8:1::1/64', 'dev', 'up0', 'nodad']);
  await ip('address', 'add', `${PLACES.internet6}/64`, 'dev', 'down0', 'nodad');
  for (const address of [PLACES.private, PLACES.pod, PLACES.denied, NAME_SERVER]) {
    await ip('address', 'add', `${address}/32`, 'dev', 'lo');
  }
  for (const address of [PLACES.private6, PLACES.pod6]) {
    await ip('address', 'add', `${address}/128`, 'dev', 'lo', 'nodad');
  }
  await lab.onNode('ip', ['-6', 'route', 'add', 'default', 'via', PLACES.internet6]);
  // Each refusal is answered at once, and not one in a second.
  await lab.onNode('sysctl', ['-q', 'net.ipv4.icmp_ratelimit=0', 'net.ipv6.icmp.ratelimit=0']);
  // As kube-proxy translates Services.
  await lab.onNode('nft', [
    `add table ip proxy; add chain ip proxy pre { type nat hook prerouting priority dstnat; }; add rule ip proxy pre ip daddr ${SERVICES.outerService} dnat to ${PLACES.internet}; add rule ip proxy pre ip daddr ${SERVICES.service} dnat to ${PLACES.pod}`,
  ]);
  await lab.listen(lab.outsidePath, 80);
  await lab.listen(lab.outsidePath, 53);
  await lab.listen(lab.netnsPath, 80);
  await writeFile(join(lab.stateDir, 'resolv.conf'), `nameserver ${NAME_SERVER}\n`);
  return lab;
}

async function networkOf(lab: NetworkLab, options: Partial<NodeNetworkOptions> = {}): Promise<NodeNetwork> {
  const shipped = JSON.parse(await readFile(lab.networkOptions.configFile, 'utf8')) as {
    plugins: { type: string; ipam?: object }[];
  };
  const ranges = ['10.0.0.0/8', 'fd00:234::/64'].map((subnet) => [{ subnet }]);
  const plugins = shipped.plugins.map((plugin) =>
    plugin.type === 'bridge' ? { ...plugin, ipam: { ...plugin.ipam, ranges } } : plugin,
  );
  const configFile = join(lab.stateDir, 'both.conflist');
  await writeFile(configFile, JSON.stringify({ ...shipped, plugins }));
  const cluster = ['10.96.0.0/16', '10.97.0.0/16', '203.0.113.0/24', 'fd00:97::/64'];
  const network = lab.network({
    slots: 0,
    configFile,
    resolvConfPath: join(lab.stateDir, 'resolv.conf'),
    deniedRanges: ['198.18.0.0/16'],
    otherRanges: () => cluster.map((cidr) => ({ cidr, what: 'a range of the cluster' })),
    ...options,
  });
  await network.start();
  return network;
}

/** Places that a worker reaches, one connection to each at once. */
async function reached(lab: NetworkLab, netnsPath: string): Promise<readonly Place[]> {
  const places = { ...PLACES, ...SERVICES, node: lab.nodeAddress };
  const targets = [...Object.entries(places).map(([name, host]) => [name, host, 80]), ['nameServer', NAME_SERVER, 53]];
  const args = [`--net=${netnsPath}`, '--', process.execPath, '-e', PROBE, JSON.stringify(targets)];
  return JSON.parse((await run('nsenter', args, { timeoutMs: 60_000 })).stdout) as Place[];
}

/** Destinations of each class. */
const EXPECTED: Readonly<Record<EgressClass, readonly Place[]>> = {
  All: [
    ...(['internet', 'private', 'pod', 'publicPod', 'internet6', 'private6', 'pod6'] as const),
    ...(['outerService', 'service', 'nameServer'] as const),
  ],
  Internet: ['internet', 'internet6', 'nameServer'],
  Cluster: ['pod', 'publicPod', 'pod6', 'outerService', 'service', 'nameServer'],
  None: [],
};

/** Elements of the maps of the table. */
async function elements(lab: NetworkLab): Promise<number> {
  const { stdout } = await lab.onNode('nft', ['list', 'table', 'inet', 'esb']);
  return [...stdout.matchAll(/[\da-f]{2}(:[\da-f]{2}){5} : goto/g)].length;
}

describe('the class of a worker', () => {
  it('lets through its destinations and no others, by both families, and the calls of its agent', {
    tags: ['T34'],
  }, async () => {
    const lab = await egressLab();
    const network = await networkOf(lab);
    for (const egress of CLASSES) {
      const { ip, netnsPath } = await network.attach(egress, { egress });
      expect(await reached(lab, netnsPath), egress).toEqual(EXPECTED[egress]);
      await lab.listen(netnsPath, 8080);
      expect(await lab.connect(lab.netnsPath, ip, 8080), `the agent to ${egress}`).toMatchObject({ connected: true });
    }
    const other = await network.attach('other');
    expect(await reached(lab, other.netnsPath), 'no class').toEqual(EXPECTED.All);
    expect(await elements(lab)).toBe(8);
    const { runner = systemCommandRunner } = lab.networkOptions;
    expect((await readRefusals(runner)).egress).toBeGreaterThan(0);

    // A later attachment at any address is of no class.
    for (const egress of CLASSES) {
      await network.detach(egress);
    }
    expect(await elements(lab)).toBe(0);
  });

  it('holds what an earlier worker of the same address has begun', async () => {
    const lab = await egressLab();
    const echo = await startOwnedProcess({
      program: 'nsenter',
      args: [`--net=${lab.outsidePath}`, '--', process.execPath, '-e', ECHO, PLACES.private],
      logFile: join(lab.stateDir, 'echo.log'),
    });
    onTestFinished(() => echo.kill());
    await waitFor('the echo', () => echo.output().includes('listening'));
    const ask = async (netnsPath: string, timeoutMs: number): Promise<string> => {
      const args = [`--net=${netnsPath}`, '--', process.execPath, '-e', ASK, PLACES.private, String(timeoutMs)];
      return (await run('nsenter', args, { timeoutMs: 60_000 })).stdout.trim();
    };
    const network = await networkOf(lab);
    for (const egress of ['Internet', 'Cluster', 'None'] as const) {
      const { netnsPath } = await network.attach('hello', { egress: 'All' });
      expect(await ask(netnsPath, 30_000)).toBe('answered');
      // The same interface stands for a later one with its address.
      await network.attach('hello', { egress });
      expect(await ask(netnsPath, 1_000), egress).toBe('');
    }
  });

  it('holds over an agent, a flush, a lost element and lost records, beside any default of the node', async () => {
    const lab = await egressLab();
    const earlier = await networkOf(lab);
    const none = await earlier.attach('none', { egress: 'None' });
    const outer = await earlier.attach('outer', { egress: 'Internet' });
    const check = async (when: string): Promise<void> => {
      expect(await reached(lab, none.netnsPath), when).toEqual([]);
      expect(await reached(lab, outer.netnsPath), when).toEqual(EXPECTED.Internet);
    };
    await earlier.stop();
    await lab.onNode('nft', ['delete', 'table', 'inet', 'esb']);
    const network = await networkOf(lab);
    expect(await network.attach('none', { egress: 'None' })).toEqual(none);
    await check('another agent');

    await lab.onNode('nft', ['flush', 'map', 'inet', 'esb', 'egress']);
    expect(await reached(lab, none.netnsPath), 'without its element').toContain('internet');
    await waitFor('the element', async () => (await network.health()).ok && (await elements(lab)) === 4);
    await check('a lost element');

    await lab.onNode('nft', ['delete', 'table', 'inet', 'esb']);
    expect(await network.attach('none', { egress: 'None' }), 'before the agent has looked').toEqual(none);
    await check('a start after a flush');
    await network.stop();

    await rm(join(lab.stateDir, 'cni'), { recursive: true });
    const last = await networkOf(lab, { defaultEgress: 'Internet', allowedRanges: ['192.168.0.0/16', '0.0.0.0/0'] });
    const claims = new Map([
      [none.ip, { containerId: 'none', egress: 'None' }],
      [outer.ip, { containerId: 'outer', egress: 'Internet' }],
    ] as const);
    expect(await last.repair(new Set(['none', 'outer']), { claims })).toEqual([]);
    await check('lost records');

    const [plain, all] = [await last.attach('plain'), await last.attach('all', { egress: 'All' })];
    // Allowed ranges are allowed within the class.
    expect(await reached(lab, plain.netnsPath)).toEqual(EXPECTED.Internet);
    expect(await reached(lab, all.netnsPath)).toEqual(expect.arrayContaining([...EXPECTED.All, 'denied']));
  });
});
