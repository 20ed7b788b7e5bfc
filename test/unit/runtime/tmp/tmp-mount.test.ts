import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withTmp } from '../../../../src/runtime/tmp/tmp-mount.ts';
import { run } from '../../../support/command.ts';

const file = { mount: { type: 'ext4', source: '/disk/hello', options: ['loop'] }, skeleton: '/disk/.skeleton' };
const overTmp = { ...file.mount, target: '/tmp' };

describe('the root file system of a worker with /tmp on disk', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-tmp-mount-'));
    await mkdir(join(folder, 'with', 'tmp'), { recursive: true });
    await mkdir(join(folder, 'without'));
    await mkdir(join(folder, 'removing'));
    await run('mknod', [join(folder, 'removing', 'tmp'), 'c', '0', '0']);
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

  it.each([
    ['that none of them has', ['without']],
    ['that the last one to name it removes', ['without', 'removing', 'with']],
  ])('has a layer on top of them with the folder %s', async (_, layers) => {
    const [rootfs, tmp] = await withTmp([overlay(...layers)], file);
    const below = layers.map((layer) => join(folder, layer));
    expect(rootfs?.options).toEqual(['workdir=w', 'upperdir=u', `lowerdir=${['/disk/.skeleton', ...below].join(':')}`]);
    expect(tmp).toEqual(overTmp);
  });

  it('is left as it is where the agent does not see the layers', async () => {
    const mounts = [{ type: 'native', source: '/somewhere', options: [] }];
    expect(await withTmp(mounts, file)).toEqual([...mounts, overTmp]);
  });
});
