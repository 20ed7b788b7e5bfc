import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { type LambdaWorker, type LambdaWorkerSpec, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import { leases, type Node, nodes, type Pod, pods } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { renderChart } from '../../support/chart.ts';
import { clearObjects } from '../../support/clear-objects.ts';
import { type FakeNode, startFakeNode } from '../../support/fake-node.ts';
import { fastClock } from '../../support/fast-clock.ts';
import { optionsOf } from '../../support/options.ts';
import { waitFor } from '../../support/wait-for.ts';

const root = join(import.meta.dirname, '../../..');
const holdImage = 'registry.example/esb:1';
/** How many of the controller's seconds go by in one. */
const SPEED = 4;
type Taints = NonNullable<NonNullable<Node['spec']>['taints']>;

/**
 * Nodes of Kubernetes and what happens to them, with the agents and the kubelet played by the test. Each
 * test has nodes of its own label, so that it sees only those.
 */
describe('the controller, with Nodes and hold Pods on a real API server', () => {
  let server: ApiServer;
  let admin: KubeClient;
  let running: Promise<void>;
  const stop = new AbortController();
  const fakeNodes: FakeNode[] = [];

  beforeAll(async () => {
    server = await startApiServer({ audit: true });
    for (const part of ['crds', ...['namespace', 'rbac'].map((file) => `manifests/${file}.yaml`), 'manifests/local']) {
      await server.kubectl(['apply', '-f', join(root, part)]);
    }
    const values = [`hold.image=${holdImage}`, 'hold.priorityClass.name=', 'controller.localUser=true'];
    await server.kubectl(
      ['apply', '-f', '-'],
      await renderChart([
        ...['--show-only=templates/hold-policy.yaml', '--show-only=templates/priority-class.yaml'],
        ...values.flatMap((value) => ['--set', value]),
      ]),
    );
    admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
    running = runController(
      optionsOf(controllerFlags, [
        ...['--kubeconfig', await server.kubeconfig('esb:controller')],
        ...['--health', '127.0.0.1:0', '--identity', 'first', '--hold-image', holdImage],
        '--demand-priority-class=esb-demand',
      ]),
      { signal: stop.signal, logger: silentLogger() },
      fastClock(SPEED),
    );
    running.catch(() => undefined);
  });

  afterEach(async () => {
    await Promise.all(fakeNodes.map((node) => node.die()));
    fakeNodes.length = 0;
    // Nodes of earlier tests would count: where most nodes are silent, none is lost.
    await clearObjects(admin, lambdaWorkers);
    await clearObjects(admin, lambdaNodes);
  });

  afterAll(async () => {
    stop.abort();
    await running;
    await admin.close();
    await server.stop();
  });

  /** A Node with its agent. */
  const node = async (
    name: string,
    labels: Readonly<Record<string, string>> = {},
    status: Parameters<typeof startFakeNode>[2] = {},
  ): Promise<FakeNode> => {
    // Placement reads the labels of the Node, where there is one.
    const all = { pool: name.split('-')[0] ?? '', ...labels };
    await admin.create(nodes, { metadata: { name, labels: all } });
    // Nodes are born with a taint that goes with their first sign of life.
    await taint(name, []);
    const made = await startFakeNode(admin, name, { unschedulable: false, ...status }, all);
    fakeNodes.push(made);
    return made;
  };
  const taint = (name: string, taints: Taints) =>
    admin.patch(nodes, { name }, { kind: 'merge', body: { spec: { taints } } });
  const cordon = (name: string, unschedulable: boolean) =>
    admin.patch(nodes, { name }, { kind: 'merge', body: { spec: { unschedulable } } });
  const retire = (name: string) =>
    admin.patch(lambdaNodes, { name }, { kind: 'merge', body: { spec: { retired: true } } });

  const create = async (name: string, spec: Partial<LambdaWorkerSpec> = {}): Promise<void> => {
    const manifest = {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaWorker',
      metadata: { name, namespace: 'default' },
      spec: { image: 'hello:1', nodeSelector: { pool: name.split('-')[0] ?? '' }, ...spec },
    };
    await server.kubectl(['apply', '-f', '-'], stringify(manifest));
  };
  const find = (name: string) => admin.get(lambdaWorkers, { namespace: 'default', name });
  const when = (name: string, what: string, test: (worker: LambdaWorker) => boolean, timeoutMs = 30_000) =>
    waitFor(
      `${name}: ${what}`,
      async () => {
        const worker = await find(name);
        return worker !== undefined && test(worker) ? worker : undefined;
      },
      { timeoutMs },
    );
  const assigned = (name: string, nodeName?: string) =>
    when(name, `assigned to ${nodeName ?? 'a node'}`, ({ status }) =>
      nodeName === undefined ? status?.assignment !== undefined : status?.assignment?.nodeName === nodeName,
    );
  const condition = (worker: LambdaWorker, type: string) =>
    worker.status?.conditions?.find((found) => found.type === type);
  const told = (name: string, reason: string) =>
    when(name, `told ${reason}`, (worker) => {
      const found = condition(worker, 'Scheduled');
      return found?.status === 'False' && found.reason === reason;
    });
  const eventsOf = async (kind: 'LambdaNode' | 'LambdaWorker', name: string): Promise<readonly string[]> =>
    (
      await server.kubectl([
        'get',
        'events',
        '-A',
        '-o',
        'jsonpath={range .items[*]}{.involvedObject.kind} {.involvedObject.name} {.reason}{"\\n"}{end}',
      ])
    )
      .split('\n')
      .filter((line) => line.startsWith(`${kind} ${name} `))
      .map((line) => line.split(' ')[2] ?? '');
  const nodeEvents = (name: string): Promise<readonly string[]> => eventsOf('LambdaNode', name);

  const hold = (nodeName: string): Promise<Pod | undefined> =>
    admin.get(pods, { namespace: 'esb-system', name: `esb-hold-${nodeName}` });
  const holdWhen = (nodeName: string, what: string, test: (pod: Pod) => boolean, timeoutMs = 30_000) =>
    waitFor(
      `the guard of ${nodeName}: ${what}`,
      async () => {
        const pod = await hold(nodeName);
        return pod !== undefined && test(pod) ? pod : undefined;
      },
      { timeoutMs },
    );
  /** Work of the kubelet: takes both Pods of the node. Gives the guard. */
  const admit = async (nodeName: string): Promise<Pod> => {
    const pod = await holdWhen(nodeName, 'made', ({ metadata }) => metadata.deletionTimestamp === undefined);
    await tellPod(`esb-hold-${nodeName}`, { phase: 'Running' });
    await waitFor(`the reservation of ${nodeName}`, () => reservation(nodeName));
    await tellPod(`esb-reserve-${nodeName}`, { phase: 'Running' });
    return pod;
  };
  const tellPod = (name: string, status: object) =>
    admin.patch(
      pods,
      { namespace: 'esb-system', name },
      { kind: 'merge', body: { status: { startTime: '2026-11-01T00:00:00Z', ...status } } },
      { subresource: 'status' },
    );
  const reservation = (nodeName: string): Promise<Pod | undefined> =>
    admin.get(pods, { namespace: 'esb-system', name: `esb-reserve-${nodeName}` });
  /** Work of the kubelet once the processes have ended. */
  const confirmEnd = (nodeName: string) =>
    server.kubectl([
      'delete',
      'pod',
      `esb-hold-${nodeName}`,
      `esb-reserve-${nodeName}`,
      '--ignore-not-found',
      '-n',
      'esb-system',
      '--grace-period=0',
      '--force',
      '--wait=false',
    ]);
  const holdGone = (nodeName: string) =>
    waitFor(`the Pods of ${nodeName} to go`, async () => {
      const left = (await Promise.all([hold(nodeName), reservation(nodeName)])).filter((pod) => pod !== undefined);
      if (left.length > 0 && left.every(({ metadata }) => metadata.deletionTimestamp !== undefined)) {
        await confirmEnd(nodeName).catch(() => undefined);
      }
      return left.length === 0;
    });
  /** Report of the agent about its containers. */
  const present = (fake: FakeNode, workers: number) => fake.tell({ allocated: { memoryMiB: workers * 192, workers } });

  it('goes by the labels of the Node, whatever its agent has written into the LambdaNode', async () => {
    await node('liar-1');
    await admin.patch(
      lambdaNodes,
      { name: 'liar-1' },
      { kind: 'merge', body: { metadata: { labels: { pool: 'vault' } } } },
    );
    await create('vault-a');
    await told('vault-a', 'NoneMatches');
    await admin.patch(nodes, { name: 'liar-1' }, { kind: 'merge', body: { metadata: { labels: { pool: 'vault' } } } });
    await assigned('vault-a', 'liar-1');
  });

  it('keeps workers off tainted Nodes, drives them out by NoExecute, and honours what they tolerate', async () => {
    await node('taints-1');
    await taint('taints-1', [{ key: 'dedicated', value: 'web', effect: 'NoSchedule' }]);
    await create('taints-a');
    await told('taints-a', 'NoneTolerated');
    await create('taints-b', {
      tolerations: [{ key: 'dedicated', operator: 'Equal', value: 'web', effect: 'NoSchedule' }],
    });
    await assigned('taints-b', 'taints-1');
    await node('taints-2');
    await assigned('taints-a', 'taints-2');

    await taint('taints-2', [{ key: 'broken', effect: 'NoExecute' }]);
    // Nothing else will do: it is taken away.
    const away = await when('taints-a', 'taken away', ({ status }) => status?.assignment === undefined);
    expect(away.status).toMatchObject({ lastEpoch: 1, phase: 'Pending' });
    expect(condition(away, 'Ready')).toMatchObject({ status: 'False', reason: 'Unassigned' });
    await taint('taints-2', []);
    const back = await assigned('taints-a', 'taints-2');
    expect(back.status?.assignment?.epoch).toBe(2);
    expect(back.status).not.toHaveProperty('lastEpoch');
    expect(back.metadata.finalizers).toEqual(['esb.dev/worker']);

    // A kubelet that is silent is not the agent's silence.
    await taint('taints-2', [{ key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' }]);
    await create('taints-c', {
      tolerations: [
        { key: 'dedicated', operator: 'Exists' },
        { key: 'broken', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 3 * SPEED },
      ],
    });
    await assigned('taints-c', 'taints-1');
    expect((await find('taints-a'))?.status?.assignment).toEqual({ nodeName: 'taints-2', epoch: 2 });

    await taint('taints-2', []);
    const since = performance.now();
    await taint('taints-1', [{ key: 'broken', effect: 'NoExecute' }]);
    await assigned('taints-b', 'taints-2');
    await assigned('taints-c', 'taints-2');
    expect(performance.now() - since).toBeGreaterThan(2_500);
  });

  it('spreads a function over zones', async () => {
    await node('zones-1', { zone: 'a' });
    await node('zones-2', { zone: 'a' });
    await node('zones-3', { zone: 'b' }, { capacity: { memoryMiB: 384, milliCPU: 2_800, workers: 2 } });
    const spec = {
      functionName: 'zones',
      topologySpread: { topologyKey: 'zone', maxSkew: 1, whenUnsatisfiable: 'DoNotSchedule' as const },
    };
    for (const letter of ['a', 'b', 'c', 'd', 'e']) {
      await create(`zones-${letter}`, spec);
      await assigned(`zones-${letter}`);
    }
    const places = await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map(async (letter) => (await find(`zones-${letter}`))?.status?.assignment?.nodeName),
    );
    expect(places.filter((name) => name === 'zones-3')).toHaveLength(2);
    // Zone b is full, and zone a may not get further ahead.
    await create('zones-f', spec);
    await told('zones-f', 'SpreadUnmet');
    await create('zones-g', {
      ...spec,
      topologySpread: { ...spec.topologySpread, whenUnsatisfiable: 'ScheduleAnyway' },
    });
    await assigned('zones-g');
  });

  it('gives a node with workers a guard and a reservation, writes no more, and lets go of both with the last', async () => {
    const fake = await node('hold-1');
    await create('hold-a');
    const pod = await admit('hold-1');
    expect(pod).toMatchObject({
      metadata: { finalizers: ['esb.dev/hold'] },
      spec: {
        serviceAccountName: 'esb-hold',
        nodeName: 'hold-1',
        containers: [{ image: holdImage, args: ['guard'], resources: { requests: { memory: '4Mi' } } }],
      },
    });
    expect(await reservation('hold-1')).toMatchObject({
      metadata: { ownerReferences: [{ kind: 'ServiceAccount', name: 'esb-reserve' }] },
      spec: {
        serviceAccountName: 'esb-reserve',
        nodeName: 'hold-1',
        containers: [{ image: holdImage, args: ['reserve'], resources: { requests: { memory: '516Mi' } } }],
      },
    });
    const restricted = await server.kubectl([
      'label',
      '--dry-run=server',
      '--overwrite',
      'ns',
      'esb-system',
      'pod-security.kubernetes.io/enforce=restricted',
    ]);
    expect(restricted).not.toMatch(/esb-(hold|reserve)/);
    await present(fake, 1);
    await create('hold-b');
    await assigned('hold-b', 'hold-1');
    await present(fake, 2);
    const writes = () =>
      server
        .auditEvents()
        .filter(
          ({ user, objectRef, verb }) =>
            user.username === 'esb:controller' &&
            objectRef?.resource === 'pods' &&
            /^esb-(hold|reserve)-hold-1$/.test(objectRef.name ?? '') &&
            !['get', 'list', 'watch'].includes(verb),
        ).length;
    expect(writes()).toBe(2);

    for (const name of ['hold-a', 'hold-b']) {
      await admin.delete(lambdaWorkers, { namespace: 'default', name });
      const deleting = await when(name, 'to be deleted', ({ metadata }) => metadata.deletionTimestamp !== undefined);
      await fake.cleanUp(deleting);
      await waitFor(`${name} to go`, async () => (await find(name)) === undefined);
    }
    await present(fake, 0);
    await holdGone('hold-1');
  });

  it('empties a node for `kubectl drain`, which waits for that, and gives a cordoned node nothing new', async () => {
    const fake = await node('drain-1');
    await create('drain-a');
    await create('drain-b');
    await assigned('drain-a', 'drain-1');
    await assigned('drain-b', 'drain-1');
    await present(fake, 2);
    await admit('drain-1');
    const other = await node('drain-2', {}, { capacity: { memoryMiB: 192, milliCPU: 2_800, workers: 1 } });
    let drained = false;
    const drain = server.kubectl(['drain', 'drain-1', '--ignore-daemonsets', '--timeout=120s']).finally(() => {
      drained = true;
    });
    drain.catch(() => undefined);
    const staying = await waitFor('one worker to move', async () => {
      const both = await Promise.all(['drain-a', 'drain-b'].map((name) => find(name)));
      const [moved, stayed] = both.toSorted((a) => (a?.status?.assignment?.nodeName === 'drain-2' ? -1 : 1));
      return moved?.status?.assignment?.nodeName === 'drain-2' ? stayed : undefined;
    });
    // The other has no place to go, and says so; the drain waits.
    const name = staying?.metadata.name ?? '';
    const waiting = await told(name, 'NoneFits');
    expect(condition(waiting, 'Scheduled')?.message).toContain('drain-1 is being drained');
    expect(waiting.status?.assignment).toEqual({ nodeName: 'drain-1', epoch: 1 });
    await present(fake, 1);
    await create('drain-c');
    await told('drain-c', 'NoneFits');
    expect(drained).toBe(false);

    await other.tell({ capacity: { memoryMiB: 384, milliCPU: 2_800, workers: 2 } });
    await assigned(name, 'drain-2');
    expect((await hold('drain-1'))?.metadata.finalizers).toEqual(['esb.dev/hold']);
    // Only once the agent has removed its containers.
    await present(fake, 0);
    await holdGone('drain-1');
    await drain;
    await waitFor('the Events', async () => {
      const reasons = await nodeEvents('drain-1');
      return reasons.includes('Draining') && reasons.includes('Drained');
    });
    await cordon('drain-1', false);
    await assigned('drain-c', 'drain-1');
  });

  it('calls a drain off when the Node is uncordoned', async () => {
    const fake = await node('quit-1');
    await create('quit-a');
    await assigned('quit-a', 'quit-1');
    await present(fake, 1);
    await admit('quit-1');
    await cordon('quit-1', true);
    const first = await hold('quit-1');
    await admin.delete(pods, { namespace: 'esb-system', name: 'esb-hold-quit-1' });
    await told('quit-a', 'AllCordoned');
    await cordon('quit-1', false);
    await waitFor(
      'the Pod to be made anew',
      async () => {
        const pod = await hold('quit-1');
        if (pod?.metadata.deletionTimestamp !== undefined && pod.metadata.finalizers === undefined) {
          await confirmEnd('quit-1').catch(() => undefined);
        }
        return pod !== undefined && pod.metadata.uid !== first?.metadata.uid;
      },
      { timeoutMs: 30_000 },
    );
    const stayed = await when('quit-a', 'to stay', (worker) => condition(worker, 'Scheduled')?.status === 'True');
    expect(stayed.status?.assignment).toEqual({ nodeName: 'quit-1', epoch: 1 });
  });

  it('gives no more workers to a node whose kubelet refuses the reservation, until it takes one', async () => {
    await node('unheld-1');
    await create('unheld-a');
    await admit('unheld-1');
    const refuse = async (): Promise<void> => {
      const pod = await reservation('unheld-1');
      if (pod?.metadata.deletionTimestamp !== undefined) {
        await server.kubectl(['delete', 'pod', pod.metadata.name, '-n', 'esb-system', '--grace-period=0', '--force']);
      } else if (pod !== undefined && pod.status?.phase !== 'Failed') {
        await tellPod(pod.metadata.name, { phase: 'Failed', reason: 'OutOfmemory', message: 'not enough memory' });
      }
    };
    await waitFor(
      'the Event',
      async () => {
        await refuse().catch(() => undefined);
        return (await nodeEvents('unheld-1')).includes('HoldRefused');
      },
      { timeoutMs: 60_000 },
    );
    await create('unheld-b');
    const refused = await told('unheld-b', 'NoneHeld');
    expect(condition(refused, 'Scheduled')?.message).toContain('whose reservation finds no room');
    expect((await find('unheld-a'))?.status?.assignment?.nodeName).toBe('unheld-1');
    await waitFor(
      'a reservation that is taken',
      async () => {
        const pod = await reservation('unheld-1');
        if (pod?.status?.phase === 'Failed' || pod?.metadata.deletionTimestamp !== undefined) {
          await server
            .kubectl(['delete', 'pod', pod.metadata.name, '-n', 'esb-system', '--grace-period=0', '--force'])
            .catch(() => undefined);
          return false;
        }
        if (pod !== undefined) {
          await tellPod(pod.metadata.name, { phase: 'Running' });
        }
        return (await find('unheld-b'))?.status?.assignment?.nodeName === 'unheld-1';
      },
      { timeoutMs: 60_000 },
    );
  });

  it('moves the workers of a node that an autoscaler is about to take, before it evicts anything', async () => {
    const fake = await node('leaving-1');
    await create('leaving-a');
    await assigned('leaving-a', 'leaving-1');
    await present(fake, 1);
    await admit('leaving-1');
    await node('leaving-2');
    await taint('leaving-1', [{ key: 'karpenter.sh/disrupted', effect: 'NoSchedule' }]);
    await assigned('leaving-a', 'leaving-2');
    const guard = await hold('leaving-1');
    expect(guard?.metadata.deletionTimestamp).toBeUndefined();
    // An eviction waits until the agent has nothing left there.
    await admin.delete(pods, { namespace: 'esb-system', name: 'esb-hold-leaving-1' });
    await confirmEnd('leaving-1');
    expect((await hold('leaving-1'))?.metadata.finalizers).toEqual(['esb.dev/hold']);
    await present(fake, 0);
    await holdGone('leaving-1');
  });

  it('reserves by steps what workers take, by resizes, and promises what the kubelet has allocated', async () => {
    // Fills in no limit of its own, which would refuse larger reservations.
    const limits = { limits: [{ type: 'Container', default: { memory: '512Mi', cpu: '500m' } }] };
    const range = { apiVersion: 'v1', kind: 'LimitRange', metadata: { name: 'usual' }, spec: limits };
    await server.kubectl(['apply', '-n', 'esb-system', '-f', '-'], stringify(range));
    onTestFinished(async () => {
      await server.kubectl(['delete', 'limitrange', 'usual', '-n', 'esb-system']);
    });
    const promised = { memoryMiB: 1536 };
    const fake = await node('sized-1', {}, { promised });
    // The API server refuses a resize beyond that.
    const allocatable = { memory: '4Gi', cpu: '4', pods: '110' };
    const toStatus = { subresource: 'status' } as const;
    await admin.patch(nodes, { name: 'sized-1' }, { kind: 'merge', body: { status: { allocatable } } }, toStatus);
    const reservedIs = (memoryMiB: number) =>
      waitFor(
        `${memoryMiB} MiB to be promised`,
        async () => (await admin.get(lambdaNodes, { name: 'sized-1' }))?.status?.reserved?.memoryMiB === memoryMiB,
        { timeoutMs: 40_000 },
      );
    const askedFor = (memory: string) =>
      waitFor(
        `a reservation of ${memory}`,
        async () => (await reservation('sized-1'))?.spec?.containers?.[0]?.resources?.requests?.memory === memory,
        { timeoutMs: 40_000 },
      );
    /** Work of a kubelet that resizes Pods. */
    const allocate = (memory: string, conditions: readonly object[] = []) =>
      tellPod('esb-reserve-sized-1', {
        phase: 'Running',
        conditions,
        containerStatuses: [
          {
            name: 'hold',
            image: holdImage,
            imageID: '',
            ready: true,
            restartCount: 0,
            state: { running: { startedAt: '2026-11-01T00:00:00Z' } },
            allocatedResources: { memory },
            resources: { requests: { memory } },
          },
        ],
      });
    await reservedIs(0);
    await fake.tell({ promised: { memoryMiB: 0 } });
    // A worker that rests costs one step.
    await create('sized-a', { desiredState: 'Absent' });
    await assigned('sized-a', 'sized-1');
    await askedFor('260Mi');
    await reservedIs(0);
    await allocate('260Mi');
    await reservedIs(256);
    // 3 times 192 MiB, and a step.
    for (const letter of ['b', 'c', 'd']) {
      await create(`sized-${letter}`);
      await assigned(`sized-${letter}`, 'sized-1');
    }
    await askedFor('1028Mi');
    await reservedIs(256);
    await allocate('1028Mi');
    await reservedIs(1024);
    await fake.tell({ promised: { memoryMiB: 1024 }, allocated: { memoryMiB: 576, workers: 3 } });
    // Two go. The promise leads, and the reservation follows the agent.
    for (const letter of ['c', 'd']) {
      await admin.delete(lambdaWorkers, { namespace: 'default', name: `sized-${letter}` });
      await fake.cleanUp(
        await when(`sized-${letter}`, 'to be deleted', ({ metadata }) => metadata.deletionTimestamp !== undefined),
      );
    }
    await fake.tell({ allocated: { memoryMiB: 192, workers: 1 } });
    await reservedIs(512);
    await askedFor('1028Mi');
    await fake.tell({ promised: { memoryMiB: 512 } });
    await askedFor('516Mi');
    await allocate('516Mi');
    // A resize that the kubelet puts off closes the node.
    await create('sized-e', { resources: { limits: { memory: '512Mi' }, pids: 256 } });
    await assigned('sized-e', 'sized-1');
    await askedFor('1028Mi');
    const deferred = { type: 'PodResizePending', status: 'True', reason: 'Deferred', message: 'not enough memory' };
    await allocate('516Mi', [deferred]);
    await create('sized-f');
    await waitFor('the Event', async () => (await nodeEvents('sized-1')).includes('HoldRefused'), {
      timeoutMs: 60_000,
    });
    await create('sized-g');
    await told('sized-g', 'NoneHeld');
    await reservedIs(512);
  });

  it('asks an autoscaler for the first node of a pool, beside nodes of other pools', async () => {
    await node('other-1');
    await create('zero-a');
    await told('zero-a', 'NoneMatches');
    const demand = await waitFor('a demand', async () => {
      const selected = { namespace: 'esb-system', labelSelector: 'esb.dev/hold-role=demand' };
      const { items } = await admin.list(pods, selected);
      return items.find(({ spec }) => spec?.nodeSelector?.pool === 'zero');
    });
    expect(demand.spec?.containers?.[0]?.resources?.requests).toMatchObject({ memory: '196Mi' });
    expect(demand.spec?.affinity).toBeUndefined();
  });

  it('asks an autoscaler for a node where workers find no room, and places them there once its agent is ready', async () => {
    const demands = async (): Promise<readonly Pod[]> => {
      const selected = { namespace: 'esb-system', labelSelector: 'esb.dev/hold-role=demand' };
      const { items } = await admin.list(pods, selected);
      return items.filter(({ spec }) => spec?.nodeSelector?.pool === 'more');
    };
    await node('more-1', {}, { capacity: { memoryMiB: 256, milliCPU: 2_800, workers: 10 } });
    await create('more-a');
    await assigned('more-a', 'more-1');
    await create('more-b');
    await told('more-b', 'NoneFits');
    const [demand] = await waitFor('a demand', async () => {
      const found = await demands();
      return found.length > 0 ? found : undefined;
    });
    expect(demand?.spec).toMatchObject({
      priority: -5,
      preemptionPolicy: 'Never',
      containers: [{ resources: { requests: { memory: '196Mi' } } }],
    });
    // Work of the autoscaler and of the scheduler.
    await admin.create(nodes, { metadata: { name: 'more-2', labels: { pool: 'more' } } });
    await taint('more-2', []);
    const name = demand?.metadata.name ?? '';
    const binding = {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name, namespace: 'esb-system' },
      target: { apiVersion: 'v1', kind: 'Node', name: 'more-2' },
    };
    const path = `/api/v1/namespaces/esb-system/pods/${name}/binding`;
    await server.kubectl(['create', '--raw', path, '-f', '-'], JSON.stringify(binding));
    await tellPod(name, { phase: 'Running' });
    // Until the agent of the new node is ready the node is kept.
    await delay(12_000 / SPEED);
    expect(await demands()).toHaveLength(1);
    fakeNodes.push(await startFakeNode(admin, 'more-2', { unschedulable: false }, { pool: 'more' }));
    await assigned('more-b', 'more-2');
    await waitFor('the demand to go', async () => {
      const left = await demands();
      const going = left.filter(({ metadata }) => metadata.deletionTimestamp !== undefined);
      for (const { metadata } of going) {
        await server.kubectl(['delete', 'pod', metadata.name, '-n', 'esb-system', '--grace-period=0', '--force']);
      }
      return left.length === 0;
    });
  });

  it('empties a retired node, of workers that fit nowhere else as well', async () => {
    const fake = await node('retire-1');
    await create('retire-a');
    await create('retire-b', { nodeName: 'retire-1', nodeSelector: {} });
    await assigned('retire-a', 'retire-1');
    await assigned('retire-b', 'retire-1');
    await present(fake, 2);
    await admit('retire-1');
    await node('retire-2');
    await retire('retire-1');
    await assigned('retire-a', 'retire-2');
    await when('retire-b', 'taken away', ({ status }) => status?.assignment === undefined);
    await present(fake, 0);
    await holdGone('retire-1');
    await retire('retire-2');
    await when('retire-a', 'taken away', ({ status }) => status?.assignment === undefined);
    await admin.delete(lambdaWorkers, { namespace: 'default', name: 'retire-a' });
    await waitFor('retire-a to be let go', async () => (await find('retire-a')) === undefined);
  });

  it('moves the workers of a deleted Node once its agent is silent, and lets go what is left of it', async () => {
    const fake = await node('deleted-1');
    for (const letter of ['a', 'b', 'c']) {
      await create(`deleted-${letter}`);
      await assigned(`deleted-${letter}`, 'deleted-1');
    }
    await present(fake, 3);
    await admit('deleted-1');
    await node('deleted-2', {}, { capacity: { memoryMiB: 192, milliCPU: 2_800, workers: 1 } });
    await admin.delete(lambdaWorkers, { namespace: 'default', name: 'deleted-a' });
    await fake.die();
    await admin.delete(nodes, { name: 'deleted-1' });
    await waitFor('deleted-a to be let go', async () => (await find('deleted-a')) === undefined, {
      timeoutMs: 60_000,
    });
    const both = await waitFor('one to be moved and one to be taken away', async () => {
      const workers = await Promise.all(['deleted-b', 'deleted-c'].map((name) => find(name)));
      const isMoved = workers.some((worker) => worker?.status?.assignment?.nodeName === 'deleted-2');
      const isAway = workers.some((worker) => worker?.status?.assignment === undefined);
      return isMoved && isAway ? workers : undefined;
    });
    const moved = both.find((worker) => worker?.status?.assignment !== undefined);
    expect(moved?.status?.assignment?.epoch).toBe(2);
    await holdGone('deleted-1');
    await waitFor('the LambdaNode and its Lease to go', async () => {
      const lease = await admin.get(leases, { namespace: 'esb-system', name: 'deleted-1' });
      return (await admin.get(lambdaNodes, { name: 'deleted-1' })) === undefined && lease === undefined;
    });
  });

  it('lets a worker that is deleted go once the node that it was taken away from has nothing of it', async () => {
    const only = await node('left-1', {}, { leaving: [] });
    const uidOf = async (name: string) => (await find(name))?.metadata.uid ?? '';
    const takeAway = async (names: readonly string[]) => {
      await Promise.all(names.map((name) => assigned(name, 'left-1')));
      await taint('left-1', [{ key: 'broken', effect: 'NoExecute' }]);
      await Promise.all(
        names.map((name) => when(name, 'taken away', ({ status }) => status?.assignment === undefined)),
      );
    };
    /** Until the controller has seen what was done before. */
    const seen = async (name: string) => {
      await create(name);
      await told(name, 'NoneTolerated');
      await admin.delete(lambdaWorkers, { namespace: 'default', name });
    };
    await create('left-a');
    await create('left-b');
    const uids = [await uidOf('left-a'), await uidOf('left-b')];
    await takeAway(['left-a', 'left-b']);
    // Of the one the agent has told by then, of the other not yet.
    await only.tell({ leaving: uids.slice(0, 1) });
    await admin.delete(lambdaWorkers, { namespace: 'default', name: 'left-a' });
    await admin.delete(lambdaWorkers, { namespace: 'default', name: 'left-b' });
    await seen('left-c');
    expect((await find('left-a'))?.metadata.finalizers).toEqual(['esb.dev/worker']);
    expect((await find('left-b'))?.metadata.finalizers).toEqual(['esb.dev/worker']);
    await only.tell({ leaving: uids });
    await only.tell({ leaving: uids.slice(0, 1) });
    await waitFor('left-b to be let go', async () => (await find('left-b')) === undefined);
    expect((await find('left-a'))?.metadata.finalizers).toEqual(['esb.dev/worker']);
    await only.tell({ leaving: [] });
    await waitFor('left-a to be let go', async () => (await find('left-a')) === undefined);
  });
});
