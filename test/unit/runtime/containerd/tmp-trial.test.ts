import { mkdtemp, rm } from 'node:fs/promises';
import { expect, it, onTestFinished } from 'vitest';
import { systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';
import type { ContainerdParts } from '../../../../src/runtime/containerd/parts.ts';
import type { WorkerRemoval } from '../../../../src/runtime/containerd/remove.ts';
import { tryTmpFile } from '../../../../src/runtime/containerd/tmp-trial.ts';
import { TmpFiles } from '../../../../src/runtime/tmp/tmp-files.ts';
import { settle } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';

it('a state folder that is memory itself is no disk for /tmp', async () => {
  const folder = await mkdtemp('/dev/shm/esb-tmp-trial-');
  onTestFinished(() => rm(folder, { recursive: true }));
  const client = { containers: { list: () => Promise.resolve([]) } };
  const parts = { client, logger: recordingLogger().logger } as unknown as ContainerdParts;
  const removal = { remove: () => Promise.resolve() } as unknown as WorkerRemoval;
  const files = new TmpFiles(folder, systemCommandRunner);
  expect(await tryTmpFile(parts, removal, files, {})).toMatch(/in memory itself/);
});

it.each(['file', 'init'] as const)(
  'a trial whose %s fails is removed once the other part is there',
  async (failing) => {
    const order: string[] = [];
    const slow = Promise.withResolvers<void>();
    const part = async (name: 'file' | 'init'): Promise<never> => {
      if (name === failing) {
        throw new Error(`no ${name}`);
      }
      await slow.promise;
      order.push(`${name} made`);
      return {} as never;
    };
    const parts = {
      client: { containers: { list: () => Promise.resolve([]) } },
      inits: { open: () => part('init') },
      logger: recordingLogger().logger,
    } as unknown as ContainerdParts;
    const removal = { remove: async () => void order.push('removed') } as unknown as WorkerRemoval;
    const files = {
      isInMemory: () => Promise.resolve(false),
      room: () => Promise.resolve({ capacityMiB: 1_024, allocatedMiB: 0 }),
      make: () => part('file'),
    } as unknown as TmpFiles;
    const tried = tryTmpFile(parts, removal, files, {});
    await settle();
    slow.resolve();
    expect(await tried).toMatch(`no ${failing}`);
    expect(order).toEqual([failing === 'file' ? 'init made' : 'file made', 'removed']);
  },
);
