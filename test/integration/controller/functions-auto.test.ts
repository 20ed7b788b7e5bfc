import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lambdaFunctions } from '../../../src/api/lambda-function.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import { runGateway } from '../../../src/gateway/main.ts';
import { leases } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import { gatewayFlags } from '../../../src/options/gateway.ts';
import type { ApiServer } from '../../support/api-server.ts';
import type { FakeNode } from '../../support/fake-node.ts';
import { fastClock } from '../../support/fast-clock.ts';
import { freePort } from '../../support/free-port.ts';
import { functionManifest } from '../../support/function-manifest.ts';
import { type FunctionServer, startFunctionServer } from '../../support/function-server.ts';
import { optionsOf } from '../../support/options.ts';
import { type Running, running } from '../../support/running.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Milliseconds that a call waits for a worker: no agent takes any here. */
const CALL_MS = 20_000;

describe('a LambdaFunction that grows with its calls, by what a gateway tells the leader', () => {
  let lab: FunctionServer;
  let server: ApiServer;
  let admin: KubeClient;
  let controllerConfig: string;
  let node: FakeNode;
  let folder: string;
  let url: string;
  let controller: Running;
  let gateway: Running;
  const logger = silentLogger();

  const startController = (identity: string): Running => {
    const flags = [
      ...['--kubeconfig', controllerConfig, '--identity', identity],
      ...['--health', '127.0.0.1:0', '--demand-listen', '127.0.0.1:0'],
    ];
    // Delays are half as long.
    return running((signal) => runController(optionsOf(controllerFlags, flags), { signal, logger }, fastClock(2)));
  };

  beforeAll(async () => {
    lab = await startFunctionServer();
    ({ admin, controllerConfig, node, server } = lab);
    folder = await mkdtemp(join(tmpdir(), 'esb-auto-'));
    controller = startController('first');
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const flags = [
      ...['--kubeconfig', await server.kubeconfig('esb:gateway'), '--namespace', 'default', '--state-dir', folder],
      ...['--listen', `127.0.0.1:${port}`, '--health', '127.0.0.1:0', '--authentication=off'],
    ];
    gateway = running((signal) =>
      runGateway(optionsOf(gatewayFlags, flags), { signal, logger }, { maxWaitMs: CALL_MS }),
    );
  });

  afterAll(async () => {
    await gateway?.stop();
    await controller?.stop();
    await lab?.close();
    await rm(folder ?? '', { recursive: true, force: true });
  });

  const workers = async (): Promise<readonly LambdaWorker[]> =>
    (await admin.list(lambdaWorkers, { namespace: 'default' })).items;
  const have = (count: number) =>
    waitFor(`${count} workers`, async () => (await workers()).length === count, { timeoutMs: 60_000 });
  const apply = (scaling: object) =>
    server.kubectl(
      ['apply', '-f', '-'],
      functionManifest('auto', { scaling, template: { spec: { image: 'hello:1' } } }),
    );

  it('has a spare worker at rest, one for each call, and fewer again once they have ended', async () => {
    await apply({ mode: 'Auto', minWorkers: 0, maxWorkers: 6, scaleDownDelaySeconds: 8 });
    await have(1);
    const hangUp = new AbortController();
    const call = () =>
      fetch(`${url}/2015-03-31/functions/auto/invocations`, { method: 'POST', body: '{}', signal: hangUp.signal }).then(
        ({ status }) => status,
        () => 0,
      );
    await waitFor('the gateway to know the function', async () => {
      const response = await fetch(`${url}/2015-03-31/functions/auto/configuration`);
      return response.status === 200;
    });
    const lease = await waitFor('the leader to tell where it takes load', async () => {
      const found = await admin.get(leases, { namespace: 'esb-system', name: 'esb-controller' });
      const address = found?.metadata.annotations?.['esb.dev/demand-address'] ?? '';
      return address === '' ? undefined : address;
    });
    expect(lease).toMatch(/^127\.0\.0\.1:\d+$/);
    const three = [call(), call(), call()];
    await have(4);
    // More than the most worker would take: the others wait.
    const more = Array.from({ length: 5 }, call);
    await have(6);

    // Another leader knows of no call yet, and takes no worker away.
    await controller.stop();
    controller = startController('second');
    const later = await waitFor('the next leader to take load', async () => {
      const found = await admin.get(leases, { namespace: 'esb-system', name: 'esb-controller' });
      const address = found?.metadata.annotations?.['esb.dev/demand-address'] ?? '';
      return address !== '' && address !== lease ? found : undefined;
    });
    expect(later.spec?.holderIdentity).toMatch(/^second/);
    expect(await workers()).toHaveLength(6);

    hangUp.abort();
    expect(await Promise.all([...three, ...more])).toEqual(Array.from({ length: 8 }, () => 0));
    const leaving = await waitFor(
      'five workers to leave',
      async () => {
        const found = (await workers()).filter(({ metadata }) => metadata.deletionTimestamp !== undefined);
        return found.length === 5 ? found : undefined;
      },
      { timeoutMs: 60_000 },
    );
    await Promise.all(leaving.map((worker) => node.cleanUp(worker)));
    await have(1);

    await server.kubectl(['scale', 'lf/auto', '--replicas=3']);
    await have(3);
    const owner = await admin.get(lambdaFunctions, { namespace: 'default', name: 'auto' });
    expect(owner?.spec.scaling).toMatchObject({ mode: 'Auto', minWorkers: 3, maxWorkers: 6 });
  }, 180_000);

  it('grows by the template that works where a change fails, under another leader too', async () => {
    const change = (image: string) =>
      server.kubectl(
        ['apply', '-f', '-'],
        functionManifest('failing', {
          scaling: { mode: 'Auto', minWorkers: 4, maxWorkers: 60 },
          template: { spec: { image, resources: { limits: { memory: '128Mi' } } } },
        }),
      );
    const of = async (image: string): Promise<readonly LambdaWorker[]> =>
      (await workers()).filter(({ spec }) => spec.image === image);
    await change('failing:1');
    const first = await waitFor('four workers with a node', async () => {
      const found = (await of('failing:1')).filter(({ status }) => status?.assignment !== undefined);
      return found.length === 4 ? found : undefined;
    });
    await Promise.all(first.map((worker) => node.report(worker, 'Running', { status: 'True', reason: 'Running' })));
    await waitFor('the template to have worked', async () => {
      const owner = await admin.get(lambdaFunctions, { namespace: 'default', name: 'failing' });
      return owner?.status?.revisions?.at(-1)?.worked;
    });
    await change('failing:bad');
    const [bad] = await waitFor('the first that changes', async () => {
      const found = await of('failing:bad');
      return found.length === 1 ? found : undefined;
    });
    const time = { lastTransitionTime: '2026-11-01T00:00:00Z', message: 'exit 1', reason: 'ReplacementFailed' };
    const conditions = [
      { type: 'Ready', status: 'False', ...time },
      { type: 'Stalled', status: 'True', ...time },
      { type: 'Callable', status: 'True', ...time },
    ];
    const body = { status: { phase: 'Running', observedGeneration: bad?.metadata.generation, conditions } };
    const key = { namespace: 'default', name: bad?.metadata.name ?? '' };
    const patch = { kind: 'apply', fieldManager: 'esb-agent', body } as const;
    await admin.patch(lambdaWorkers, key, patch, { subresource: 'status' });

    const hangUp = new AbortController();
    const calls = Array.from({ length: 40 }, () =>
      fetch(`${url}/2015-03-31/functions/failing/invocations`, {
        method: 'POST',
        body: '{}',
        signal: hangUp.signal,
      }).then(
        ({ status }) => status,
        () => 0,
      ),
    );
    await controller.stop();
    controller = startController('third');
    await waitFor('a worker for each call', async () => (await of('failing:1')).length >= 39, { timeoutMs: 60_000 });
    expect(await of('failing:bad')).toHaveLength(1);
    hangUp.abort();
    await Promise.all(calls);
  }, 180_000);
});
