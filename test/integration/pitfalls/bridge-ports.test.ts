import { describe, expect, it } from 'vitest';
import type { NodeNetwork } from '../../../src/cni/contract.ts';
import { run } from '../../support/command.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';

/** A bridge of the kernel has no more ports than that (`BR_MAX_PORTS`), one of them its number 0. */
const PORTS = 1_023;

describe('what other systems fell over on a full bridge:', () => {
  it('the ports of the bridge run out: it is said, nothing is left of the attempt, and it goes on once there is one', {
    tags: ['M9'],
  }, async () => {
    const lab = await createNetworkLab();
    const network: NodeNetwork = lab.network({ slots: 0 });
    await network.start();
    const first = await network.attach('first');
    expect(first.ip).not.toBe('');
    const taken = await ports(lab);
    // Cables without a worker: the kernel counts them as it counts those of workers, and they take a second, not
    // minutes.
    const free = PORTS - taken;
    await fill(lab, free - 1);
    expect(await ports(lab)).toBe(PORTS - 1);
    await network.attach('last');
    expect(await ports(lab)).toBe(PORTS);

    const refusal = await network.attach('too-many').catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Error);
    expect(String(refusal)).toMatch(/exchange full|no (free )?port|too many|full/i);
    expect(await ports(lab)).toBe(PORTS);
    expect((await network.list()).map(({ containerId }) => containerId).toSorted()).toEqual(['first', 'last']);

    await network.detach('last');
    const after = await network.attach('after');
    expect(after.ip).not.toBe('');
    await network.detach('after');
    await network.detach('first');
    expect(await network.list()).toEqual([]);
  });
});

async function ports(lab: NetworkLab): Promise<number> {
  const { stdout } = await lab.onNode('ip', ['-o', 'link', 'show', 'master', 'esb0']);
  return stdout.split('\n').filter((line) => line !== '').length;
}

async function fill(lab: NetworkLab, count: number): Promise<void> {
  const lines = Array.from(
    { length: count },
    (_, number) => `link add f${number} type veth peer name g${number}\nlink set f${number} master esb0`,
  );
  await run('nsenter', [`--net=${lab.netnsPath}`, '--', 'ip', '-batch', '-'], { input: lines.join('\n') });
}
