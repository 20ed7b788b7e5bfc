import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import type { NodeNetwork } from '../../../../src/cni/contract.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { WorkerCreation } from '../../../../src/runtime/containerd/create.ts';
import { createContainerdParts } from '../../../../src/runtime/containerd/parts.ts';
import { WorkerRemoval } from '../../../../src/runtime/containerd/remove.ts';
import { fakeContainerd } from '../../../support/fake-containerd.ts';
import { ensureRequest, labName } from '../../../support/lab.ts';

it('a creation that fails at once leaves no log, however late the log begins', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'esb-creation-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const logs = join(folder, 'logs');
  const { client } = fakeContainerd();
  const detach = (): Promise<void> => Promise.resolve();
  const parts = createContainerdParts({
    containerd: { socketPath: join(folder, 's'), client },
    network: { detach } as Partial<NodeNetwork> as NodeNetwork,
    logs: { folder: logs },
    etc: { hostsFolder: join(folder, 'hosts') },
    isolation: { cgroupParent: `/${labName('unit')}` },
    logger: silentLogger(),
  });
  await parts.logs.prepare();
  onTestFinished(() => parts.logs.stop());
  const begin = parts.logs.begin.bind(parts.logs);
  const held = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  parts.logs.begin = async (...args) => {
    await held.promise;
    await begin(...args).finally(begun.resolve);
  };
  const creation = new WorkerCreation(parts, new WorkerRemoval(parts));
  const image = { reference: 'registry.example/none:1', pullPolicy: 'Never' } as const;
  const request = ensureRequest({ image: image.reference }, 'hasty', { image });
  const made = creation.create(request, new AbortController().signal);
  const failed = expect(made).rejects.toMatchObject({ code: 'ImageNotFound' });
  // Time for an undo that does not wait for the log.
  await Promise.race([failed, sleep(200)]);
  held.resolve();
  await Promise.all([failed, begun.promise]);
  expect((await readdir(logs)).filter((name) => name.includes(request.containerId))).toEqual([]);
});
