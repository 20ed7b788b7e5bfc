import { existsSync } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WorkerCgroups } from '../../../src/runtime/containerd/cgroups.ts';
import type { ContainerRuntime, WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab, startLab } from '../../support/lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };
/** As sd_booted(3) finds out. */
const runsSystemd = existsSync('/run/systemd/system');

let lab: Lab;
beforeAll(async () => {
  lab = await startLab();
});
afterAll(async () => {
  await lab?.close();
});

/** Both kinds of node have something to show. */
describe(`control groups by systemd, on a node ${runsSystemd ? 'where it runs' : 'without it'}`, () => {
  if (runsSystemd) {
    it('are scopes of our slice, with limits, a freezer and counters, and go with their workers', scopes);
  } else {
    it('are refused with the driver to use instead', refused);
  }
});

async function refused(): Promise<void> {
  await expect(lab.runtime({ confinement: { cgroupDriver: 'systemd' } })).rejects.toMatchObject({
    code: 'CgroupUnusable',
    message: expect.stringContaining('--cgroup-driver cgroupfs'),
  });
}

async function scopes(): Promise<void> {
  const name = lab.cgroupParent.slice(1).replaceAll('-', '_');
  const confinement = { cgroupDriver: 'systemd', cgroupParent: `esbt-${name}.slice` } as const;
  const runtime: ContainerRuntime = await lab.runtime({ confinement });
  const cgroups = new WorkerCgroups({
    driver: confinement.cgroupDriver,
    parent: confinement.cgroupParent,
  });
  const request = ensureRequest(lab, 'scoped', {
    memoryMiB: 32,
    ephemeralStorageMiB: 16,
    milliCpu: 500,
    pids: 40,
  });
  const info = await runtime.ensure(request);
  const address = info.address ?? nowhere;
  const pid = info.task.kind === 'Running' ? info.task.pid : 0;
  const scope = `/esbt.slice/${confinement.cgroupParent}/esb-${request.containerId}.scope`;
  const groups = await readFile(`/proc/${pid}/cgroup`, 'utf8');
  expect(groups).toMatch(new RegExp(`^\\d+:(pids)?:${scope}$`, 'm'));
  expect(await cgroups.list()).toEqual([request.containerId]);

  const isVersion2 = groups.startsWith('0::');
  if (isVersion2) {
    const file = (file: string): Promise<string> => readFile(join('/sys/fs/cgroup', scope, file), 'utf8');
    expect(await file('memory.max')).toBe(`${48 * 1024 * 1024}\n`);
    expect(await file('memory.swap.max')).toBe('0\n');
    expect(await file('pids.max')).toBe('40\n');
    expect(await file('cpu.max')).toBe('50000 100000\n');
  }

  await runtime.pause(request.containerId);
  const { v1, v2 } = cgroups.freezerFolders(request.containerId);
  const frozen = isVersion2
    ? await readFile(join(v2, 'cgroup.freeze'), 'utf8')
    : await readFile(join(v1, 'freezer.state'), 'utf8');
  expect(frozen).toMatch(/^(1|FROZEN)\n$/);
  await runtime.resume(request.containerId);
  expect(await lab.caller.call(address, {}, 60_000)).toMatchObject({ counter: 1 });

  const answer = await lab.caller.call(address, { try: ['fork 5000', 'reap'] }, 60_000);
  expect(answer).toMatchObject({
    tried: { 'fork 5000': expect.stringMatching(/^resource temporarily unavailable after \d+ processes$/) },
  });
  expect(cgroups.limitHits(request.containerId)?.processes).toBeGreaterThan(0);

  await expect(lab.caller.call(address, { allocate: 200 }, 60_000)).rejects.toThrow();
  // systemd has taken the scope away by then, and the kernel's count with it.
  await waitFor('its end', async () => (await runtime.inspect(request.containerId))?.task.kind === 'Stopped', {
    timeoutMs: 60_000,
  });
  expect((await runtime.inspect(request.containerId))?.task).toMatchObject({
    exitCode: 137,
    oomKilled: true,
  });

  await runtime.destroy(request.containerId, { graceSeconds: 0 });
  expect(await cgroups.list()).toEqual([]);
  await expect(access(join('/sys/fs/cgroup', scope))).rejects.toThrow();
  expect(await lab.leftovers()).toEqual([]);
}
