import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Attachment, NodeNetwork } from '../../../src/cni/contract.ts';
import type { NodeNetworkOptions } from '../../../src/cni/node-network.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { run } from '../../support/command.ts';
import { bridges, namespaces, readySlots, reservations } from '../../support/network-footprint.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const NODE = '2001:db8:1::1';
const OUTSIDE = '2001:db8:1::2';
const EXTRA = '2001:db8:5::5';
const METADATA = 'fd00:ec2::254';
const SUBNET = 'fd00:234::/64';

/** A lab whose node and outside have IPv6 as well. */
async function dualStackLab(): Promise<NetworkLab> {
  const lab = await createNetworkLab();
  const outside = lab.outsidePath.split('/').at(-1) ?? '';
  await lab.onNode('ip', ['address', 'add', `${NODE}/64`, 'dev', 'up0', 'nodad']);
  await run('ip', ['-n', outside, 'address', 'add', `${OUTSIDE}/64`, 'dev', 'down0', 'nodad']);
  for (const address of [METADATA, EXTRA]) {
    await run('ip', ['-n', outside, 'address', 'add', `${address}/128`, 'dev', 'lo', 'nodad']);
  }
  await lab.onNode('ip', ['-6', 'route', 'add', 'default', 'via', OUTSIDE]);
  return lab;
}

/** A node whose configuration list asks for these ranges. */
async function networkWith(
  lab: NetworkLab,
  ranges: readonly string[],
  options: Partial<NodeNetworkOptions> = {},
): Promise<NodeNetwork> {
  const shipped = JSON.parse(await readFile(lab.networkOptions.configFile, 'utf8')) as {
    plugins: { type: string; ipam?: object }[];
  };
  const plugins = shipped.plugins.map((plugin) =>
    plugin.type === 'bridge'
      ? { ...plugin, ipam: { ...plugin.ipam, ranges: ranges.map((subnet) => [{ subnet }]) } }
      : plugin,
  );
  const configFile = join(lab.stateDir, 'ipv6.conflist');
  await writeFile(configFile, JSON.stringify({ ...shipped, plugins }));
  return lab.network({ slots: 0, configFile, ...options });
}

async function addressesInside(netnsPath: string): Promise<string> {
  return (await run('nsenter', [`--net=${netnsPath}`, 'ip', '-o', 'address', 'show', 'eth0'])).stdout;
}

