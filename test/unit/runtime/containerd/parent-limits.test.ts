import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  cpuWeightOf,
  limitParent,
  machineSize,
  parentLimits,
} from '../../../../src/runtime/containerd/parent-limits.ts';

const machine = { memoryBytes: 16 * 2 ** 30, processors: 4, processes: 100_000 };

describe('what all workers of a node may take', () => {
  it('is the memory that they are promised, and the same share of processors and processes', () => {
    expect(parentLimits(8_192, machine)).toEqual({
      memoryBytes: 8 * 2 ** 30,
      processes: 50_000,
      cpuShares: 2_048,
    });
  });

  it('leaves a tenth to the node, whatever is promised', () => {
    expect(parentLimits(32_768, machine)).toEqual({
      memoryBytes: 32 * 2 ** 30,
      processes: 90_000,
      cpuShares: 3_686,
    });
  });

  it('lets small workers have their processes where little is promised', () => {
    expect(parentLimits(128, machine)).toMatchObject({ processes: 4_096, cpuShares: 32 });
    expect(parentLimits(128, { ...machine, processes: 4_000 }).processes).toBe(3_600);
  });

  it('weighs as much beside all Pods as what is reserved beside what is not', () => {
    const podShares = 4 * 1_024;
    for (const milliCPU of [400, 700, 2_000, 2_800]) {
      const { cpuShares } = parentLimits(8_192, machine, milliCPU);
      expect((4_000 * cpuShares) / (cpuShares + podShares)).toBeCloseTo(milliCPU, -1);
    }
    expect(parentLimits(8_192, machine, 0).cpuShares).toBe(parentLimits(8_192, machine, 400).cpuShares);
    // A tenth stays for the node.
    expect(parentLimits(8_192, machine, 4_000)).toMatchObject({ cpuShares: 9 * podShares });
  });

  it.each([
    [2, 1],
    [1_024, 39],
    [16_384, 625],
    [262_144, 10_000],
  ])('of %i shares has the weight %i with version 2', (shares, weight) => {
    expect(cpuWeightOf(shares)).toBe(weight);
  });

  it('is of a machine that the kernel tells of', async () => {
    const { memoryBytes, processors, processes } = await machineSize();
    expect(memoryBytes).toBeGreaterThan(2 ** 28);
    expect(processors).toBeGreaterThan(0);
    expect(processes).toBeGreaterThan(256);
  });
});

describe('limiting the parent', () => {
  const limits = { memoryBytes: 1_000, processes: 50, cpuShares: 1_024 };
  let root: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'esb-limits-'));
    onTestFinished(() => rm(root, { recursive: true, force: true }));
  });

  const put = async (files: Readonly<Record<string, string>>): Promise<void> => {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
    }
  };
  const read = (path: string): Promise<string> => readFile(join(root, path), 'utf8');
  const limit = (isVersion2: boolean) => limitParent(limits, { root, folder: '/esb/node-1', isVersion2 });

  it('of version 2 writes weight, processes and memory', async () => {
    await put({
      'esb/node-1/cpu.weight': '1',
      'esb/node-1/pids.max': '1',
      'esb/node-1/memory.max': '1',
      'esb/node-1/memory.stat': 'anon 400\nfile 9000\nshmem 500\n',
    });
    expect(await limit(true)).toEqual({ kind: 'Limited' });
    expect(await read('esb/node-1/cpu.weight')).toBe('39');
    expect(await read('esb/node-1/pids.max')).toBe('50');
    expect(await read('esb/node-1/memory.max')).toBe('1000');
  });

  it('of version 2 ends no worker by a limit below what is held', async () => {
    await put({
      'esb/node-1/cpu.weight': '1',
      'esb/node-1/pids.max': '1',
      'esb/node-1/memory.max': '1',
      'esb/node-1/memory.stat': 'anon 500\nfile 9000\nshmem 500\n',
    });
    expect(await limit(true)).toEqual({ kind: 'InUse' });
    expect(await read('esb/node-1/memory.max')).toBe('1');
  });

  it('of version 1 writes shares, processes, and memory with and without swap', async () => {
    await put({
      'cpu/esb/node-1/cpu.shares': '1',
      'pids/esb/node-1/pids.max': '1',
      'memory/esb/node-1/memory.limit_in_bytes': '1',
      'memory/esb/node-1/memory.memsw.limit_in_bytes': '1',
    });
    expect(await limit(false)).toEqual({ kind: 'Limited' });
    expect(await read('cpu/esb/node-1/cpu.shares')).toBe('1024');
    expect(await read('pids/esb/node-1/pids.max')).toBe('50');
    expect(await read('memory/esb/node-1/memory.limit_in_bytes')).toBe('1000');
    expect(await read('memory/esb/node-1/memory.memsw.limit_in_bytes')).toBe('1000');
  });

  it.each([true, false])('waits for one that nobody has made yet (version 2: %s)', async (isVersion2) => {
    expect(await limit(isVersion2)).toEqual({ kind: 'Missing' });
  });
});
