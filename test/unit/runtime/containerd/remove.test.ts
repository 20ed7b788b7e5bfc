import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { NodeNetwork } from '../../../../src/cni/contract.ts';
import { systemClock } from '../../../../src/common/clock.ts';
import { DeadlineError } from '../../../../src/common/deadline.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { WorkerCgroups } from '../../../../src/runtime/containerd/cgroups.ts';
import { Freezer } from '../../../../src/runtime/containerd/freezer.ts';
import { HostsFiles } from '../../../../src/runtime/containerd/hosts-files.ts';
import { Isolation } from '../../../../src/runtime/containerd/isolation.ts';
import { OrphanShims } from '../../../../src/runtime/containerd/orphan-shim.ts';
import type { ContainerdParts } from '../../../../src/runtime/containerd/parts.ts';
import { WorkerRemoval } from '../../../../src/runtime/containerd/remove.ts';
import { ShimGroups } from '../../../../src/runtime/containerd/shim-groups.ts';
import { TaskControl } from '../../../../src/runtime/containerd/task.ts';
import { WorkerLogs } from '../../../../src/runtime/logs/worker-logs.ts';
import type { HostPortAllocator } from '../../../../src/runtime/start/host-port-allocator.ts';
import { TmpMedium } from '../../../../src/runtime/tmp/tmp-medium.ts';
import { addWorker, type FakeContainerd, fakeContainerd, refused } from '../../../support/fake-containerd.ts';

