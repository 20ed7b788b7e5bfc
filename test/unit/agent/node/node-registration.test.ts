import { describe, expect, it, onTestFinished } from 'vitest';
import { NodeHealth } from '../../../../src/agent/node/node-health.ts';
import { keepNodeLease } from '../../../../src/agent/node/node-lease.ts';
import { NodeRegistration } from '../../../../src/agent/node/node-registration.ts';
import { nodeVersions } from '../../../../src/agent/node/node-status.ts';
import type { SetAside } from '../../../../src/agent/worker/set-aside.ts';
import { type LambdaNode, lambdaNodes } from '../../../../src/api/lambda-node.ts';
import { foreignCode } from '../../../../src/common/error-codes.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { leases, type Node } from '../../../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../../../src/kube/client/client.ts';
import { type FakeApiServer, startFakeApiServer } from '../../../support/fake-api-server.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

async function world(given?: FakeApiServer) {
  const api = given ?? (await startFakeApiServer());
  const client = createKubeClient({ source: api.source });
  onTestFinished(async () => {
    await client.close();
    await api.stop();
  });
  const clock = manualClock();
  const health = new NodeHealth({
    runtime: {
      health: async () => ({ ok: true, version: '2.4.2' }),
      networkHealth: async () => ({ ok: true }),
      subscribe: () => () => undefined,
    },
    leaving: () => [],
    disk: async () => ({ ok: true }),
    clock,
    logger: silentLogger(),
  });
  await health.look();
  let node: Node | undefined;
  const listed = Promise.withResolvers<void>();
  let hasSynced = true;
  const synced = () => (hasSynced ? Promise.resolve() : listed.promise);
  const facts = {
    endpoint: '10.0.0.7:9443',
    certificate: '-----BEGIN CERTIFICATE-----',
    versions: { agent: '0.1.0' },
    capacity: { memoryMiB: 1000, milliCPU: 100_000, workers: 10 },
    allocated: { memoryMiB: 0, workers: 0 },
    promisedMiB: 1536,
    images: [] as string[],
    setAside: [] as SetAside[],
    leaving: [] as string[],
  };
  const toldBefore: (readonly string[])[] = [];
  const registration = new NodeRegistration({
    client,
    nodeName: 'node-1',
    health,
    nodes: { cache: { get: () => node }, hasSynced: () => hasSynced, synced },
    facts: async (told) => {
      toldBefore.push(told.leaving ?? []);
      return facts;
    },
    clock,
    logger: silentLogger(),
  });
  const writes = (): number => api.requests.filter(({ method }) => method === 'PATCH').length;
  return {
    api,
    client,
    clock,
    health,
    registration,
    facts,
    toldBefore,
    writes,
    stored: () => api.get(lambdaNodes, { name: 'node-1' }),
    setNode(next: Node | undefined) {
      node = next;
    },
    /** The process has started again and has not listed the Node yet. */
    startAnew() {
      node = undefined;
      hasSynced = false;
    },
    /** The Node has been listed. */
    showNode(next: Node) {
      node = next;
      hasSynced = true;
      listed.resolve();
    },
  };
}

