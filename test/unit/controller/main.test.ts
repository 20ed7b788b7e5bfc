import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { FUNCTION_DEFINITIONS, SCHEMA_REVISION, SCHEMA_REVISION_ANNOTATION } from '../../../src/api/schema-revision.ts';
import type { Clock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import {
  type CustomResourceDefinition,
  configMaps,
  customResourceDefinitions,
  type Lease,
  leases,
  nodes,
} from '../../../src/kube/api/resource-types.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import { type FakeApiServer, type Fault, type SeenRequest, startFakeApiServer } from '../../support/fake-api-server.ts';
import { fastClock } from '../../support/fast-clock.ts';
import { kubeconfigFor } from '../../support/kubeconfig.ts';
import { optionsOf } from '../../support/options.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeFixture, workerFixture } from '../../support/worker-fixture.ts';

async function world(prepare: (api: FakeApiServer) => void = () => undefined, clock?: Clock) {
  const api = await startFakeApiServer();
  const stop = new AbortController();
  for (const name of FUNCTION_DEFINITIONS) {
    api.put(customResourceDefinitions, {
      metadata: { name, annotations: { [SCHEMA_REVISION_ANNOTATION]: String(SCHEMA_REVISION) } },
    } as unknown as CustomResourceDefinition);
  }
  api.put(lambdaNodes, nodeFixture());
  prepare(api);
  const running = runController(
    optionsOf(controllerFlags, [
      ...['--kubeconfig', kubeconfigFor(api.origin), '--health', '127.0.0.1:0', '--identity', 'one'],
    ]),
    { signal: stop.signal, logger: silentLogger() },
    clock,
  );
  const end = async (): Promise<void> => {
    stop.abort();
    await running;
  };
  onTestFinished(async () => {
    api.clearFaults();
    await end();
    await api.stop();
  });
  const key = { namespace: 'esb-system', name: 'esb-controller' };
  return { api, end, lease: () => api.get(leases, key)?.spec };
}

function isWatchOf(plural: string): (request: SeenRequest) => boolean {
  return ({ path, query }) => path.endsWith(`/${plural}`) && query.get('watch') !== null;
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

it('a leader begins with what was written before it led, however far its watches are behind', async () => {
  const key = { namespace: 'esb-system', name: 'esb-controller' };
  const held = (holderIdentity: string): Lease => ({
    metadata: key,
    spec: { holderIdentity, leaseDurationSeconds: 15, renewTime: new Date().toISOString().replace('Z', '000Z') },
  });
  const { api } = await world((server) => server.put(leases, held('another')));
  await waitFor('the watch of workers', () => api.requests.some(isWatchOf('lambdaworkers')));
  await waitFor('the candidate', () => api.requests.some(({ path }) => path.endsWith('/leases/esb-controller')));
  api.silenceWatches();
  api.put(lambdaWorkers, workerFixture({ metadata: { finalizers: ['esb.dev/worker'] } }));
  api.put(leases, held(''));
  const assigned = () => api.get(lambdaWorkers, { namespace: 'default', name: 'hello' })?.status?.assignment;
  expect(await waitFor('the assignment', assigned)).toMatchObject({ nodeName: 'node-1' });
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

it('a leader looks at the workers that wait once it gives up room that it had taken for another', async () => {
  const { api, lease } = await world((server) => {
    server.put(lambdaNodes, nodeFixture({ status: { capacity: { memoryMiB: 1_536, milliCPU: 100_000, workers: 1 } } }));
  });
  await waitFor('the leader', () => lease()?.holderIdentity);
  const status = (name: string) => api.get(lambdaWorkers, { namespace: 'default', name })?.status;
  const isFirst = ({ method, path }: SeenRequest): boolean =>
    method === 'PATCH' && path.endsWith('/lambdaworkers/first/status');
  api.inject(isFirst, { kind: 'slow', delayMs: 1_000 });
  const metadata = { finalizers: ['esb.dev/worker'] };
  const first = workerFixture({ name: 'first', metadata });
  api.put(lambdaWorkers, first);
  await waitFor('the first to be assigned', () => api.requests.some(isFirst));
  api.put(lambdaWorkers, workerFixture({ name: 'second', metadata }));
  await waitFor('the second to wait', () => status('second')?.conditions?.some(({ reason }) => reason === 'NoneFits'));
  const deletionTimestamp = '2026-11-01T00:00:01Z';
  api.put(lambdaWorkers, { ...first, metadata: { ...first.metadata, deletionTimestamp } });
  await waitFor('the second to be assigned', () => status('second')?.assignment, { timeoutMs: 8_000 });
  expect(status('first')?.assignment).toBeUndefined();
});

describe('a leader that is asked to end', () => {
  const isWrite = ({ method, path }: SeenRequest): boolean => method !== 'GET' && path.includes('/lambdaworkers/');
  const begin = async (fault: Fault, writes = 1) => {
    const { api, end, lease } = await world(undefined, fastClock(4));
    await waitFor('the leader', () => lease()?.holderIdentity);
    api.inject(isWrite, fault, 1_000);
    api.put(lambdaWorkers, workerFixture());
    await waitFor('a write', () => api.requests.filter(isWrite).length >= writes);
    await end();
    return { api, lease };
  };

  it('gives its Lease back once its writes have their answers', async () => {
    const { api, lease } = await begin({ kind: 'slow', delayMs: 500 });
    expect(lease()?.holderIdentity).toBe('');
    expect(api.requests.filter(isWrite)).toHaveLength(1);
    expect(api.all(lambdaWorkers)).toMatchObject([{ metadata: { finalizers: ['esb.dev/worker'] } }]);
  });

  it('keeps it where a write has none: that one may arrive when the next leader has looked', async () => {
    const { lease } = await begin({ kind: 'hang' });
    expect(lease()?.holderIdentity).not.toBe('');
  });

  it('keeps it where the answer of a write was lost shortly before', async () => {
    const { lease } = await begin({ kind: 'cut' }, 2);
    expect(lease()?.holderIdentity).not.toBe('');
  });
});

it('a leader that comes back looks only once the writes that its last term has lost arrive no more', async () => {
  const clock = fastClock(4);
  const { api, lease } = await world(undefined, clock);
  await waitFor('the leader', () => lease()?.holderIdentity);
  const isWrite = ({ method, path }: SeenRequest): boolean => method !== 'GET' && path.includes('/lambdaworkers/');
  const isRenewal = ({ method, path }: SeenRequest): boolean => method === 'PUT' && path.endsWith('/esb-controller');
  const isLook = ({ method, path }: SeenRequest): boolean => method === 'GET' && path.endsWith('/leases');
  const count = (match: (request: SeenRequest) => boolean): number => api.requests.filter(match).length;
  api.inject((request) => isWrite(request) || isRenewal(request), { kind: 'cut' }, 1_000);
  api.put(lambdaWorkers, workerFixture());
  await waitFor('a write', () => count(isWrite) > 0);
  let lostAt = clock.monotonic();
  // The Lease is lost ten seconds after its last renewal.
  const end = clock.monotonic() + 12_000;
  // The test looks again and again.
  for (let writes = 0; clock.monotonic() < end; await delay(5)) {
    lostAt = count(isWrite) > writes ? clock.monotonic() : lostAt;
    writes = count(isWrite);
  }
  const before = api.requests.length;
  api.clearFaults();
  const next = await waitFor(
    'the next look at Leases, or a write',
    () => api.requests.slice(before).find((request) => isLook(request) || isWrite(request)),
    { everyMs: 5 },
  );
  expect(isLook(next)).toBe(true);
  // Fifteen seconds, but for the time between two looks of this test.
  expect(clock.monotonic() - lostAt).toBeGreaterThan(14_000);
});