describe('WorkerRemoval', () => {
  let fake: FakeContainerd;
  let removal: WorkerRemoval;
  let detached: string[];
  let folder: string;
  let looks: { tasks: number; shims: number; hang: boolean };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-removal-'));
    const made = folder;
    onTestFinished(() => rm(made, { recursive: true }));
    fake = fakeContainerd();
    detached = [];
    looks = { tasks: 0, shims: 0, hang: false };
    const cgroups = new WorkerCgroups({ root: folder, parent: '/esb' });
    const logger = silentLogger();
    const client: FakeContainerd['client'] = {
      ...fake.client,
      tasks: {
        ...fake.client.tasks,
        list: (options) => {
          looks.tasks += 1;
          return looks.hang ? Promise.reject(new DeadlineError('Tasks.List', 10_000)) : fake.client.tasks.list(options);
        },
      },
    };
    const shims = new OrphanShims({
      socketPath: '/s',
      namespace: 'esb',
      clock: systemClock,
      procFolder: folder,
    });
    const end = shims.end.bind(shims);
    shims.end = (containerId) => {
      looks.shims += 1;
      return end(containerId);
    };
    const parts: Partial<ContainerdParts> = {
      client,
      tasks: new TaskControl({
        client,
        freezer: new Freezer({ folders: (id) => cgroups.freezerFolders(id) }),
        clock: systemClock,
        logger,
      }),
      network: {
        detach: (id) => {
          fake.calls.push(`network.detach ${id}`);
          detached.push(id);
          return Promise.resolve();
        },
      } as Partial<NodeNetwork> as NodeNetwork,
      hostPorts: {
        release: (id) => {
          fake.calls.push(`hostPorts.release ${id}`);
          return Promise.resolve();
        },
      } as Partial<HostPortAllocator> as HostPortAllocator,
      cgroups,
      isolation: new Isolation({}, () => Promise.resolve([])),
      groups: new ShimGroups(1),
      shims,
      logs: new WorkerLogs(folder),
      hosts: new HostsFiles(join(folder, 'hosts')),
      tmp: new TmpMedium(undefined, false),
      snapshotter: 'overlayfs',
      runtime: 'io.containerd.runc.v2',
      bootId: 'now',
      clock: systemClock,
      logger,
    };
    removal = new WorkerRemoval(parts as ContainerdParts);
  });

  /** Leftovers of a reboot or a lost shim from a container that was made in that boot. */
  function addWithoutTask(id: string, boot: string): void {
    addWorker(fake, id);
    fake.tasks.delete(id);
    const record = fake.containers.get(id);
    if (record !== undefined) {
      fake.containers.set(id, { ...record, labels: { ...record.labels, 'esb.dev/boot': boot } });
    }
  }

  it('takes the task first, then the container, then the rest', async () => {
    addWorker(fake, 'w');
    await removal.remove('w', { graceMs: 0 });
    expect(fake.calls.slice(0, 4)).toEqual([
      'tasks.kill-9 w',
      'tasks.resume w',
      'tasks.delete w',
      'containers.delete w',
    ]);
    expect(fake.calls.slice(4).toSorted()).toEqual(['hostPorts.release w', 'network.detach w', 'snapshots.remove w']);
  });

  it('takes the log while there is a record that tells of it', async () => {
    addWorker(fake, 'w');
    const log = join(folder, 'w.log');
    writeFileSync(log, 'said');
    fake.fail('containers.delete', refused('busy'));
    await expect(removal.remove('w', { graceMs: 0 })).rejects.toThrow('busy');
    expect(existsSync(log)).toBe(false);
  });

  it('leaves the container while its task cannot be deleted', async () => {
    addWorker(fake, 'w');
    fake.fail('tasks.delete', refused('busy'));
    await expect(removal.remove('w', { graceMs: 0 })).rejects.toThrow('busy');
    expect(fake.containers.has('w')).toBe(true);
    expect(detached).toEqual([]);
    await removal.remove('w', { graceMs: 0 });
    expect([fake.containers.size, fake.tasks.size, fake.snapshots.size]).toEqual([0, 0, 0]);
  });

  it('gives a task without a container a record, to be able to end it', async () => {
    addWorker(fake, 'w');
    fake.containers.delete('w');
    await removal.remove('w', { graceMs: 10_000 });
    expect([fake.containers.size, fake.tasks.size, fake.snapshots.size]).toEqual([0, 0, 0]);
  });

  it('keeps the attachment of what is made anew', async () => {
    addWorker(fake, 'w', 'STOPPED');
    await removal.remove('w', { graceMs: 0, keepNetwork: true });
    expect(detached).toEqual([]);
  });

  it('asks for all tasks once, for however many of whose record nothing is left', async () => {
    const ids = Array.from({ length: 50 }, (_, index) => `w${index}`);
    await Promise.all(ids.map((id) => removal.remove(id, { graceMs: 0 })));
    expect(looks.tasks).toBe(1);
    expect(detached.toSorted()).toEqual(ids.toSorted());
  });

  it('looks for nothing that runs of what was made before the machine was booted', async () => {
    const ids = Array.from({ length: 50 }, (_, index) => `w${index}`);
    for (const id of ids) {
      addWithoutTask(id, 'before');
    }
    await Promise.all(ids.map((id) => removal.remove(id, { graceMs: 0 })));
    expect(looks).toMatchObject({ tasks: 0, shims: 0 });
    expect(fake.containers.size).toBe(0);
  });

  it('looks for a lost shim of what was made in this boot', async () => {
    addWithoutTask('w', 'now');
    await removal.remove('w', { graceMs: 0 });
    expect(looks).toMatchObject({ tasks: 0, shims: 1 });
  });

  it('looks for a lost task and a lost shim where a record stands in for another', async () => {
    addWorker(fake, 'w');
    const record = fake.containers.get('w');
    if (record !== undefined) {
      fake.containers.set('w', { ...record, labels: {}, image: '' });
    }
    fake.tasks.delete('w');
    await removal.remove('w', { graceMs: 0 });
    expect(looks).toMatchObject({ tasks: 1, shims: 1 });
    expect(fake.containers.size).toBe(0);
  });

  it('ends a task without a record where shims that hang keep containerd from telling of it', async () => {
    addWorker(fake, 'w');
    fake.containers.delete('w');
    looks.hang = true;
    await removal.remove('w', { graceMs: 0 });
    expect([fake.containers.size, fake.tasks.size, fake.snapshots.size]).toEqual([0, 0, 0]);
  });

  it('finds nothing to be no fault', async () => {
    await removal.remove('w', { graceMs: 0 });
    expect(detached).toEqual(['w']);
  });
});
