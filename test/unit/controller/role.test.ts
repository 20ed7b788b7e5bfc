import { it, onTestFinished } from 'vitest';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import {
  DEFINITION_NAMES,
  SCHEMA_REVISION,
  SCHEMA_REVISION_ANNOTATION,
} from '../../../src/api/schema-revision.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/role.ts';
import {
  type CustomResourceDefinition,
  customResourceDefinitions,
  leases,
} from '../../../src/kube/resource-types.ts';
import { startFakeApiServer } from '../../support/fake-api-server.ts';
import { kubeconfigFor } from '../../support/kubeconfig.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeFixture, workerFixture } from '../../support/worker-fixture.ts';

async function world() {
  const api = await startFakeApiServer();
  const stop = new AbortController();
  for (const name of DEFINITION_NAMES) {
    api.put(customResourceDefinitions, {
      metadata: { name, annotations: { [SCHEMA_REVISION_ANNOTATION]: String(SCHEMA_REVISION) } },
    } as CustomResourceDefinition);
  }
  api.put(lambdaNodes, nodeFixture());
  const running = runController(
    { kubeconfig: kubeconfigFor(api.origin), health: '127.0.0.1:0', identity: 'one' },
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
