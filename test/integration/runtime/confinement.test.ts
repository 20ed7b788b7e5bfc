import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { cpuWeightOf, machineSize, parentLimits } from '../../../src/runtime/containerd/parent-limits.ts';
import type {
  ContainerRuntime,
  EnsureRequest,
  WorkerAddress,
  WorkerInfo,
} from '../../../src/runtime/contract/runtime.ts';
import { destroyAll, ensureRequest, type Lab, startLab } from '../../support/lab.ts';
import { testImage, workerFiles } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };
const userIds = { first: 700_000_000, count: 3 * 65_536 };

function pidOf({ task }: WorkerInfo): number {
  if (task.kind !== 'Running') {
    throw new Error(`the worker is ${task.kind}`);
  }
  return task.pid;
}

describe('a worker', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;

  beforeAll(async () => {
    lab = await startLab();
    lab.registry.put(
      'rooted:1',
      await testImage({
        files: [...(await workerFiles()), { path: '/secret', content: 'of root alone', mode: 0o600 }],
        user: '0:0',
      }),
    );
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    await destroyAll(runtime);
    expect(await lab.leftovers()).toEqual([]);
  });

  const rooted = (name: string): EnsureRequest =>
    ensureRequest(lab, name, {
      image: { reference: lab.image.replace('worker:1', 'rooted:1'), pullPolicy: 'IfNotPresent' },
    });
  const tries = async (info: WorkerInfo, ...lines: readonly string[]): Promise<Record<string, string>> => {
    const answer = await lab.caller.call(info.address ?? nowhere, { try: lines });
    return (answer as { tried: Record<string, string> }).tried;
  };

  it('fights other workers and nobody else for what all of them are promised', async () => {
    const promisedMiB = 200;
    runtime = await lab.runtime({ confinement: { cgroupParent: lab.cgroupParent, promisedMiB: () => promisedMiB } });
    const value = async (version1: readonly string[], version2: string): Promise<number> => {
      const [hierarchy = '', file = ''] = version1;
      const paths = [join(hierarchy, lab.cgroupParent, file), join(lab.cgroupParent, version2)];
      const texts = paths.map((path) => readFile(join('/sys/fs/cgroup', path), 'utf8'));
      return Number(await Promise.any(texts));
    };
    const expected = parentLimits(promisedMiB, await machineSize());
    expect(await value(['memory', 'memory.limit_in_bytes'], 'memory.max')).toBe(expected.memoryBytes);
    expect(await value(['pids', 'pids.max'], 'pids.max')).toBe(expected.processes);
    expect([expected.cpuShares, cpuWeightOf(expected.cpuShares)]).toContain(
      await value(['cpu', 'cpu.shares'], 'cpu.weight'),
    );
    // Made before /tmp was counted: together they may take more than is promised.
    const [small, ...large] = await Promise.all(
      ['small', 'one', 'two'].map((name) => runtime.ensure(ensureRequest(lab, name, { memoryMiB: 128 }))),
    );
    await Promise.allSettled(large.map((info) => tries(info, 'keep 110')));
    // The kernel may end the second one too: before the memory of the first one is free.
    const ended = await waitFor('the end of one', async () => {
      const found = await Promise.all(large.map(({ containerId }) => runtime.inspect(containerId)));
      return found.find((info) => info?.task.kind === 'Stopped');
    });
    expect(ended.task).toMatchObject({ kind: 'Stopped', oomKilled: true });
    if (small === undefined) {
      throw new Error('the small worker is missing');
    }
    expect(await tries(small, 'create /tmp/fine')).toEqual({ 'create /tmp/fine': 'ok' });
  });

  it('ends before others when memory is short, and lives in the group that was made for it', async () => {
    runtime = await lab.runtime();
    // Before there is any worker; of version 1 or 2.
    const made = ['pids', ''].map((hierarchy) => access(join('/sys/fs/cgroup', hierarchy, lab.cgroupParent)));
    await Promise.any(made);
    const info = await runtime.ensure(ensureRequest(lab, 'early'));
    expect((await readFile(`/proc/${pidOf(info)}/oom_score_adj`, 'utf8')).trim()).toBe('950');
    const groups = await readFile(`/proc/${pidOf(info)}/cgroup`, 'utf8');
    expect(groups).toMatch(new RegExp(`^\\d+:(pids)?:${lab.cgroupParent}/${info.containerId}$`, 'm'));
  });

  it('with users of its own is nobody on the node, and its files are its own', async () => {
    const confinement = { cgroupParent: lab.cgroupParent, userIds };
    runtime = await lab.runtime({ confinement });
    const [one, two] = await Promise.all([rooted('one'), rooted('two')].map((each) => runtime.ensure(each)));
    if (one === undefined || two === undefined) {
      throw new Error('a worker is missing');
    }
    const users = await Promise.all(
      [one, two].map(async (info) => {
        const status = await readFile(`/proc/${pidOf(info)}/status`, 'utf8');
        expect(status).toMatch(/^CapEff:\s0+$/m);
        return Number(/^Uid:\s(\d+)/m.exec(status)?.[1]);
      }),
    );
    expect(users.toSorted((a, b) => a - b)).toEqual([700_000_000, 700_065_536]);
    expect(
      await tries(one, 'read /secret', 'create /tmp/x', 'create /x', 'list /sys', 'read /proc/self/uid_map'),
    ).toEqual({
      'read /secret': 'ok of root alone',
      'create /tmp/x': 'ok',
      'create /x': 'open /x: read-only file system',
      'list /sys': 'ok devices',
      'read /proc/self/uid_map': expect.stringMatching(/^ok 0 +7000\d+ +65536$/),
    });

    await runtime.pause(one.containerId);
    await runtime.resume(one.containerId);
    expect(await lab.caller.call(one.address ?? nowhere, {})).toMatchObject({ uid: 0, counter: 1 });

    // The next run of the agent gives no worker the users of another.
    await runtime.stop();
    runtime = await lab.runtime({ confinement });
    const three = await runtime.ensure(rooted('three'));
    const status = await readFile(`/proc/${pidOf(three)}/status`, 'utf8');
    expect(status).toMatch(/^Uid:\s700131072\s/m);
    await expect(runtime.ensure(rooted('four'))).rejects.toMatchObject({
      code: 'CreateFailed',
      message: expect.stringContaining('--user-namespaces'),
    });
    await runtime.destroy(two.containerId, { graceSeconds: 0 });
    const four = await runtime.ensure(rooted('four'));
    expect(await readFile(`/proc/${pidOf(four)}/status`, 'utf8')).toMatch(new RegExp(`^Uid:\\s${users[1]}\\s`, 'm'));
  });

  it('with users of its own may write its root where it is told to', async () => {
    runtime = await lab.runtime({ confinement: { cgroupParent: lab.cgroupParent, userIds } });
    const request = rooted('writer');
    const info = await runtime.ensure({
      ...request,
      shape: { ...request.shape, readOnlyRootFilesystem: false },
    });
    expect(await tries(info, 'create /x', 'write /secret')).toEqual({
      'create /x': 'ok',
      'write /secret': 'ok',
    });
  });
});
