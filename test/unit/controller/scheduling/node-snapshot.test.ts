import { describe, expect, it } from 'vitest';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import { type EarlierLife, NodeLiveness } from '../../../../src/controller/nodes/liveness.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import { NodeSnapshot } from '../../../../src/controller/scheduling/node-snapshot.ts';
import type { Node } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { nodeFixture, workerFixture } from '../../../support/worker-fixture.ts';

type Taints = NonNullable<NonNullable<Node['spec']>['taints']>;

/** A snapshot over caches that a test fills. */
function scene(earlier?: ReadonlyMap<string, EarlierLife>) {
  const lambdaNodes = createObjectCache<LambdaNode>();
  const nodes = createObjectCache<Node>();
  const closures = new Map<string, 'draining' | 'unheld'>();
  const growing = new Set<string>();
  const clock = manualClock();
  const snapshot = new NodeSnapshot({
    client: {} as KubeClient,
    lambdaNodes,
    nodes,
    liveness: new NodeLiveness(earlier),
    assignments: new AssignmentCache(),
    closures: { closureOf: (node) => closures.get(node), isGrowing: (node) => growing.has(node) },
    clock,
  });
  let version = 1;
  const taint = (taints: Taints, spec: Node['spec'] = {}): void => {
    version++;
    const node = {
      metadata: { name: 'node-1', resourceVersion: String(version) },
      spec: { ...spec, taints },
    };
    nodes.set(node);
    snapshot.noteTaints('node-1', node);
  };
  lambdaNodes.set(nodeFixture());
  return { lambdaNodes, nodes, closures, growing, clock, snapshot, taint };
}

const driving = { key: 'maintenance', value: 'disk', effect: 'NoExecute' };
const tolerating = (tolerationSeconds?: number) =>
  workerFixture({
    spec: {
      tolerations: [
        {
          key: 'maintenance',
          operator: 'Exists',
          ...(tolerationSeconds === undefined ? {} : { effect: 'NoExecute' as const, tolerationSeconds }),
        },
      ],
    },
  });

