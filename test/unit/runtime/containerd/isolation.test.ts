import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { ContainerRecord } from '../../../../src/containerd/container-service.ts';
import { Isolation, throttlePaths } from '../../../../src/runtime/containerd/isolation.ts';
import { BLOCK_SIZE, readUserIdRange, UserIdBlocks } from '../../../../src/runtime/containerd/user-id-blocks.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'esb-confinement-'));
  onTestFinished(() => rm(folder, { recursive: true }));
});

const range = { first: 1_000_000, count: 3 * BLOCK_SIZE };

describe('the users of the node that workers may have', () => {
  it('are a range that is named', async () => {
    expect(await readUserIdRange('1000000:65536000')).toEqual({ first: 1_000_000, count: 65_536_000 });
  });

  it('are those that the node sets aside for us', async () => {
    const [subuid, subgid] = [join(folder, 'subuid'), join(folder, 'subgid')];
    await writeFile(subuid, 'somebody:100000:65536\nesb:1000000:65536000\n');
    await expect(readUserIdRange('auto', { subuid, subgid })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: expect.stringContaining('esb:1000000:65536000'),
    });
    await writeFile(subgid, 'esb:2000000:65536000\n');
    await expect(readUserIdRange('auto', { subuid, subgid })).rejects.toThrow(/different/);
    await writeFile(subgid, 'esb:1000000:65536000\n');
    expect(await readUserIdRange('auto', { subuid, subgid })).toEqual({
      first: 1_000_000,
      count: 65_536_000,
    });
  });

  it.each(['', '1000000', '1000000:', 'x:65536', '1000000:65535', '0:65536', '1000:65536', '4294901760:65536'])(
    'are not %j',
    async (text) => {
      await expect(readUserIdRange(text)).rejects.toMatchObject({ code: 'InvalidArgument' });
    },
  );
});

describe('UserIdBlocks', () => {
  it('gives each worker its own, and the same one as long as it has it', async () => {
    const blocks = new UserIdBlocks(range, () => Promise.resolve(new Map()));
    const [a, b] = await Promise.all([blocks.take('a'), blocks.take('b')]);
    expect([a.first, b.first]).toEqual([1_000_000, 1_000_000 + BLOCK_SIZE]);
    expect(await blocks.take('a')).toEqual(a);
  });

  it('knows what an earlier run gave away', async () => {
    const blocks = new UserIdBlocks(range, () => Promise.resolve(new Map([['old', 1_000_000]])));
    expect((await blocks.take('new')).first).toBe(1_000_000 + BLOCK_SIZE);
    expect((await blocks.take('old')).first).toBe(1_000_000);
  });

  it('lets a block rest while there are others, and says when there is none', async () => {
    const blocks = new UserIdBlocks(range, () => Promise.resolve(new Map()));
    const { first } = await blocks.take('a');
    await blocks.release('a');
    expect((await blocks.take('b')).first).not.toBe(first);
    await blocks.take('c');
    expect((await blocks.take('d')).first).toBe(first);
    await expect(blocks.take('e')).rejects.toMatchObject({ code: 'UserIdsExhausted', retryable: true });
  });

  it('asks again after it could not learn what is taken', async () => {
    let asked = 0;
    const blocks = new UserIdBlocks(range, () => {
      asked += 1;
      return asked === 1 ? Promise.reject(new Error('no connection')) : Promise.resolve(new Map());
    });
    await expect(blocks.take('a')).rejects.toThrow('no connection');
    expect((await blocks.take('a')).first).toBe(1_000_000);
  });
});

describe('Isolation', () => {
  const none = (): Promise<readonly ContainerRecord[]> => Promise.resolve([]);

  it('ends workers before what is not started again by itself', async () => {
    const { spec, labels, snapshotLabels, systemdCgroup } = await new Isolation({}, none).take('w');
    expect(spec).toMatchObject({ cgroupsPath: '/esb/w', oomScoreAdj: 950 });
    expect(spec.userIds).toBeUndefined();
    expect(labels).toEqual({});
    expect(snapshotLabels).toEqual({});
    expect(systemdCgroup).toBe(false);
    expect((await new Isolation({ oomScoreAdj: 0 }, none).take('w')).spec.oomScoreAdj).toBe(0);
  });

  it('writes the users of a worker where the next run finds them', async () => {
    const first = await new Isolation({ userIds: range }, none).take('w');
    expect(first.spec.userIds).toEqual({ first: 1_000_000, count: BLOCK_SIZE });
    expect(first.snapshotLabels).toEqual({
      'containerd.io/snapshot/uidmapping': '0:1000000:65536',
      'containerd.io/snapshot/gidmapping': '0:1000000:65536',
    });
    const record: ContainerRecord = {
      id: 'w',
      labels: first.labels,
      image: '',
      createdAt: new Date(0),
    };
    const later = new Isolation({ userIds: range }, () => Promise.resolve([record]));
    expect((await later.take('x')).spec.userIds?.first).toBe(1_000_000 + BLOCK_SIZE);
    await later.release('w');
    await later.take('y');
    expect((await later.take('z')).spec.userIds?.first).toBe(1_000_000);
  });

  it('has systemd make scopes', async () => {
    const confined = await new Isolation({ cgroupDriver: 'systemd' }, none).take('w');
    expect(confined.spec.cgroupsPath).toBe('esb.slice:esb:w');
    expect(confined.systemdCgroup).toBe(true);
  });

  it('needs a snapshotter that maps users', async () => {
    await expect(new Isolation({ userIds: range }, none).prepare([])).rejects.toMatchObject({
      code: 'UserNamespacesUnsupported',
    });
  });

  it('hides how hot the processors are, where that can be read', async () => {
    for (const path of ['cpu0/thermal_throttle', 'cpu1/topology', 'cpufreq/thermal_throttle']) {
      await mkdir(join(folder, path), { recursive: true });
    }
    expect(await throttlePaths(folder)).toEqual([join(folder, 'cpu0/thermal_throttle')]);
    expect(await throttlePaths(join(folder, 'nothing'))).toEqual([]);
  });
});
