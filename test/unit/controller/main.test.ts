import { expect, it, onTestFinished } from 'vitest';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { FUNCTION_DEFINITIONS, SCHEMA_REVISION, SCHEMA_REVISION_ANNOTATION } from '../../../src/api/schema-revision.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import {
  type CustomResourceDefinition,
  configMaps,
  customResourceDefinitions,
  leases,
  nodes,
} from '../../../src/kube/api/resource-types.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import { type FakeApiServer, startFakeApiServer } from '../../support/fake-api-server.ts';
import { kubeconfigFor } from '../../support/kubeconfig.ts';
import { optionsOf } from '../../support/options.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeFixture, workerFixture } from '../../support/worker-fixture.ts';

async function world(prepare: (api: FakeApiServer) => void = () => undefined) {
  const api = await startFakeApiServer();
  prepare(api);
  const stop = new AbortController();
  for (const name of FUNCTION_DEFINITIONS) {
    api.put(customResourceDefinitions, {
      metadata: { name, annotations: { [SCHEMA_REVISION_ANNOTATION]: String(SCHEMA_REVISION) } },
    } as unknown as CustomResourceDefinition);
  }
  api.put(lambdaNodes, nodeFixture());
  const running = runController(
    optionsOf(controllerFlags, [
      ...['--kubeconfig', kubeconfigFor(api.origin), '--health', '127.0.0.1:0', '--identity', 'one'],
    ]),
    { signal: stop.signal, logger: silentLogger() },
  );
  onTestFinished(async () => {
    api.clearFaults();
    stop.abort();
    await running;
    await api.stop();
  });
  const key = { namespace: 'esb-system', name: 'esb-controller' };
  return { api, lease: () => api.get(leases, key)?.spec };
}

it('a leader stays one while all that it asks about workers hangs', async () => {
  const { api, lease } = await world();
  await waitFor('the leader', () => lease()?.holderIdentity);
  const hangs = (path: string): boolean => /\/lambdaworkers\/\w+/.test(path);
  api.inject(({ path }) => hangs(path), { kind: 'hang' }, 1_000);
  for (let number = 0; number < 64; number += 1) {
    api.put(lambdaWorkers, workerFixture({ name: `w${number}` }));
  }
  await waitFor('the requests', () => api.requests.filter(({ path }) => hangs(path)).length >= 32);
  const before = lease()?.renewTime;
  await waitFor('a renewal', () => lease()?.renewTime !== before, { timeoutMs: 8_000 });
});

it('a leader publishes the Pod ranges of all Nodes', async () => {
  const { api } = await world((server) => {
    server.put(nodes, { metadata: { name: 'n2' }, spec: { podCIDRs: ['10.1.1.0/24', 'fd00:1::/64'] } });
    server.put(nodes, { metadata: { name: 'n1' }, spec: { podCIDRs: ['10.1.0.0/24'] } });
  });
  const key = { namespace: 'esb-system', name: 'esb-cluster-ranges' };
  const data = await waitFor('the ranges', () => api.get(configMaps, key)?.data);
  expect(data).toEqual({ podCIDRs: '10.1.0.0/24\n10.1.1.0/24\nfd00:1::/64\n' });
});
