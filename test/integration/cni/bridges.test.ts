import { describe, expect, it } from 'vitest';
import type { Attachment, NodeNetwork } from '../../../src/cni/contract.ts';
import { run } from '../../support/command.ts';
import { bridges, namespaces, ports, readySlots, reservations } from '../../support/network-footprint.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

async function started(lab: NetworkLab, maxWorkers: number, slots = 0): Promise<NodeNetwork> {
  const network = lab.network({ slots, maxWorkers });
  await network.start();
  return network;
}

function names(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `worker-${index}`);
}

/** The bridge that an attachment is on, by its address. */
function bridgeOf({ ip }: Attachment): string {
  return `esb${Math.floor(Number(ip.split('.')[2]) / 8)}`;
}

describe('a node for more than a thousand workers', () => {
  it('has several bridges, fills them evenly, and gives each address once', { tags: ['M9'] }, async () => {
    const lab = await createNetworkLab();
    const network = await started(lab, 2500);
    expect(await bridges(lab)).toEqual(['esb0', 'esb1', 'esb2']);
    const attached = await Promise.all(names(9).map((name) => network.attach(name)));
    expect(new Set(attached.map(({ ip }) => ip)).size).toBe(9);
    for (const bridge of ['esb0', 'esb1', 'esb2']) {
      expect(attached.filter((one) => bridgeOf(one) === bridge)).toHaveLength(3);
      expect(await ports(lab, bridge)).toHaveLength(3);
    }
    expect(await reservations(lab, 'esb.2')).toHaveLength(3);

    const [one, two] = ['esb0', 'esb2'].map((name) => attached.find((each) => bridgeOf(each) === name));
    if (one === undefined || two === undefined) {
      throw new Error('a bridge has no attachment');
    }
    for (const { netnsPath, ip } of [one, two]) {
      await lab.listen(netnsPath, 8080);
      expect(await lab.connect(lab.netnsPath, ip, 8080), 'the agent').toMatchObject({ connected: true });
    }
    await lab.listen(lab.outsidePath, 443);
    await lab.listen(lab.netnsPath, 9000);
    const reach = async (host: string, port: number): Promise<boolean> =>
      (await lab.connect(two.netnsPath, host, port)).connected;
    expect(await reach(lab.outsideAddress, 443), 'the outside').toBe(true);
    expect(await reach(one.ip, 8080), 'a worker on another bridge').toBe(false);
    expect(await reach('10.234.16.1', 9000), 'the node by its own bridge').toBe(false);
    expect(await reach('10.234.0.1', 9000), 'the node by another bridge').toBe(false);
    expect(await reach('10.234.200.1', 443), 'an address that no bridge has').toBe(false);
  });

  it('remembers where each attachment is, and fills the emptiest bridge first', async () => {
    const lab = await createNetworkLab();
    const earlier = await started(lab, 2000);
    const attached = await Promise.all(names(6).map((name) => earlier.attach(name)));
    for (const one of attached.filter((each) => bridgeOf(each) === 'esb1')) {
      await earlier.detach(one.containerId);
    }
    await earlier.stop();
    const later = await started(lab, 2000);
    const more = [await later.attach('more-0'), await later.attach('more-1'), await later.attach('more-2')];
    expect(more.map(bridgeOf)).toEqual(['esb1', 'esb1', 'esb1']);
    for (const { containerId } of await later.list()) {
      await later.detach(containerId);
    }
    expect([...(await reservations(lab)), ...(await reservations(lab, 'esb.1'))]).toEqual([]);
    await waitFor('every port to go', async () => {
      return [...(await ports(lab)), ...(await ports(lab, 'esb1'))].length === 0;
    });
  });

  it('keeps a bridge that is no longer asked for until nothing is on it', async () => {
    const lab = await createNetworkLab();
    const many = await started(lab, 2000, 2);
    const attached = await Promise.all(names(4).map((name) => many.attach(name)));
    const left = attached.filter((each) => bridgeOf(each) === 'esb1');
    expect(left.length).toBeGreaterThan(0);
    await waitFor('the slots', async () => (await readySlots(lab.stateDir)).length === 2);
    await many.stop();

    const few = await started(lab, 1000, 2);
    expect(await bridges(lab)).toEqual(['esb0', 'esb1']);
    const [worker] = left;
    await lab.listen(worker?.netnsPath ?? '', 8080);
    expect(await lab.connect(lab.netnsPath, worker?.ip ?? '', 8080)).toMatchObject({ connected: true });
    expect(bridgeOf(await few.attach('new'))).toBe('esb0');
    await waitFor('slots on the first bridge alone', async () => {
      return (await readySlots(lab.stateDir)).length === 2 && (await ports(lab, 'esb1')).length === left.length;
    });
    for (const { containerId } of left) {
      await few.detach(containerId);
    }
    await few.stop();
    await (await started(lab, 1000)).stop();
    expect(await bridges(lab)).toEqual(['esb0']);
  });

  it('goes on with another bridge when the ports of one are taken by what is not ours', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab, 2000);
    const lines = Array.from(
      { length: 1023 },
      (_, index) => `link add f${index} type veth peer name g${index}\nlink set f${index} master esb0\n`,
    );
    await run('nsenter', [`--net=${lab.netnsPath}`, '--', 'ip', '-batch', '-'], { input: lines.join('') });
    const attached = [await network.attach('one'), await network.attach('two')];
    expect(attached.map(bridgeOf)).toEqual(['esb1', 'esb1']);
    await network.stop();
    expect(await lab.remove()).toEqual([]);
  });

  it('leaves none of its bridges behind', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab, 3000, 3);
    await Promise.all(names(4).map((name) => network.attach(name)));
    await network.stop();
    expect(await lab.remove()).toEqual([]);
    expect(await bridges(lab)).toEqual([]);
    expect(await namespaces(lab)).toEqual([]);
    expect((await lab.onNode('nft', ['list', 'ruleset'])).stdout).toBe('');
    expect((await lab.onNode('ip', ['-br', 'link'])).stdout).not.toMatch(/veth|esb\d/);
  });

  it('does not start on a subnet that is too small, and says what would do', async () => {
    const lab = await createNetworkLab({ subnet: '10.234.0.0/21' });
    const network = lab.network({ slots: 0, maxWorkers: 1500 });
    await expect(network.start()).rejects.toMatchObject({ code: 'SubnetTooSmall' });
    expect(await network.health()).toEqual({
      ok: false,
      reason: 'SubnetTooSmall',
      message: expect.stringMatching(/10\.234\.0\.0\/21.*1500 workers.*\/20 or larger.*--max-workers/),
    });
    expect(await bridges(lab)).toEqual([]);
  });
});

