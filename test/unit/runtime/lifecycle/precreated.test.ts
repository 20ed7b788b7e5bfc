import { expect, it } from 'vitest';
import type { DesiredWorker } from '../../../../src/agent/model/desired-worker.ts';
import { resolveSecrets } from '../../../../src/agent/secrets/resolve-secrets.ts';
import type { EnsureRequest, WorkerInfo } from '../../../../src/runtime/contract/runtime.ts';
import { PrecreatedTasks } from '../../../../src/runtime/lifecycle/precreated.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';

const secrets = { read: () => Promise.resolve('token') };

async function requestFor(change: Partial<DesiredWorker>): Promise<EnsureRequest> {
  const desired = desiredFixture(change);
  const { epoch, identity, shapeHash } = desired;
  return { containerId: 'w', identity, epoch, shapeHash, shape: await resolveSecrets(desired, secrets) };
}

it.each<[string, Partial<DesiredWorker>, boolean]>([
  ['as it was made', {}, true],
  ['with another pull secret', { imagePullSecrets: ['other'] }, false],
  ['with none', { imagePullSecrets: [] }, false],
  ['of another image', { image: 'registry.example/other:1' }, false],
  ['with another policy', { imagePullPolicy: 'Always' }, false],
])('a container with pull secrets that was prepared serves a start %s', async (_, change, serves) => {
  const launched: string[] = [];
  const prepared = new PrecreatedTasks<string>({
    make: () => Promise.resolve('made'),
    launch: (request, made) => {
      launched.push(made);
      return Promise.resolve({ containerId: request.containerId } as WorkerInfo);
    },
  });
  const { signal } = new AbortController();
  const wanted = { imagePullSecrets: ['regcred'] };
  await prepared.make(await requestFor(wanted), signal);
  await prepared.start(await requestFor({ ...wanted, ...change }), signal);
  expect(launched).toEqual(serves ? ['made'] : []);
});