describe('the registration of a node', () => {
  it('makes the LambdaNode and writes nothing while nothing changes', async () => {
    const { registration, stored, writes, facts } = await world();
    await registration.write();
    expect(stored()?.status).toMatchObject({
      endpoint: '10.0.0.7:9443',
      capacity: { memoryMiB: 1000, milliCPU: 100_000, workers: 10 },
      conditions: [{ type: 'Ready', status: 'True' }, {}, {}, {}, {}, {}],
    });
    const before = writes();
    await registration.write();
    await registration.write();
    expect(writes()).toBe(before);
    facts.allocated = { memoryMiB: 128, workers: 1 };
    await registration.write();
    expect(writes()).toBe(before + 1);
    expect(stored()?.status?.allocated).toEqual({ memoryMiB: 128, workers: 1 });
  });

  it('leaves alone what the controller has found out about the node', async () => {
    const { api, clock, registration, stored, writes } = await world();
    await registration.write();
    const node = stored() ?? nodeFixture();
    const draining = {
      type: 'Draining',
      status: 'True',
      lastTransitionTime: '2026-11-01T00:00:00Z',
      reason: 'WorkersLeave',
      message: '',
    } as const;
    api.put<LambdaNode>(lambdaNodes, {
      ...node,
      status: { ...node.status, conditions: [...(node.status?.conditions ?? []), draining] },
    });
    const before = writes();
    await clock.advance(61_000);
    await registration.write();
    expect(writes()).toBe(before);
  });

  it('says soon that its node is ready once the controller has told that it was not heard', async () => {
    const { api, clock, registration, stored, writes } = await world();
    const stop = new AbortController();
    const running = registration.run(stop.signal);
    onTestFinished(async () => {
      stop.abort();
      await running.catch(() => undefined);
    });
    await waitFor('the registration', () => stored()?.status?.conditions);
    const node = stored() ?? nodeFixture();
    const told = api.put<LambdaNode>(lambdaNodes, {
      ...node,
      status: {
        ...node.status,
        conditions: [
          {
            type: 'Ready',
            status: 'Unknown',
            lastTransitionTime: '2026-11-01T00:00:00Z',
            reason: 'NodeUnreachable',
            message: '',
          },
        ],
      },
    });
    const before = writes();
    registration.noteObject(told);
    await waitFor('the report', async () => {
      await clock.advance(250);
      return writes() > before;
    });
    expect(stored()?.status?.conditions?.[0]).toMatchObject({ type: 'Ready', status: 'True' });
    const rest = writes();
    registration.noteObject(stored() ?? told);
    await clock.advance(30_000);
    expect(writes()).toBe(rest);
  });

  it('carries over the labels and the cordon of the Node of the same name', async () => {
    const { registration, stored, setNode } = await world();
    setNode({ metadata: { name: 'node-1', labels: { zone: 'a' } }, spec: { unschedulable: true } });
    await registration.write();
    expect(stored()?.metadata.labels).toEqual({ zone: 'a' });
    expect(stored()?.status?.unschedulable).toBe(true);
    setNode({ metadata: { name: 'node-1', labels: { zone: 'b' } } });
    await registration.write();
    expect(stored()?.metadata.labels).toEqual({ zone: 'b' });
    expect(stored()?.status?.unschedulable).toBe(false);
  });

  it('keeps labels and cordon while an agent that begins anew has not listed the Node yet', async () => {
    const first = await world();
    const labels = { zone: 'a', pool: 'functions' };
    const cordoned = { metadata: { name: 'node-1', labels }, spec: { unschedulable: true } };
    first.setNode(cordoned);
    await first.registration.write();
    const next = await world(first.api);
    next.startAnew();
    const before = next.writes();
    // An apply names all fields that this agent owns: a field that it leaves out is removed.
    const applied = () =>
      next.api.requests
        .filter(({ method }) => method === 'PATCH')
        .slice(before)
        .map(({ body }) => JSON.parse(body) as LambdaNode);
    next.facts.allocated = { memoryMiB: 128, workers: 1 };
    await next.registration.write();
    expect(next.stored()?.status?.allocated).toEqual({ memoryMiB: 128, workers: 1 });
    expect(applied()).toMatchObject([{ status: { unschedulable: true } }]);
    next.showNode(cordoned);
    await next.registration.write();
    expect(applied().slice(1)).toMatchObject([{ metadata: { labels } }]);
  });

  it('is made with the labels of the Node, or after ten seconds without them', async () => {
    const told = await world();
    told.startAnew();
    const stop = new AbortController();
    const running = told.registration.run(stop.signal).catch(() => undefined);
    await told.clock.advance(9_000);
    expect(told.stored()).toBeUndefined();
    told.showNode({ metadata: { name: 'node-1', labels: { zone: 'a' } } });
    await waitFor('the registration', () => told.stored()?.status !== undefined);
    expect(told.stored()?.metadata.labels).toEqual({ zone: 'a' });

    const untold = await world();
    untold.startAnew();
    const other = untold.registration.run(stop.signal).catch(() => undefined);
    await untold.clock.advance(10_000);
    await waitFor('the registration', () => untold.stored()?.status !== undefined);
    stop.abort();
    await Promise.all([running, other]);
  });

  it('tells which workers leave, and asks by what it has told before', async () => {
    const { registration, stored, facts, toldBefore } = await world();
    await registration.write();
    expect(stored()?.status?.leaving).toEqual([]);
    facts.leaving = ['uid-2', 'uid-1'];
    await registration.write();
    expect(stored()?.status?.leaving).toEqual(['uid-1', 'uid-2']);
    facts.leaving = [];
    await registration.write();
    expect(toldBefore.at(-1)).toEqual(['uid-1', 'uid-2']);
    expect(stored()?.status?.leaving).toEqual([]);
    facts.leaving = Array.from({ length: 2_000 }, (_, number) => `uid-${number}`);
    await registration.write();
    expect(stored()?.status?.leaving).toHaveLength(1_024);
  });

  it('says that no worker leaves where an agent of before said nothing of that', async () => {
    const { registration, stored, api, clock } = await world();
    await registration.write();
    const { leaving: _leaving, ...status } = stored()?.status ?? {};
    api.put(lambdaNodes, { ...(stored() as LambdaNode), status });
    await clock.advance(61_000);
    await registration.write();
    expect(stored()?.status?.leaving).toEqual([]);
  });

  it('registers again after somebody removed it', async () => {
    const { registration, stored, api, clock } = await world();
    await registration.write();
    api.remove(lambdaNodes, { name: 'node-1' });
    await clock.advance(61_000);
    await registration.write();
    expect(stored()?.status?.endpoint).toBe('10.0.0.7:9443');
  });

  it('writes a condition at once and the rest every ten seconds', async () => {
    const { registration, stored, clock, health, facts, writes } = await world();
    const stop = new AbortController();
    const running = registration.run(stop.signal).catch(() => undefined);
    await waitFor('the registration', () => stored()?.status !== undefined);
    const before = writes();
    health.note('test', { ok: false, reason: foreignCode('Testing'), message: 'a test' });
    await waitFor('the condition', async () => {
      await clock.advance(300);
      return stored()?.status?.conditions?.[0]?.reason === 'Testing';
    });
    expect(writes()).toBe(before + 1);
    facts.allocated = { memoryMiB: 1, workers: 1 };
    await waitFor('the rest', async () => {
      await clock.advance(10_500);
      return stored()?.status?.allocated?.workers === 1;
    });
    stop.abort();
    await running;
  });

  it('takes the name of the system from the kubelet, since an agent in a Pod sees that of its image', () => {
    const node = { metadata: { name: 'node-1' }, status: { nodeInfo: { osImage: 'Flatcar 4000' } } } as Node;
    expect(nodeVersions(node)).toEqual({ operatingSystem: 'Flatcar 4000' });
    expect(nodeVersions(undefined)).toEqual({});
  });
});

