import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { insideAddresses } from '../../../src/cni/host/netns.ts';
import { systemCommandRunner } from '../../../src/common/exec/command-runner.ts';
import { run } from '../../support/command.ts';
import { entries, namespaces, ports, readySlots, reservations } from '../../support/network-footprint.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Attachments that the machine had when it went down. `ESB_REBOOT_WORKERS=500` for the full size. */
const workers = Number(process.env.ESB_REBOOT_WORKERS ?? 60);
const slots = 2;
const deadlineMs = 240_000;
const names = Array.from({ length: workers }, (_, index) => `worker-${index}`);

/**
 * The smallest subnet with an address for each: what was reserved before has to be given back to make room.
 */
function tightSubnet(): string {
  const network = 3;
  return `10.234.0.0/${32 - Math.ceil(Math.log2(workers + slots + network))}`;
}

/**
 * Takes what a machine loses when it goes down: namespaces, interfaces, rules, settings. Files on disk stay.
 */
async function reboot(lab: NetworkLab): Promise<void> {
  const gone = (await namespaces(lab)).map((name) => `netns delete ${name}\n`).join('');
  await writeFile(join(lab.stateDir, 'gone'), gone);
  await run('ip', ['-force', '-batch', join(lab.stateDir, 'gone')]);
  await lab.onNode('ip', ['link', 'delete', 'esb0']);
  await lab.onNode('nft', ['flush', 'ruleset']);
  await lab.onNode('sh', ['-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward']);
}

describe(`a reboot with ${workers} attachments and their reservations left`, () => {
  it('gives every worker an address of its own again, and loses and leaks no reservation', {
    tags: ['M10'],
    timeout: 300_000,
  }, async () => {
    const lab = await createNetworkLab({ subnet: tightSubnet() });
    const before = lab.network({ slots });
    await before.start();
    const old = await Promise.all(names.map((name) => before.attach(name, { deadlineMs })));
    expect(new Set(old.map(({ ip }) => ip)).size).toBe(workers);
    await waitFor('the slots', async () => (await readySlots(lab.stateDir)).length === slots, { timeoutMs: 60_000 });
    await before.stop();
    // Files that were being written when the power went.
    const records = join(lab.stateDir, 'cni/attachments');
    const [half, empty, none] = await entries(records);
    await writeFile(join(records, half ?? ''), '{"id":"es');
    await writeFile(join(records, empty ?? ''), '');
    await writeFile(join(records, `${none}.tmp`), '{"id":"es');
    await reboot(lab);
    expect(await reservations(lab)).toHaveLength(workers + slots);

    const after = lab.network({ slots });
    const began = performance.now();
    await after.start();
    const startedMs = performance.now() - began;
    const fresh = await Promise.all(names.map((name) => after.attach(name, { deadlineMs })));
    const attachedMs = performance.now() - began;
    expect(new Set(fresh.map(({ ip }) => ip)).size).toBe(workers);
    for (const { ip, netnsPath } of fresh) {
      expect(await insideAddresses(systemCommandRunner, netnsPath.split('/').at(-1) ?? '', 'eth0')).toEqual([ip]);
    }
    await waitFor(
      'all that was left to be removed',
      async () =>
        (await readySlots(lab.stateDir)).length === slots && (await entries(records)).length === workers + slots,
      { timeoutMs: 120_000, everyMs: 200 },
    );
    process.stdout.write(
      `${workers} attachments after a reboot: started in ${Math.round(startedMs)} ms, all attached in ${Math.round(attachedMs)} ms, all cleared in ${Math.round(performance.now() - began)} ms\n`,
    );
    const left = await reservations(lab);
    expect(left).toHaveLength(workers + slots);
    expect(left).toEqual(expect.arrayContaining(fresh.map(({ ip }) => ip)));
    expect(await namespaces(lab)).toHaveLength(workers + slots);
    expect(await ports(lab)).toHaveLength(workers + slots);
    expect(await entries(join(lab.stateDir, 'cni/results'))).toHaveLength(workers + slots);
    expect(await after.repair(new Set(names))).toEqual([]);
    expect(await after.list()).toHaveLength(workers);

    const [worker] = fresh;
    await lab.listen(worker?.netnsPath ?? '', 8080);
    expect(await lab.connect(lab.netnsPath, worker?.ip ?? '', 8080)).toMatchObject({ connected: true });
    await lab.listen(lab.outsidePath, 443);
    expect(await lab.connect(worker?.netnsPath ?? '', lab.outsideAddress, 443)).toMatchObject({
      connected: true,
    });
  });
});