describe('how a node stands to a worker of its own', () => {
  it('asks nothing of it while all is well', () => {
    const { snapshot, taint } = scene();
    expect(snapshot.standing(workerFixture(), 'node-1')).toEqual({ liveness: 'fresh' });
    // These taints keep new workers away, and drive none out.
    taint([
      { key: 'dedicated', effect: 'NoSchedule' },
      { key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' },
    ]);
    expect(snapshot.standing(workerFixture(), 'node-1')).toEqual({ liveness: 'fresh' });
  });

  it('asks it to leave when the node is retired or drained', () => {
    const { snapshot, lambdaNodes, closures } = scene();
    closures.set('node-1', 'unheld');
    expect(snapshot.standing(workerFixture(), 'node-1').leave).toBeUndefined();
    closures.set('node-1', 'draining');
    expect(snapshot.standing(workerFixture(), 'node-1').leave).toEqual({ kind: 'draining' });
    lambdaNodes.set(nodeFixture({ retired: true, metadata: { resourceVersion: '2' } }));
    expect(snapshot.standing(workerFixture(), 'node-1').leave).toEqual({ kind: 'retired' });
  });

  it('asks it to leave by a taint that it does not tolerate', () => {
    const { snapshot, taint } = scene();
    taint([driving]);
    expect(snapshot.standing(workerFixture(), 'node-1').leave).toEqual({
      kind: 'tainted',
      taint: 'maintenance=disk:NoExecute',
    });
    expect(snapshot.standing(tolerating(), 'node-1')).toEqual({ liveness: 'fresh' });
  });

  it('asks it to leave once the time is over for which it tolerates a taint', async () => {
    const { snapshot, taint, clock } = scene();
    taint([driving]);
    const worker = tolerating(60);
    expect(snapshot.standing(worker, 'node-1')).toEqual({ liveness: 'fresh', changesAfterMs: 60_000 });
    await clock.advance(40_000);
    // Something else about the Node changes: the time goes on.
    taint([driving], { unschedulable: true });
    expect(snapshot.standing(worker, 'node-1')).toEqual({ liveness: 'fresh', changesAfterMs: 20_000 });
    await clock.advance(20_000);
    expect(snapshot.standing(worker, 'node-1').leave).toMatchObject({ kind: 'tainted' });
    // A taint that was taken away and put on again counts from the start.
    taint([]);
    taint([driving]);
    expect(snapshot.standing(worker, 'node-1').changesAfterMs).toBe(60_000);
  });
});

describe('a node whose taint the leader before has seen', () => {
  it('is left once the time is over since the taint was added, and not since this leader has seen the taint', () => {
    const { snapshot, taint, clock } = scene();
    const timeAdded = new Date(clock.now() - 40_000).toISOString();
    taint([{ ...driving, timeAdded }]);
    expect(snapshot.standing(tolerating(60), 'node-1').changesAfterMs).toBe(20_000);
    // A leader that sees the taint come needs no other clock.
    taint([]);
    taint([{ ...driving, timeAdded }]);
    expect(snapshot.standing(tolerating(60), 'node-1').changesAfterMs).toBe(60_000);
  });
});

describe('a node that an earlier leader has found silent', () => {
  const found = (life: EarlierLife['life']) => scene(new Map([['node-1', { life, forMs: 0 }]])).snapshot;

  it('keeps its workers until its loss is confirmed, and says nothing of it', () => {
    const standing = found({ kind: 'lost', isConfirmed: false }).standing(workerFixture(), 'node-1');
    expect(standing).toEqual({ liveness: 'unreachable' });
  });

  it('says why its workers stay', () => {
    const standing = found({ kind: 'unreachable', because: 'RateLimited' }).standing(workerFixture(), 'node-1');
    expect(standing).toEqual({ liveness: 'unreachable', stays: 'RateLimited' });
  });

  it('gets no worker from the first moment on', () => {
    const snapshot = found({ kind: 'lost', isConfirmed: false });
    expect(snapshot.candidates(workerFixture(), false)).toMatchObject([{ name: 'node-1', ready: false }]);
    expect(snapshot.presence('node-1')).toMatchObject({ lost: true });
  });
});

describe('the situation of a node', () => {
  it('is its zone, by the labels of its Node', () => {
    const { nodes, snapshot } = scene();
    const { zone } = snapshot.situation('node-1');
    const labels = { 'topology.kubernetes.io/region': 'r', 'topology.kubernetes.io/zone': 'z' };
    nodes.set({ metadata: { name: 'node-1', labels, resourceVersion: '2' } });
    expect(snapshot.situation('node-1')).toEqual({ zone: 'r z', isLeft: false });
    expect(zone).not.toBe('r z');
  });

  it('is to be left once ESB is to leave it', () => {
    const { lambdaNodes, snapshot } = scene();
    lambdaNodes.set(nodeFixture({ retired: true, metadata: { resourceVersion: '2' } }));
    expect(snapshot.situation('node-1').isLeft).toBe(true);
  });
});

describe('a node that is about to have more room', () => {
  it('says so to workers that wait for room, and to no others', () => {
    const { snapshot, growing } = scene();
    const full = { type: 'Ready', status: 'False', reason: 'NodeFull', message: '', lastTransitionTime: '' } as const;
    const waiting = workerFixture({ status: { conditions: [full] } });
    expect(snapshot.standing(waiting, 'node-1')).not.toHaveProperty('growing');
    growing.add('node-1');
    expect(snapshot.standing(waiting, 'node-1').growing).toBe(true);
    expect(snapshot.standing(workerFixture(), 'node-1')).not.toHaveProperty('growing');
  });
});

describe('nodes as candidates', () => {
  it('are judged by the tolerations of each worker', () => {
    const { snapshot, taint } = scene();
    taint([driving]);
    expect(snapshot.candidates(workerFixture(), false)).toMatchObject([{ taints: 'barred' }]);
    expect(snapshot.candidates(tolerating(), false)).toMatchObject([{ taints: 'free' }]);
  });

  it('follow every change of what they are made of', () => {
    const { snapshot, lambdaNodes, closures, taint } = scene();
    const seen = () => snapshot.candidates(workerFixture(), false)[0];
    expect(seen()).toMatchObject({ ready: true, closed: undefined, hasImage: false });
    closures.set('node-1', 'draining');
    expect(seen()?.closed).toBe('draining');
    closures.clear();
    taint([], { unschedulable: true });
    expect(seen()?.closed).toBe('cordoned');
    taint([]);
    lambdaNodes.set(
      nodeFixture({ metadata: { resourceVersion: '2' }, status: { images: ['registry.example/hello:1'] } }),
    );
    expect(seen()).toMatchObject({ closed: undefined, hasImage: true });
  });
});

describe('what the Pods of a node depend on', () => {
  it('is that there is a Node, and whether it is cordoned', () => {
    const { snapshot, taint, nodes, lambdaNodes } = scene();
    expect(snapshot.presence('node-1')).toEqual({
      exists: false,
      isOutside: true,
      lost: false,
      retired: false,
      cordoned: false,
      departure: undefined,
      taints: [],
    });
    taint([], { unschedulable: true });
    expect(snapshot.presence('node-1')).toMatchObject({ exists: true, isOutside: false, cordoned: true });
    taint([{ key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' }]);
    // Its agent lives.
    expect(snapshot.presence('node-1')).toMatchObject({ exists: true });
    nodes.remove({ metadata: { name: 'node-1' } });
    lambdaNodes.set(nodeFixture({ retired: true, metadata: { resourceVersion: '2' } }));
    expect(snapshot.presence('node-1')).toMatchObject({ exists: false, retired: true });
    lambdaNodes.set(nodeFixture({ status: { unschedulable: false }, metadata: { resourceVersion: '3' } }));
    // There was one.
    expect(snapshot.presence('node-1')).toMatchObject({ exists: false, isOutside: false });
  });
});
