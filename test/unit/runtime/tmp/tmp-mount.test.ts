import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withTmp } from '../../../../src/runtime/tmp/tmp-mount.ts';

const file = { mount: { type: 'ext4', source: '/disk/hello', options: ['loop'] }, skeleton: '/disk/.skeleton' };
const overTmp = { ...file.mount, target: '/tmp' };

describe('the root file system of a worker with /tmp on disk', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-tmp-mount-'));
    await mkdir(join(folder, 'with', 'tmp'), { recursive: true });
    await mkdir(join(folder, 'without'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const overlay = (...layers: readonly string[]) => ({
    type: 'overlay',
    source: 'overlay',
    options: ['workdir=w', 'upperdir=u', `lowerdir=${layers.map((layer) => join(folder, layer)).join(':')}`],
  });

  it('has its layers, and the file over the folder that any of them has', async () => {
    const mounts = [overlay('without', 'with')];
    expect(await withTmp(mounts, file)).toEqual([...mounts, overTmp]);
  });

  it('has a layer below them with the folder that none of them has', async () => {
    const [rootfs, tmp] = await withTmp([overlay('without')], file);
    expect(rootfs?.options).toEqual(['workdir=w', 'upperdir=u', `lowerdir=${join(folder, 'without')}:/disk/.skeleton`]);
    expect(tmp).toEqual(overTmp);
  });

  it('is left as it is where the agent does not see the layers', async () => {
    const mounts = [{ type: 'native', source: '/somewhere', options: [] }];
    expect(await withTmp(mounts, file)).toEqual([...mounts, overTmp]);
  });
});
