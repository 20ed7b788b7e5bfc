import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { NodeNetwork } from '../../../src/cni/contract.ts';
import { namespaces, readySlots, reservations } from '../../support/network-footprint.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

async function started(lab: NetworkLab, slots = 0): Promise<NodeNetwork> {
  const network = lab.network({ slots });
  await network.start();
  return network;
}

const ipam = (lab: NetworkLab, ...more: string[]): string => join(lab.stateDir, 'cni/ipam/esb', ...more);

describe('reservations', () => {
  it('that are lost are written again from the attachments, before any address is given out', {
    tags: ['P21'],
  }, async () => {
    const lab = await createNetworkLab();
    const earlier = await started(lab, 1);
    const attached = [await earlier.attach('one'), await earlier.attach('two'), await earlier.attach('three')];
    await waitFor('a slot', async () => (await readySlots(lab.stateDir)).length === 1);
    await earlier.stop();
    await rm(ipam(lab), { recursive: true });

    const later = await started(lab, 1);
    const taken = new Set(attached.map(({ ip }) => ip));
    for (let index = 0; index < 4; index += 1) {
      const { ip } = await later.attach(`more-${index}`);
      expect(taken).not.toContain(ip);
      taken.add(ip);
    }
    expect(await reservations(lab)).toEqual(expect.arrayContaining([...taken]));
    for (const { containerId } of await later.list()) {
      await later.detach(containerId);
    }
    await waitFor('only a slot to be left', async () => {
      return (await reservations(lab)).length === 1 && (await namespaces(lab)).length === 1;
    });
  });

  it('of nobody are given back at the start', { tags: ['P19'] }, async () => {
    const lab = await createNetworkLab();
    await (await started(lab)).stop();
    await mkdir(ipam(lab), { recursive: true });
    await writeFile(ipam(lab, '10.234.0.77'), 'of-nobody\r\neth0');
    await started(lab);
    expect(await reservations(lab)).toEqual([]);
  });

  it('of nobody that fill a subnet do not keep anybody from an address', async () => {
    const lab = await createNetworkLab({ subnet: '10.234.0.0/29' });
    const network = await started(lab);
    const first = await network.attach('one');
    for (let last = 2; last <= 6; last += 1) {
      await writeFile(ipam(lab, `10.234.0.${last}`), 'of-nobody\r\neth0', { flag: 'wx' }).catch(() => undefined);
    }
    expect(await reservations(lab)).toHaveLength(5);
    const second = await network.attach('two');
    expect(second.ip).not.toBe(first.ip);
    expect((await reservations(lab)).toSorted()).toEqual([first.ip, second.ip].toSorted());
  });
});

describe('an address that another worker had', () => {
  it('is reached at once, though the node has a neighbour entry of the earlier worker', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab);
    const earlier = await network.attach('earlier');
    // A bridge without ports has no carrier, and the kernel removes its neighbour entries.
    await network.attach('bystander');
    await lab.listen(earlier.netnsPath, 8080);
    expect(await lab.connect(lab.netnsPath, earlier.ip, 8080)).toMatchObject({ connected: true });
    await network.detach('earlier');
    // host-local goes on after the address that it gave last, but for a lost file or a full round.
    await rm(ipam(lab, 'last_reserved_ip.0'));

    const later = await network.attach('later');
    expect(later.ip).toBe(earlier.ip);
    await lab.listen(later.netnsPath, 8080);
    expect(await lab.connect(lab.netnsPath, later.ip, 8080)).toMatchObject({ connected: true });
  });
});

describe('records that are lost', () => {
  it('are written again for workers that live, whose addresses nobody else is given meanwhile', async () => {
    const lab = await createNetworkLab();
    const earlier = await started(lab);
    const [kept, gone] = [await earlier.attach('kept'), await earlier.attach('gone')];
    await lab.listen(kept.netnsPath, 8080);
    await earlier.stop();
    // Everything that the agent knows of its network.
    await rm(join(lab.stateDir, 'cni'), { recursive: true });

    const later = await started(lab);
    expect(await later.list()).toEqual([]);
    const fresh = await later.attach('fresh');
    expect([kept.ip, gone.ip]).not.toContain(fresh.ip);
    const removed = await later.repair(new Set(['kept', 'fresh']), {
      claims: new Map([[kept.ip, { containerId: 'kept' }]]),
    });
    expect(removed).toEqual([gone.netnsPath.split('/').at(-1)]);
    expect(await later.list()).toEqual(expect.arrayContaining([kept, fresh]));
    expect(await lab.connect(lab.netnsPath, kept.ip, 8080)).toMatchObject({ connected: true });
    expect((await reservations(lab)).toSorted()).toEqual([kept.ip, fresh.ip].toSorted());
    expect(await namespaces(lab)).toHaveLength(2);

    await later.detach('kept');
    expect(await reservations(lab)).toEqual([fresh.ip]);
  });
});