describe('the lease of a node', () => {
  it('is made, renewed every ten seconds, and again as soon as the server is back', async () => {
    const { api, client, clock } = await world();
    const stop = new AbortController();
    const renewals: boolean[] = [];
    const running = keepNodeLease(
      {
        client,
        nodeName: 'node-1',
        namespace: 'esb-system',
        clock,
        logger: silentLogger(),
        onRenewal: (ok) => renewals.push(ok),
      },
      stop.signal,
    ).catch(() => undefined);
    const key = { namespace: 'esb-system', name: 'node-1' };
    const spec = await waitFor('the lease', () => api.get(leases, key)?.spec);
    expect(spec).toEqual({
      holderIdentity: 'node-1',
      leaseDurationSeconds: 40,
      renewTime: '2026-11-01T00:00:00.000000Z',
    });
    await waitFor('the first renewal', () => renewals.length === 1);
    await clock.advance(10_000);
    await waitFor('the second renewal', () => renewals.length === 2);
    expect(api.get(leases, key)?.spec?.renewTime).toBe('2026-11-01T00:00:10.000000Z');
    api.inject(() => true, { kind: 'status', status: 500 });
    await clock.advance(10_000);
    await waitFor('the failure', () => renewals.length === 3);
    await clock.advance(2_000);
    await waitFor('another try', () => renewals.length === 4);
    stop.abort();
    await running;
    expect(renewals).toEqual([true, true, false, true]);
  });
});
