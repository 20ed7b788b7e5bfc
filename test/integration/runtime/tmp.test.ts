import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemCommandRunner } from '../../../src/common/exec/command-runner.ts';
import { TRIAL_LABEL } from '../../../src/runtime/containerd/tmp-trial.ts';
import type {
  ContainerRuntime,
  EnsureRequest,
  WorkerAddress,
  WorkerShape,
} from '../../../src/runtime/contract/runtime.ts';
import { TmpFiles } from '../../../src/runtime/tmp/tmp-files.ts';
import { run } from '../../support/command.ts';
import { ensureRequest, type Lab, shimsOf } from '../../support/lab.ts';
import { testImage, workerFiles } from '../../support/test-image.ts';
import { useLab } from '../../support/use-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('/tmp on disk', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  let folder: string;
  useLab(
    (started, itsRuntime) => {
      [lab, runtime, folder] = [started, itsRuntime, join(started.folder, 'tmp')];
    },
    { tmpOnDisk: true },
  );

  const files = async (): Promise<string[]> => (await readdir(folder)).filter((name) => !name.startsWith('.'));
  /** Files of this lab that a loop device has. */
  const attached = async (): Promise<string[]> => {
    const { stdout } = await run('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE']);
    return stdout.split('\n').flatMap((line) => (line.startsWith(`${folder}/`) ? [line.slice(folder.length + 1)] : []));
  };
  const attempt = async (address: WorkerAddress | undefined, ...lines: readonly string[]): Promise<unknown> => {
    const { tried } = (await lab.caller.call(address ?? nowhere, { try: lines }, 60_000)) as { readonly tried: object };
    return Object.values(tried);
  };
  const wish = (name: string, shape: Partial<WorkerShape> = {}): EnsureRequest =>
    ensureRequest(lab, name, { ephemeralStorageMiB: 24, memoryMiB: 40, ...shape });

  it('was tried, and nothing is left of that', async () => {
    const storage = await runtime.tmp.storage();
    expect(storage).toEqual({ medium: 'LoopFile', allocatedMiB: 0, capacityMiB: expect.any(Number) });
    expect(await lab.leftovers()).toEqual([]);
    expect([await files(), await attached()]).toEqual([[], []]);
  });

  it('is filled to its size, over and over: no room is left there, and nothing else happens', async () => {
    const request = wish('full', { ephemeralStorageMiB: 64 });
    const { address, tmpOnDisk } = await runtime.ensure(request);
    expect(tmpOnDisk).toBe(true);
    for (let round = 0; round < 3; round += 1) {
      const lines = ['fill /tmp/full 64', 'fill /tmp/more 8', 'remove /tmp/more', 'remove /tmp/full'];
      expect(await attempt(address, ...lines)).toEqual(['ok', expect.stringMatching(/ENOSPC|no space/i), 'ok', 'ok']);
    }
    expect(await attempt(address, 'create /tmp/fine', 'list /tmp')).toEqual([
      'ok',
      expect.not.stringContaining('lost'),
    ]);
    expect(await runtime.inspect(request.containerId)).toMatchObject({ task: { kind: 'Running' }, tmpOnDisk: true });
  });

  it('is that of its worker for as long as the container is there, and of no other', async () => {
    const request = wish('lasting');
    const { address } = await runtime.ensure(request);
    expect(await attempt(address, 'create /tmp/kept')).toEqual(['ok']);
    await runtime.pause(request.containerId);
    await runtime.resume(request.containerId);
    const next = await lab.runtime({ tmpOnDisk: true });
    const found = await next.ensure(request);
    expect(found.tmpOnDisk).toBe(true);
    expect(await attempt(found.address, 'read /tmp/kept')).toEqual(['ok 1']);
    await next.destroy(request.containerId);
    expect([await files(), await attached()]).toEqual([[], []]);
    const { address: again } = await next.ensure(request);
    expect(await attempt(again, 'read /tmp/kept')).toEqual([expect.stringMatching(/ENOENT|no such/i)]);
  });

  it.each([
    ['without such a folder', 'bare', []],
    ['that removes such a folder of its base', 'removing', [{ path: '/.wh.tmp', content: '' }]],
  ])('is made in an image %s', async (_, name, more) => {
    const request = wish(name);
    const files = [...(await workerFiles()), ...more];
    const reference = lab.registry.put(`${name}:1`, await testImage({ folders: [], files }));
    const shape = { ...request.shape, image: { ...request.shape.image, reference } };
    const { address } = await runtime.ensure({ ...request, shape });
    expect(await attempt(address, 'create /tmp/fine')).toEqual(['ok']);
  });

  it('goes with a worker whose shim was killed', async () => {
    const request = wish('killed');
    await runtime.ensure(request);
    for (const pid of await shimsOf(lab.socketPath)) {
      process.kill(pid, 'SIGKILL');
    }
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
    await waitFor('the device to be given back', async () => (await attached()).length === 0);
    expect(await files()).toEqual([]);
  });

  it('of a container that is gone is a leftover with its name', async () => {
    const { containerId } = wish('gone');
    await writeFile(join(folder, containerId), '');
    const { traces } = await runtime.inventory(new Set());
    expect(traces).toContainEqual({ kind: 'tmp', containerId });
    expect(await runtime.clear(containerId)).toBe(true);
    expect(await files()).toEqual([]);
  });

  it('of an agent that died in a trial goes with the next trial', async () => {
    const { containerId } = wish('trial');
    const label = `${TRIAL_LABEL}=true`;
    await lab.ctr('containers', 'create', '--rootfs', '--label', label, lab.folder, containerId);
    await writeFile(join(folder, containerId), '');
    await lab.runtime({ tmpOnDisk: true });
    expect((await lab.ctr('containers', 'list', '-q')).split('\n')).not.toContain(containerId);
    expect(await files()).toEqual([]);
  });

  it('goes with its container also where an agent wants memory by now', async () => {
    const request = wish('before');
    await runtime.ensure(request);
    const other = await lab.runtime({ tmpOnDisk: false });
    expect(await other.tmp.storage()).toMatchObject({ medium: 'Tmpfs' });
    await other.destroy(request.containerId);
    expect(await files()).toEqual([]);
    const { tmpOnDisk } = await other.ensure(request);
    expect(tmpOnDisk).toBeUndefined();
  });

  it('is memory on a node where a file cannot be used, which says why', async () => {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=2g', 'esb-lab', folder]);
    try {
      const next = await lab.runtime({ tmpOnDisk: true });
      expect(await next.tmp.storage()).toEqual({ medium: 'Tmpfs', message: expect.stringMatching(/in memory itself/) });
      const { address, tmpOnDisk } = await next.ensure(wish('small'));
      expect(tmpOnDisk).toBeUndefined();
      expect(await attempt(address, 'create /tmp/fine')).toEqual(['ok']);
    } finally {
      await run('umount', [folder]);
    }
  });
});

it('a disk so full that it takes no file at all has no room for /tmp', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'esb-full-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=1m,nr_inodes=8', 'full', folder]);
  onTestFinished(async () => void (await run('umount', [folder])));
  const files = new TmpFiles(folder, systemCommandRunner);
  await files.room();
  const filled = [Buffer.alloc(2 ** 20), ...Array.from({ length: 8 }, () => '')].map((content, number) =>
    writeFile(join(folder, `.${number}`), content),
  );
  expect((await Promise.allSettled(filled)).at(-1)).toMatchObject({ reason: { code: 'ENOSPC' } });
  await expect(files.make('one', 16)).rejects.toMatchObject({ code: 'NodeFull' });
});
