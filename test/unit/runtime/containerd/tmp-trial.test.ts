import { mkdtemp, rm } from 'node:fs/promises';
import { expect, it, onTestFinished } from 'vitest';
import { systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';
import type { ContainerdParts } from '../../../../src/runtime/containerd/parts.ts';
import type { WorkerRemoval } from '../../../../src/runtime/containerd/remove.ts';
import { tryTmpFile } from '../../../../src/runtime/containerd/tmp-trial.ts';
import { TmpFiles } from '../../../../src/runtime/tmp/tmp-files.ts';
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
