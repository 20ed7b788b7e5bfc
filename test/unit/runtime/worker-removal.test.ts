import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { NodeNetwork } from '../../../src/cni/node-network.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { Freezer } from '../../../src/runtime/freezer.ts';
import { HostsFiles } from '../../../src/runtime/hosts-files.ts';
import { OrphanShims } from '../../../src/runtime/orphan-shim.ts';
import { ShimGroups } from '../../../src/runtime/shim-groups.ts';
import { TaskControl } from '../../../src/runtime/task-control.ts';
import { WorkerCgroups } from '../../../src/runtime/worker-cgroup.ts';
import { WorkerLogs } from '../../../src/runtime/worker-log.ts';
import { WorkerRemoval } from '../../../src/runtime/worker-removal.ts';
import { addWorker, type FakeContainerd, fakeContainerd, refused } from '../../support/fake-containerd.ts';

describe('WorkerRemoval', () => {
  let fake: FakeContainerd;
  let removal: WorkerRemoval;
  let detached: string[];
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-removal-'));
    const made = folder;
    onTestFinished(() => rm(made, { recursive: true }));
    fake = fakeContainerd();
    detached = [];
    const cgroups = new WorkerCgroups({ root: folder, parent: '/esb' });
    const logger = silentLogger();
    const { client } = fake;
    removal = new WorkerRemoval({
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
      },
      cgroups,
      confinement: { release: () => Promise.resolve() },
      groups: new ShimGroups(1),
      shims: new OrphanShims({ socketPath: '/s', namespace: 'esb', clock: systemClock, procFolder: folder }),
      logs: new WorkerLogs(folder),
      hosts: new HostsFiles(join(folder, 'hosts')),
      snapshotter: 'overlayfs',
      runtime: 'io.containerd.runc.v2',
      logger,
    });
  });

  it('takes the task first, then the container, then the rest', async () => {
    addWorker(fake, 'w');
    await removal.remove('w', { graceMs: 0 });
    expect(fake.calls.slice(0, 4)).toEqual([
      'tasks.kill-9 w',
      'tasks.resume w',
      'tasks.delete w',
      'containers.delete w',
    ]);
    expect(fake.calls.slice(4).toSorted()).toEqual([
      'hostPorts.release w',
      'leases.delete esb-create-w',
      'network.detach w',
      'snapshots.remove w',
    ]);
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

  it('finds nothing to be no fault', async () => {
    await removal.remove('w', { graceMs: 0 });
    expect(detached).toEqual(['w']);
  });
});