describe('a configuration list that asks for both families', () => {
  it.each([
    ['table', 'inet', 'esb'],
    ['set', 'inet', 'esb', 'private6'],
  ])('has its table put right once another program has flushed the %s', async (...what) => {
    const lab = await dualStackLab();
    let now = 0;
    const clock = { ...systemClock, monotonic: () => now };
    const network = await networkWith(lab, ['10.0.0.0/8', SUBNET], { clock });
    await network.start();
    const table = async (...flags: readonly string[]): Promise<string> =>
      (await lab.onNode('nft', [...flags, 'list', 'table', 'inet', 'esb'])).stdout;
    const before = await table();
    await lab.onNode('nft', ['flush', ...what]);
    expect(await table()).not.toBe(before);
    now += 5_000;
    expect(await network.health()).toEqual({ ok: true });
    expect(await table()).toBe(before);
    // Nothing is missing of what was written.
    const written = await table('-a');
    now += 5_000;
    await network.health();
    expect(await table('-a')).toBe(written);
  });

  it('gives workers an address of each, with IPv4 in their status, and a way out by both', async () => {
    const lab = await dualStackLab();
    const network = await networkWith(lab, ['10.0.0.0/8', SUBNET]);
    await network.start();
    const worker = await network.attach('one');
    expect(worker.ip).toMatch(/^10\.234\.0\.\d+$/);
    const inside = await addressesInside(worker.netnsPath);
    expect(inside).toContain(`${worker.ip}/21`);
    const [, ipv6 = ''] = /inet6 (fd00:234::\S+)\/112/.exec(inside) ?? [];
    expect(ipv6).not.toBe('');
    await lab.listen(worker.netnsPath, 8080);
    for (const address of [worker.ip, ipv6]) {
      expect(await lab.connect(lab.netnsPath, address, 8080), `the agent to ${address}`).toMatchObject({
        connected: true,
      });
    }
    await lab.listen(lab.outsidePath, 443);
    expect(await lab.connect(worker.netnsPath, OUTSIDE, 443)).toEqual({ connected: true, seenAs: NODE });
    expect(await lab.connect(worker.netnsPath, lab.outsideAddress, 443)).toEqual({
      connected: true,
      seenAs: lab.nodeAddress,
    });
    await run('ip', [
      ...['-n', lab.outsidePath.split('/').at(-1) ?? ''],
      ...['-6', 'route', 'add', SUBNET, 'via', NODE],
    ]);
    expect(await lab.connect(lab.outsidePath, ipv6, 8080), 'from outside').toMatchObject({
      connected: false,
    });
  });

  it('reaches a worker at once by addresses of both families that an earlier worker had', async () => {
    const lab = await dualStackLab();
    const network = await networkWith(lab, ['10.0.0.0/8', SUBNET]);
    await network.start();
    const addresses = async ({ ip, netnsPath }: Attachment): Promise<readonly string[]> => {
      const [, ipv6 = ''] = /inet6 (fd00:234::\S+)\/112/.exec(await addressesInside(netnsPath)) ?? [];
      return [ip, ipv6];
    };
    const expectReached = async (worker: Attachment): Promise<void> => {
      await lab.listen(worker.netnsPath, 8080);
      for (const address of await addresses(worker)) {
        expect(await lab.connect(lab.netnsPath, address, 8080), address).toMatchObject({ connected: true });
      }
    };
    const earlier = await network.attach('earlier');
    const before = await addresses(earlier);
    // A bridge without ports has no carrier, and the kernel removes its neighbour entries.
    await network.attach('bystander');
    await expectReached(earlier);
    await network.detach('earlier');
    for (const range of [0, 1]) {
      await rm(join(lab.stateDir, `cni/ipam/esb/last_reserved_ip.${range}`));
    }
    const later = await network.attach('later');
    expect(await addresses(later)).toEqual(before);
    await expectReached(later);
  });

  it('keeps workers from the node, the metadata address, denied ranges and each other by IPv6 too', async () => {
    const lab = await dualStackLab();
    const network = await networkWith(lab, ['10.0.0.0/8', SUBNET], {
      deniedRanges: ['2001:db8:5::/64', '203.0.113.0/24'],
      maxWorkers: 2000,
    });
    await network.start();
    const [worker, sibling, other] = [
      await network.attach('one'),
      await network.attach('two'),
      await network.attach('three'),
    ];
    expect(await bridges(lab)).toEqual(['esb0', 'esb1']);
    const ipv6Of = async (netnsPath: string): Promise<string> =>
      /inet6 (fd00:234::\S+)\/112/.exec(await addressesInside(netnsPath))?.[1] ?? '';
    const linkLocal = async (program: Promise<{ stdout: string }>): Promise<string> =>
      /inet6 (fe80::\S+)\//.exec((await program).stdout)?.[1] ?? '';
    for (const each of [sibling, other]) {
      await lab.listen(each.netnsPath, 8080);
    }
    await lab.listen(lab.netnsPath, 9000);
    await lab.listen(lab.outsidePath, 80);
    const reach = async (host: string, port: number): Promise<boolean> =>
      (await lab.connect(worker.netnsPath, host, port)).connected;
    const bridgeLocal = await linkLocal(lab.onNode('ip', ['-o', '-6', 'address', 'show', 'esb0']));
    const siblingLocal = await linkLocal(
      run('nsenter', [`--net=${other.netnsPath}`, 'ip', '-o', '-6', 'address', 'show', 'eth0']),
    );
    expect([bridgeLocal, siblingLocal]).not.toContain('');

    expect(await reach('fd00:234::1', 9000), 'the node by its bridge').toBe(false);
    expect(await reach('fd00:234::1:1', 9000), 'the node by another bridge').toBe(false);
    expect(await reach(NODE, 9000), 'the node by another address').toBe(false);
    expect(await reach(`${bridgeLocal}%eth0`, 9000), 'the node by a link-local address').toBe(false);
    expect(await reach(await ipv6Of(sibling.netnsPath), 8080), 'a worker on another bridge').toBe(false);
    expect(await reach(await ipv6Of(other.netnsPath), 8080), 'a worker on the same bridge').toBe(false);
    expect(await reach(`${siblingLocal}%eth0`, 8080), 'a worker by a link-local address').toBe(false);
    expect(await reach(METADATA, 80), 'metadata').toBe(false);
    expect(await reach(EXTRA, 80), 'a denied range').toBe(false);
    expect(await reach(lab.extraAddress, 80), 'a denied range of IPv4').toBe(false);
    expect(await reach(OUTSIDE, 80), 'anything else').toBe(true);
    expect(await reach(lab.outsideAddress, 80), 'anything else of IPv4').toBe(true);
  });

  it('keeps reservations of both families in order, and leaves nothing behind', async () => {
    const lab = await dualStackLab();
    const forwarding = async (): Promise<string> =>
      (await lab.onNode('cat', ['/proc/sys/net/ipv6/conf/all/forwarding'])).stdout.trim();
    expect(await forwarding()).toBe('0');
    const network = await networkWith(lab, ['10.0.0.0/8', SUBNET], { slots: 1 });
    await network.start();
    expect(await forwarding()).toBe('1');
    for (const name of ['one', 'two', 'three']) {
      await network.attach(name);
    }
    await waitFor('a slot', async () => (await readySlots(lab.stateDir)).length === 1);
    expect(await reservations(lab)).toHaveLength(8);
    await network.detach('two');
    expect(await reservations(lab)).toHaveLength(6);
    await network.stop();

    // Taken over by the next run, the slot included.
    const slots = await readySlots(lab.stateDir);
    const later = await networkWith(lab, ['10.0.0.0/8', SUBNET], { slots: 1 });
    await later.start();
    const { netnsPath } = await later.attach('four');
    expect(slots).toContain(netnsPath.split('/').at(-1));
    expect(await later.repair(new Set(['one', 'three', 'four']))).toEqual([]);
    await later.stop();
    expect(await lab.remove()).toEqual([]);
    expect(await forwarding()).toBe('0');
    expect(await namespaces(lab)).toEqual([]);
    expect((await lab.onNode('nft', ['list', 'ruleset'])).stdout).toBe('');
  });

  it('refuses a subnet that a route of the node touches, and says where it comes from', async () => {
    const lab = await dualStackLab();
    await lab.onNode('ip', ['-6', 'route', 'add', 'fd00:234:0:0:5::/80', 'dev', 'up0']);
    const network = await networkWith(lab, ['10.0.0.0/8', SUBNET]);
    await expect(network.start()).rejects.toMatchObject({ code: 'SubnetCollision' });
    expect(await network.health()).toMatchObject({
      ok: false,
      message: expect.stringMatching(/fd00:234::\/64.*fd00:234:0:0:5::\/80.*up0.*network configuration/),
    });
  });
});

describe('a configuration list that asks for IPv6 alone', () => {
  it('gives workers no other address, and shows that one', async () => {
    const lab = await dualStackLab();
    const network = await networkWith(lab, [SUBNET]);
    await network.start();
    const worker = await network.attach('one');
    expect(worker.ip).toMatch(/^fd00:234::/);
    const inside = await addressesInside(worker.netnsPath);
    expect(inside).not.toMatch(/inet \d/);
    await lab.listen(worker.netnsPath, 8080);
    await lab.listen(lab.outsidePath, 443);
    expect(await lab.connect(lab.netnsPath, worker.ip, 8080)).toMatchObject({ connected: true });
    expect(await lab.connect(worker.netnsPath, OUTSIDE, 443)).toEqual({ connected: true, seenAs: NODE });
    expect(await lab.connect(worker.netnsPath, METADATA, 443)).toMatchObject({ connected: false });
  });
});
