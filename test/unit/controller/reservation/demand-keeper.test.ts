import { describe, expect, it } from 'vitest';
import { lambdaNodes } from '../../../../src/api/lambda-node.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { DemandKeeper } from '../../../../src/controller/reservation/demand-keeper.ts';
import type { Homeless } from '../../../../src/controller/scheduling/homeless.ts';
import { nodeView } from '../../../../src/controller/scheduling/node-view.ts';
import type { Closure } from '../../../../src/controller/scheduling/place.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { nodes, type Pod, pods, serviceAccounts } from '../../../../src/kube/api/resource-types.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { TestCluster, type Verb } from '../../../support/test-cluster.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

const worker: Homeless = {
  memoryMiB: 700,
  milliCPU: 50,
  diskMiB: 0,
  nodeSelector: { pool: 'a' },
  tolerations: [],
  unfitArchitectures: [],
};

/** A cluster of nodes that are full. */
class Scene {
  readonly cluster = new TestCluster();
  readonly clock = manualClock();
  readonly offers: string[] = [];
  readonly closed = new Map<string, Closure>();
  homeless: readonly Homeless[] = [worker];
  readonly keeper: DemandKeeper;

  constructor(demandClassName: string | null = 'esb-demand') {
    this.cluster.put(serviceAccounts, {
      metadata: { namespace: 'esb-system', name: 'esb-reserve', uid: 'account' },
    });
    this.addNode('node-1');
    const caches = {
      lambdaNodes: this.cluster.informer(lambdaNodes).cache,
      nodes: this.cluster.informer(nodes).cache,
    };
    this.keeper = new DemandKeeper({
      client: this.cluster.client,
      systemNamespace: 'esb-system',
      settings: { image: 'esb:1', pullPolicy: 'IfNotPresent', demandClassName: demandClassName ?? undefined },
      pods: this.cluster.informer(pods),
      ...caches,
      snapshot: {
        viewOf: (name) =>
          nodeView(name, {
            lambdaNode: caches.lambdaNodes.get({ name }),
            node: caches.nodes.get({ name }),
            liveness: 'fresh',
            closure: this.closed.get(name),
          }),
      },
      homeless: () => this.homeless,
      onOffer: (node) => this.offers.push(node),
      clock: this.clock,
      logger: silentLogger(),
    });
  }

  get all(): readonly Pod[] {
    return this.cluster.all(pods);
  }

  /** How many requests of that verb there were, those that were refused included. */
  count(verb: Verb): number {
    return this.cluster.requests.filter((request) => request.verb === verb).length;
  }

  /** A node of 2 GiB. */
  addNode(name: string, pool = 'a', memoryMiB = 2_048): void {
    const capacity = { memoryMiB, milliCPU: 100_000, workers: 10 };
    this.cluster.put(lambdaNodes, nodeFixture({ name, status: { capacity } }));
    this.addBareNode(name, 0, pool);
  }

  /** A node without an agent, made so many milliseconds ago. */
  addBareNode(name: string, ageMs: number, pool = 'a'): void {
    const creationTimestamp = new Date(this.clock.now() - ageMs).toISOString();
    const labels = { 'kubernetes.io/hostname': `host-of-${name}`, pool };
    this.cluster.put(nodes, { metadata: { name, uid: name, labels, creationTimestamp } });
  }

  /** Work of the scheduler. */
  bind(nodeName: string): void {
    const [pod] = this.all;
    if (pod !== undefined) {
      const spec = { containers: [], ...pod.spec, nodeName };
      this.cluster.put(pods, { ...pod, spec, status: { phase: 'Running', startTime: '2026-11-01T00:00:00Z' } });
    }
  }
}