describe('a node that is given another subnet', () => {
  it('keeps its workers within reach, and gives new ones the new addresses', async () => {
    const lab = await createNetworkLab();
    const before = await started(lab, 1000);
    const old = await before.attach('old');
    await lab.listen(old.netnsPath, 8080);
    await before.stop();
    const after = lab.network({ slots: 0, subnet: '10.240.0.0/16' });
    await after.start();
    const fresh = await after.attach('fresh');
    expect(fresh.ip).toMatch(/^10\.240\.0\./);
    await lab.listen(fresh.netnsPath, 8080);
    expect(await lab.connect(lab.netnsPath, fresh.ip, 8080)).toMatchObject({ connected: true });
    expect(await lab.connect(lab.netnsPath, old.ip, 8080)).toMatchObject({ connected: true });
    await after.detach('old');
    expect(await reservations(lab)).toEqual([fresh.ip]);
  });
});

describe('a node whose addresses run out', () => {
  it('warns before there are none, and no longer once some are given back', async () => {
    const lab = await createNetworkLab({ subnet: '10.234.0.0/28' });
    const network = await started(lab, 1000);
    for (const name of names(11)) {
      await network.attach(name);
    }
    expect(await network.health()).toEqual({ ok: true });
    await network.attach('twelfth');
    expect(await network.health()).toEqual({
      ok: true,
      warning: {
        reason: 'AddressesLow',
        message: expect.stringMatching(/12 of 13 addresses of 10\.234\.0\.0\/28.*--subnet/),
      },
    });
    await network.detach('twelfth');
    expect(await network.health()).toEqual({ ok: true });
  });
});
