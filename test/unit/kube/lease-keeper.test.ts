import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '../../../src/common/logger.ts';
import { createKubeClient } from '../../../src/kube/client.ts';
import { createLeaseKeeper } from '../../../src/kube/lease-keeper.ts';
import { microTime } from '../../../src/kube/micro-time.ts';
import { leases } from '../../../src/kube/resource-types.ts';
import type { KubeClient } from '../../../src/kube/types.ts';
import { type FakeApiServer, startFakeApiServer } from '../../support/fake-api-server.ts';
import { manualClock } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const lease = { namespace: 'system', name: 'node-1' };
const soon = { timeoutMs: 5000, everyMs: 2 };

let server: FakeApiServer;
let client: KubeClient;

beforeEach(async () => {
  server = await startFakeApiServer();
  client = createKubeClient({ source: server.source });
  return async () => {
    await client.close();
    await server.stop();
  };
});

test('a MicroTime has six digits', () => {
  expect(microTime(Date.UTC(2026, 0, 2, 3, 4, 5, 67))).toBe('2026-01-02T03:04:05.067000Z');
  expect(microTime(Date.UTC(2026, 0, 2, 3, 4, 5, 67) + 0.25)).toBe('2026-01-02T03:04:05.067250Z');
});

test('a lease is made, renewed in time, and sooner again after a failure', async () => {
  const clock = manualClock();
  const keeper = createLeaseKeeper({
    client,
    lease,
    identity: 'node-1',
    fieldManager: 'agent',
    logger: silentLogger(),
    clock,
    random: () => 0,
  });
  onTestFinished(() => keeper.stop());
  keeper.start();
  await waitFor('the lease', () => keeper.lastRenewedAt() === clock.monotonic(), soon);
  const first = server.get(leases, lease);
  expect(first?.spec).toMatchObject({ holderIdentity: 'node-1', leaseDurationSeconds: 40 });
  server.inject(() => true, { kind: 'status', status: 500 });
  await clock.advance(10_000);
  await waitFor('the failure', () => server.requests.length === 2, soon);
  await waitFor('the next wait', () => clock.pending() === 1, soon);
  await clock.advance(2000);
  await waitFor('the renewal', () => keeper.lastRenewedAt() === clock.monotonic(), soon);
  expect(server.get(leases, lease)?.spec?.renewTime).not.toBe(first?.spec?.renewTime);
});
