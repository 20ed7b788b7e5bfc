import { expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { publishRanges } from '../../../../src/controller/scheduling/range-publisher.ts';
import { configMaps, type Node } from '../../../../src/kube/api/resource-types.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { createKubeClient } from '../../../../src/kube/client/client.ts';
import { startFakeApiServer } from '../../../support/fake-api-server.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

const key = { namespace: 'esb-system', name: 'esb-cluster-ranges' };

it('publishes what changed every five minutes, writes nothing at rest, and mends what others changed', async () => {
  const api = await startFakeApiServer();
  const client = createKubeClient({ source: api.source });
  const clock = manualClock();
  const nodes = createObjectCache<Node>();
  const stop = new AbortController();
  const options = { client, systemNamespace: 'esb-system', nodes, clock, logger: silentLogger() };
  const running = publishRanges(options, stop.signal).catch(() => undefined);
  onTestFinished(async () => {
    stop.abort();
    await running;
    await client.close();
    await api.stop();
  });
  const published = () => api.get(configMaps, key)?.data?.podCIDRs;
  const reads = () => api.requests.filter(({ method }) => method === 'GET').length;
  const writes = () => api.requests.filter(({ method }) => method !== 'GET').length;
  const look = async () => {
    const before = reads();
    await clock.advance(300_000);
    await waitFor('a look', () => reads() > before);
  };
  await waitFor('the first', () => published() === '');
  nodes.set({ metadata: { name: 'n1' }, spec: { podCIDR: '10.1.0.0/24' } });
  nodes.set({ metadata: { name: 'n2' }, spec: { podCIDRs: ['10.1.1.0/24', '10.1.0.0/24'] } });
  await look();
  await waitFor('both', () => published() === '10.1.0.0/24\n10.1.1.0/24\n');
  await look();
  await look();
  expect(writes()).toBe(2);
  api.put(configMaps, { metadata: key, data: { podCIDRs: 'nonsense', other: 'kept' } });
  await look();
  await waitFor('the mended one', () => published() === '10.1.0.0/24\n10.1.1.0/24\n');
  expect(api.get(configMaps, key)?.data?.other).toBe('kept');
});