describe('DemandKeeper', () => {
  it('asks for what workers without room need, where they may be and not on nodes that are full', async () => {
    const scene = new Scene();
    await scene.keeper.look();
    await scene.keeper.look();
    expect(scene.all).toHaveLength(1);
    expect(scene.all[0]).toMatchObject({
      metadata: { ownerReferences: [{ kind: 'ServiceAccount', uid: 'account' }] },
      spec: {
        priorityClassName: 'esb-demand',
        nodeSelector: { pool: 'a' },
        containers: [{ args: ['reserve'], resources: { requests: { memory: '704Mi' } } }],
      },
    });
    expect(JSON.stringify(scene.all[0]?.spec?.affinity)).toContain('"values":["host-of-node-1"]');
  });

  it('asks also on nodes whose memory Pods have', async () => {
    const scene = new Scene();
    scene.closed.set('node-1', 'unheld');
    await scene.keeper.look();
    expect(scene.all[0]?.spec?.affinity).toBeUndefined();
  });

  it('asks for nothing once no worker waits', async () => {
    const scene = new Scene();
    await scene.keeper.look();
    scene.homeless = [];
    await scene.keeper.look();
    expect(scene.all).toEqual([]);
  });

  it('waits on a new node for its agent, and makes way then', async () => {
    const scene = new Scene();
    await scene.keeper.look();
    scene.bind('node-2');
    await scene.keeper.look();
    expect(scene.all).toHaveLength(1);
    scene.addNode('node-2');
    await scene.keeper.look();
    expect(scene.all).toEqual([]);
    expect(scene.offers).toEqual(['node-2']);
  });

  it('asks ever more seldom for workers that nodes do not help', async () => {
    const scene = new Scene();
    for (const pauseMs of [30_000, 60_000]) {
      await scene.keeper.look();
      scene.bind('node-1');
      await scene.keeper.look();
      await scene.clock.advance(pauseMs - 1);
      await scene.keeper.look();
      expect(scene.all).toEqual([]);
      await scene.clock.advance(1);
    }
    await scene.keeper.look();
    expect(scene.all).toHaveLength(1);
  });

  it('asks on no node that has been without an agent for as long as a new one may take', async () => {
    const scene = new Scene();
    scene.addBareNode('new', 599_000);
    scene.addBareNode('other', 600_000);
    await scene.keeper.look();
    const affinity = JSON.stringify(scene.all[0]?.spec?.affinity);
    expect(affinity).toContain('host-of-other');
    expect(affinity).not.toContain('host-of-new');
  });

  it.each([
    ['takes as no Pod', 422, 'Invalid'],
    ['forbids in its namespace', 403, 'Forbidden'],
  ])(
    'asks for others where the API server %s what some ask for, and then ever more seldom',
    async (_, status, reason) => {
      const scene = new Scene();
      const wrong = { ...worker, nodeSelector: { pool: 'wrong' } };
      scene.homeless = [wrong, ...scene.homeless, { ...wrong, nodeSelector: { pool: 'wrong', zone: 'b' } }];
      const error = ApiError.fromAnswer('create', status, JSON.stringify({ reason }));
      scene.cluster.refuse(({ body }) => (body as Pod | undefined)?.spec?.nodeSelector?.pool === 'wrong', error);
      await scene.keeper.look();
      expect(scene.all.map(({ spec }) => spec?.nodeSelector)).toEqual([{ pool: 'a' }]);
      expect(scene.count('create')).toBe(3);
      await scene.clock.advance(10_000);
      await scene.keeper.look();
      expect(scene.count('create')).toBe(3);
      await scene.clock.advance(20_000);
      await scene.keeper.look();
      expect(scene.count('create')).toBe(5);
    },
  );

  it('asks in pieces that fit the nodes of the pool, however large others are', async () => {
    const scene = new Scene();
    scene.addNode('large', 'b', 65_536);
    scene.homeless = Array.from({ length: 40 }, () => ({ ...worker, memoryMiB: 256 }));
    await scene.keeper.look();
    expect(scene.all).toHaveLength(10);
    expect(scene.count('get')).toBe(1);
    expect(new Set(scene.all.map(({ spec }) => spec?.containers?.[0]?.resources?.requests?.memory))).toEqual(
      new Set(['1028Mi']),
    );
  });

  it('asks for a pool without a node by workers, keeps them off no node of others, and waits for one with an agent', async () => {
    const scene = new Scene();
    scene.homeless = Array.from({ length: 40 }, () => ({ ...worker, nodeSelector: { pool: 'zero' } }));
    await scene.keeper.look();
    expect(scene.all).toHaveLength(5);
    expect(scene.all[0]?.spec).toMatchObject({
      nodeSelector: { pool: 'zero' },
      containers: [{ resources: { requests: { memory: '704Mi' } } }],
    });
    expect(scene.all[0]?.spec?.affinity).toBeUndefined();
    scene.addNode('node-2', 'zero');
    await scene.keeper.look();
    expect(scene.all.length).toBeGreaterThan(5);
  });

  it('asks for a pool that no agent comes to once in an hour', async () => {
    const scene = new Scene();
    scene.homeless = [{ ...worker, nodeSelector: { pool: 'bare' } }];
    await scene.keeper.look();
    scene.addBareNode('node-2', 0, 'bare');
    scene.bind('node-2');
    await scene.keeper.look();
    await scene.clock.advance(600_000);
    await scene.keeper.look();
    expect(scene.all).toEqual([]);
    await scene.clock.advance(3_599_999);
    await scene.keeper.look();
    expect(scene.all).toEqual([]);
    await scene.clock.advance(1);
    await scene.keeper.look();
    expect(scene.all).toHaveLength(1);
  });

  it('asks for a processor that the image is made for, and for disk where /tmp is on disk', async () => {
    const scene = new Scene();
    scene.homeless = [{ ...worker, nodeSelector: {}, unfitArchitectures: ['arm64'], diskMiB: 512 }];
    await scene.keeper.look();
    expect(JSON.stringify(scene.all[0]?.spec?.affinity)).toContain(
      '{"key":"kubernetes.io/arch","operator":"NotIn","values":["arm64"]}',
    );
    expect(scene.all[0]?.spec?.containers?.[0]?.resources?.requests).toMatchObject({ 'ephemeral-storage': '512Mi' });
  });

  it('removes the Pods of before where none are to be made', async () => {
    const before = new Scene();
    await before.keeper.look();
    const scene = new Scene(null);
    for (const pod of before.all) {
      scene.cluster.put(pods, pod);
    }
    await scene.keeper.look();
    expect(scene.all).toEqual([]);
  });
});
