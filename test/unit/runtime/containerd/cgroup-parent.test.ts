import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { cgroupParent, prepareCgroupParent } from '../../../../src/runtime/containerd/cgroup-parent.ts';

describe('the cgroup of a worker', () => {
  it('is a folder of the parent where runc makes it', () => {
    const parent = cgroupParent('cgroupfs');
    expect(parent.folder).toBe('/esb');
    expect(parent.specPath('hello-3f2a91bc')).toBe('/esb/hello-3f2a91bc');
    expect(parent.folderName('hello-3f2a91bc')).toBe('hello-3f2a91bc');
    expect(parent.containerId('hello-3f2a91bc')).toBe('hello-3f2a91bc');
    expect(cgroupParent('cgroupfs', '/esb/a/node-1').folder).toBe('/esb/a/node-1');
  });

  it('is a scope of the slice where systemd makes it', { tags: ['P6'] }, () => {
    const parent = cgroupParent('systemd');
    expect(parent.folder).toBe('/esb.slice');
    expect(parent.specPath('hello-3f2a91bc')).toBe('esb.slice:esb:hello-3f2a91bc');
    expect(parent.folderName('hello-3f2a91bc')).toBe('esb-hello-3f2a91bc.scope');
    expect(parent.containerId('esb-hello-3f2a91bc.scope')).toBe('hello-3f2a91bc');
    expect(parent.containerId('init.scope')).toBeUndefined();
    expect(cgroupParent('systemd', 'esb-workers-a.slice').folder).toBe(
      '/esb.slice/esb-workers.slice/esb-workers-a.slice',
    );
  });

  it.each([
    ['cgroupfs', 'esb'],
    ['cgroupfs', '/'],
    ['cgroupfs', '/esb/../kubepods'],
    ['cgroupfs', '/kubepods'],
    ['cgroupfs', '/kubepods/burstable/esb'],
    ['cgroupfs', '/kubepods.slice/esb'],
    ['systemd', '/esb'],
    ['systemd', 'esb'],
    ['systemd', '-esb.slice'],
    ['systemd', 'a/b.slice'],
    ['systemd', 'kubepods.slice'],
    ['systemd', 'kubepods-burstable.slice'],
  ] as const)('by %s is not below %s', (driver, parent) => {
    expect(() => cgroupParent(driver, parent)).toThrow(expect.objectContaining({ code: 'InvalidArgument' }));
  });
});

describe('preparing the parent', () => {
  let root: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'esb-cgroup-'));
    onTestFinished(() => rm(root, { recursive: true, force: true }));
  });

  it('of version 2 hands the controllers down, one folder after the other', async () => {
    // The kernel fills these in by itself.
    for (const folder of ['', 'esb', 'esb/node-1']) {
      await mkdir(join(root, folder), { recursive: true });
      await writeFile(join(root, folder, 'cgroup.controllers'), 'cpuset cpu io memory pids\n');
    }
    await prepareCgroupParent(cgroupParent('cgroupfs', '/esb/node-1'), { root, isVersion2: true });
    for (const folder of ['', 'esb', 'esb/node-1']) {
      expect(await readFile(join(root, folder, 'cgroup.subtree_control'), 'utf8')).toBe('+cpu +memory +pids');
    }
  });

  it('of version 2 says what is missing', async () => {
    await writeFile(join(root, 'cgroup.controllers'), 'cpu\n');
    const prepared = prepareCgroupParent(cgroupParent('cgroupfs'), { root, isVersion2: true });
    await expect(prepared).rejects.toMatchObject({
      code: 'CgroupUnusable',
      message: expect.stringContaining('memory, pids'),
    });
  });

  it('of version 1 makes it in each hierarchy that limits or freezes', async () => {
    const parent = cgroupParent('cgroupfs', '/esb/node-1');
    await prepareCgroupParent(parent, { root, isVersion2: false });
    await prepareCgroupParent(parent, { root, isVersion2: false });
    for (const hierarchy of ['cpu', 'memory', 'pids', 'freezer']) {
      expect((await stat(join(root, hierarchy, 'esb/node-1'))).isDirectory()).toBe(true);
    }
  });

  it('by systemd needs one that runs', async () => {
    const parent = cgroupParent('systemd');
    await expect(prepareCgroupParent(parent, { root, systemdFolder: join(root, 'nothing') })).rejects.toMatchObject({
      code: 'CgroupUnusable',
      message: expect.stringContaining('cgroupfs'),
    });
    await prepareCgroupParent(parent, { root, systemdFolder: root });
  });
});
