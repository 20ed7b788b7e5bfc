import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaQuotas } from '../../../src/api/lambda-quota.ts';
import { type LambdaWorker, type LambdaWorkerSpec, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { runController } from '../../../src/controller/main.ts';
import { certificateSigningRequests, configMaps, nodes } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { controllerFlags } from '../../../src/options/controller.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { clearObjects } from '../../support/clear-objects.ts';
import { type FakeNode, startFakeNode } from '../../support/fake-node.ts';
import { fastClock } from '../../support/fast-clock.ts';
import { optionsOf } from '../../support/options.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerManifests } from '../../support/worker-manifests.ts';

const root = join(import.meta.dirname, '../../..');

/** The controller's time, in which a node is lost after 10 s of silence in place of 40. */
const clock = fastClock(4);
const LOST_AFTER_MS = 10_000;

/** Each test has nodes of its own label, so that it sees only those. */
describe('the controller, as the user esb:controller of a real API server', () => {
  let server: ApiServer;
  let admin: KubeClient;
  let running: Promise<void>;
  const stop = new AbortController();
  const fakeNodes: FakeNode[] = [];

  beforeAll(async () => {
    server = await startApiServer({ audit: true });
    for (const part of ['crds', 'manifests/namespace.yaml', 'manifests/rbac.yaml', 'manifests/local']) {
      await server.kubectl(['apply', '-f', join(root, part)]);
    }
    admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
    running = runController(
      optionsOf(controllerFlags, [
        ...['--kubeconfig', await server.kubeconfig('esb:controller')],
        ...['--health', '127.0.0.1:0', '--identity', 'first'],
      ]),
      { signal: stop.signal, logger: silentLogger() },
      clock,
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

  const node = async (...parameters: [string, Parameters<typeof startFakeNode>[2]?]): Promise<FakeNode> => {
    const [name, status] = parameters;
    const made = await startFakeNode(admin, name, status, { pool: name.split('-')[0] ?? '' });
    fakeNodes.push(made);
    return made;
  };

  const create = async (name: string, spec: Partial<LambdaWorkerSpec> = {}): Promise<LambdaWorker> => {
    const manifest = {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaWorker',
      metadata: { name, namespace: 'default' },
      spec: { image: 'hello:1', nodeSelector: { pool: name.split('-')[0] ?? '' }, ...spec },
    };
    await server.kubectl(['apply', '-f', '-'], stringify(manifest));
    return get(name);
  };

  const find = (name: string) => admin.get(lambdaWorkers, { namespace: 'default', name });
  const get = async (name: string): Promise<LambdaWorker> => {
    const worker = await find(name);
    if (worker === undefined) {
      throw new Error(`there is no worker ${name}`);
    }
    return worker;
  };
  const when = (name: string, what: string, test: (worker: LambdaWorker) => boolean, timeoutMs = 30_000) =>
    waitFor(
      `${name}: ${what}`,
      async () => {
        const worker = await get(name);
        return test(worker) ? worker : undefined;
      },
      { timeoutMs },
    );
  const condition = (worker: LambdaWorker, type: string) =>
    worker.status?.conditions?.find((found) => found.type === type);
  const assigned = (name: string, nodeName?: string, timeoutMs?: number) =>
    when(
      name,
      `assigned to ${nodeName ?? 'a node'}`,
      (worker) =>
        worker.status?.assignment !== undefined &&
        (nodeName === undefined || worker.status.assignment.nodeName === nodeName),
      timeoutMs,
    );
  const remove = (name: string) => admin.delete(lambdaWorkers, { namespace: 'default', name });
  const eventsOf = async (name: string) =>
    (
      await server.kubectl([
        'get',
        'events',
        '-o',
        'jsonpath={range .items[*]}{.involvedObject.name} {.reason}{"\\n"}{end}',
      ])
    )
      .split('\n')
      .filter((line) => line.startsWith(`${name} `))
      .map((line) => line.split(' ')[1]);

  it('assigns a worker, with finalizer, condition and Event, and then writes no more', async () => {
    await node('plain-1');
    await create('plain-a');
    const worker = await assigned('plain-a', 'plain-1');
    expect(worker.metadata.finalizers).toEqual(['esb.dev/worker']);
    expect(worker.status?.assignment).toEqual({ nodeName: 'plain-1', epoch: 1 });
    expect(condition(worker, 'Scheduled')).toMatchObject({
      status: 'True',
      reason: 'Assigned',
      message: 'assigned to node plain-1',
      observedGeneration: 1,
    });
    await waitFor('the Event', async () => (await eventsOf('plain-a')).includes('Assigned'));
    const writes = () =>
      server
        .auditEvents()
        .filter(
          (event) =>
            event.user.username === 'esb:controller' &&
            event.objectRef?.resource === 'lambdaworkers' &&
            event.objectRef.name === 'plain-a' &&
            event.verb !== 'get',
        ).length;
    expect(writes()).toBe(2);
    // A change of the spec that does not concern it, a report of the agent, and a while.
    await server.kubectl(['patch', 'lw', 'plain-a', '--type=merge', '-p', '{"spec":{"timeoutSeconds":7}}']);
    await fakeNodes[0]?.report(await get('plain-a'), 'Running', { status: 'True', reason: 'Running' });
    await assigned(await create('plain-b').then(({ metadata }) => metadata.name));
    expect(writes()).toBe(2);
  });

  it('spreads one function over the nodes and honours capacity, cordon and readiness', async () => {
    const first = await node('spread-1', { images: ['docker.io/library/hello:1'] });
    await node('spread-2');
    for (const letter of ['a', 'b', 'c', 'd']) {
      await create(`spread-${letter}`, { functionName: 'spread' });
    }
    const places = await Promise.all(
      ['a', 'b', 'c', 'd'].map(async (letter) => (await assigned(`spread-${letter}`)).status?.assignment?.nodeName),
    );
    expect(places.toSorted((a, b) => String(a).localeCompare(String(b)))).toEqual([
      'spread-1',
      'spread-1',
      'spread-2',
      'spread-2',
    ]);

    await admin.patch(lambdaNodes, { name: 'spread-2' }, { kind: 'merge', body: { spec: { unschedulable: true } } });
    await create('spread-e', { functionName: 'spread' });
    await assigned('spread-e', 'spread-1');

    await first.tell({
      conditions: [
        {
          type: 'Ready',
          status: 'False',
          reason: 'ContainerdDown',
          message: '',
          lastTransitionTime: '2026-11-01T00:00:00Z',
        },
      ],
    });
    await create('spread-f', { functionName: 'spread' });
    const waiting = await when('spread-f', 'told', (worker) => condition(worker, 'Scheduled')?.status === 'False');
    expect(condition(waiting, 'Scheduled')).toMatchObject({
      reason: 'AllCordoned',
      message: expect.stringMatching(/not ready|cordoned/) as string,
    });
    expect(waiting.metadata.finalizers).toBeUndefined();
    await admin.patch(lambdaNodes, { name: 'spread-2' }, { kind: 'merge', body: { spec: { unschedulable: false } } });
    await assigned('spread-f', 'spread-2');
  });

  it('never promises more than there is, and fills a place as soon as it is free', async () => {
    const only = await node('tight-1', { capacity: { memoryMiB: 384, milliCPU: 100_000, workers: 10 } });
    await Promise.all(['a', 'b', 'c'].map((letter) => create(`tight-${letter}`)));
    const workers = await waitFor('two of three to be assigned', async () => {
      const all = await Promise.all(['a', 'b', 'c'].map((letter) => get(`tight-${letter}`)));
      return all.every((worker) => condition(worker, 'Scheduled') !== undefined) ? all : undefined;
    });
    const [leaving, staying, ...rest] = workers.filter((worker) => worker.status?.assignment !== undefined);
    const waiting = workers.find((worker) => worker.status?.assignment === undefined);
    if (leaving === undefined || staying === undefined || waiting === undefined) {
      throw new Error('not two of three were assigned');
    }
    expect(rest).toEqual([]);
    expect(condition(waiting, 'Scheduled')).toMatchObject({ status: 'False', reason: 'NoneFits' });
    await only.report(leaving, 'Paused', { status: 'True', reason: 'Paused' });
    await remove(leaving.metadata.name);
    // Being cleaned up, it still holds its memory.
    const deleting = await when(
      leaving.metadata.name,
      'to be deleted',
      (worker) => worker.metadata.deletionTimestamp !== undefined,
    );
    expect((await get(waiting.metadata.name)).status?.assignment).toBeUndefined();
    await only.cleanUp(deleting);
    await assigned(waiting.metadata.name, 'tight-1');
    await waitFor('the deletion', async () => (await find(leaving.metadata.name)) === undefined);
  });

  it('holds a namespace to its quota: refuses by its name, serves the oldest first, evicts none, bounds growth', {
    tags: ['T32'],
  }, async () => {
    await node('quota-1');
    const quotaOf = (hard: object) => ({
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaQuota',
      metadata: { name: 'team', namespace: 'default' },
      spec: { hard },
    });
    const bound = (hard: object) => server.kubectl(['apply', '-f', '-'], stringify(quotaOf(hard)));
    const used = (memory: string, workers: number) =>
      waitFor(`${memory} and ${workers} workers to be told`, async () => {
        const { status } = (await admin.get(lambdaQuotas, { namespace: 'default', name: 'team' })) ?? {};
        return status?.used?.memory === memory && status.used.workers === workers;
      });
    await create('quota-first', { resources: { limits: { memory: '64Mi' }, pids: 256 } });
    await assigned('quota-first');
    await bound({ memory: '400Mi', workers: 4 });
    // Workers that are there are counted from now on.
    await when('quota-first', 'counted', ({ status }) => status?.assignment?.granted?.memoryMiB === 128);
    const names = ['quota-a', 'quota-b', 'quota-c', 'quota-d'];
    await server.kubectl(['create', '-f', '-'], workerManifests('default', names, { nodeSelector: { pool: 'quota' } }));
    await assigned('quota-a');
    const refused = await when('quota-d', 'told', (one) => condition(one, 'Scheduled')?.status === 'False');
    expect(condition(refused, 'Scheduled')).toMatchObject({
      reason: 'QuotaExceeded',
      message: expect.stringMatching(/LambdaQuota team .* requested memory 192Mi, used \d+Mi, hard 400Mi/) as string,
    });
    expect(refused.metadata.finalizers).toBeUndefined();
    await waitFor('the Event', async () => (await eventsOf('quota-d')).includes('FailedScheduling'));
    await used('320Mi', 2);
    // Lowered below what is used, it takes no worker its node.
    await bound({ memory: '100Mi', workers: 4 });
    await bound({ memory: '512Mi', workers: 3 });
    await assigned('quota-b');
    expect((await get('quota-a')).status?.assignment?.epoch).toBe(1);
    expect((await get('quota-first')).status?.assignment?.epoch).toBe(1);
    expect((await get('quota-c')).status?.assignment).toBeUndefined();
    // One that grows beyond the quota keeps its node and what it had, and no other gets that.
    const grown = { resources: { limits: { memory: '512Mi' } } };
    await server.kubectl(['patch', 'lw', 'quota-b', '--type=merge', '-p', JSON.stringify({ spec: grown })]);
    const told = await when('quota-b', 'told', (one) => condition(one, 'Scheduled')?.reason === 'QuotaExceeded');
    expect(told.status?.assignment).toMatchObject({ epoch: 1, granted: { memoryMiB: 192 } });
    await waitFor('the Event', async () => (await eventsOf('quota-b')).includes('FailedScheduling'));
    expect((await get('quota-c')).status?.assignment).toBeUndefined();
    await used('512Mi', 3);
    await admin.delete(lambdaQuotas, { namespace: 'default', name: 'team' });
    const grew = await when('quota-b', 'granted', (one) => condition(one, 'Scheduled')?.status === 'True');
    expect(grew.status?.assignment).toMatchObject({ epoch: 1 });
    await assigned('quota-c');
    await when('quota-a', 'counted no more', ({ status }) => status?.assignment?.granted === undefined);
  });

  it('lets a worker go that was never assigned', async () => {
    await create('nowhere-a');
    await when('nowhere-a', 'told', (worker) => condition(worker, 'Scheduled')?.status === 'False');
    await remove('nowhere-a');
    expect(await find('nowhere-a')).toBeUndefined();
  });

  it('tells of a change that was applied to a worker in its deletion, and is gone with it', async () => {
    await node('lost-1');
    await create('lost-a');
    await assigned('lost-a');
    await server.kubectl(['delete', 'lambdaworker', 'lost-a', '--wait=false']);
    // The API server takes it, also where a controller of GitOps sends it.
    await create('lost-a', { timeoutSeconds: 7 });
    const changed = await create('lost-a', { timeoutSeconds: 8 });
    expect(changed.spec.timeoutSeconds).toBe(8);
    expect(changed.metadata.deletionTimestamp).toBeDefined();
    const lastTransitionTime = new Date().toISOString();
    const cleanedUp = { type: 'CleanedUp', status: 'True', reason: 'CleanedUp', message: '', lastTransitionTime };
    await admin.patch(
      lambdaWorkers,
      { namespace: 'default', name: 'lost-a' },
      { kind: 'merge', body: { status: { conditions: [...(changed.status?.conditions ?? []), cleanedUp] } } },
      { subresource: 'status' },
    );
    await waitFor('lost-a to be let go', async () => (await find('lost-a')) === undefined);
    await waitFor('the Event', async () => (await eventsOf('lost-a')).includes('ChangeLost'));
  });

  it('follows the pin of its owner', async () => {
    await node('pin-1');
    await create('pin-a');
    await assigned('pin-a', 'pin-1');
    await server.kubectl(['patch', 'lw', 'pin-a', '--type=merge', '-p', '{"spec":{"nodeName":"pin-2"}}']);
    const waiting = await when('pin-a', 'told', (worker) => condition(worker, 'Scheduled')?.status === 'False');
    expect(condition(waiting, 'Scheduled')).toMatchObject({ reason: 'PinnedNodeMissing' });
    expect(waiting.status?.assignment).toEqual({ nodeName: 'pin-1', epoch: 1 });
    await node('pin-2');
    expect((await assigned('pin-a', 'pin-2')).status?.assignment?.epoch).toBe(2);
  });

  it('moves a worker that its full node cannot wake', async () => {
    const first = await node('full-1');
    await create('full-a', { desiredState: 'Absent' });
    const worker = await assigned('full-a', 'full-1');
    await first.report(worker, 'Absent', { status: 'False', reason: 'NodeFull' });
    await node('full-2');
    const moved = await assigned('full-a', 'full-2');
    expect(moved.status?.assignment?.epoch).toBe(2);
    expect(condition(moved, 'Ready')).toMatchObject({ status: 'Unknown', reason: 'Reassigned' });
  });

  it('moves and lets go the workers of a node whose LambdaNode is deleted', async () => {
    const lost = await node('gone-1');
    await create('gone-a');
    await create('gone-b');
    await assigned('gone-a', 'gone-1');
    await assigned('gone-b', 'gone-1');
    await remove('gone-b');
    await lost.die();
    await admin.delete(lambdaNodes, { name: 'gone-1' });
    await waitFor('gone-b to be let go', async () => (await find('gone-b')) === undefined);
    const away = await when('gone-a', 'taken away', ({ status }) => status?.assignment === undefined);
    expect(away.status?.lastEpoch).toBe(1);
    expect(condition(away, 'Ready')).toMatchObject({ status: 'False', reason: 'Unassigned' });
    await node('gone-2');
    expect((await assigned('gone-a', 'gone-2')).status?.assignment?.epoch).toBe(2);
  });

  it('takes a Node with the out-of-service taint for gone', async () => {
    await node('taint-1');
    await node('taint-2', { capacity: { memoryMiB: 1, milliCPU: 100_000, workers: 1 } });
    await create('taint-a');
    await create('taint-b', { nodeName: 'taint-1' });
    await assigned('taint-a', 'taint-1');
    await assigned('taint-b', 'taint-1');
    await remove('taint-b');
    // An agent that is heard of can still clean up.
    await fakeNodes[0]?.die();
    await admin.create(nodes, {
      metadata: { name: 'taint-1' },
      spec: {
        taints: [{ key: 'node.kubernetes.io/out-of-service', value: 'nodeshutdown', effect: 'NoExecute' }],
      },
    });
    await waitFor('taint-b to be let go', async () => (await find('taint-b')) === undefined, {
      timeoutMs: 60_000,
    });
    await fakeNodes[1]?.tell({ capacity: { memoryMiB: 1024, milliCPU: 100_000, workers: 10 } });
    await assigned('taint-a', 'taint-2');
  });

  it('moves the workers of a node that is silent for too long, keeps its finalizers, and leaves a returned node alone', {
    tags: ['P30'],
  }, async () => {
    const first = await node('loss-1');
    await create('loss-a');
    await create('loss-pinned', { nodeName: 'loss-1', nodeSelector: {} });
    await create('loss-deleted', { nodeName: 'loss-1', nodeSelector: {} });
    await assigned('loss-a', 'loss-1');
    await assigned('loss-pinned', 'loss-1');
    await assigned('loss-deleted', 'loss-1');
    await first.report(await get('loss-pinned'), 'Running', { status: 'True', reason: 'Running' });
    await remove('loss-deleted');
    const start = performance.now();
    await node('loss-2');
    await first.die();
    const moved = await assigned('loss-a', 'loss-2', 90_000);
    expect(moved.status?.assignment?.epoch).toBe(2);
    const told = await when('loss-pinned', 'told of the loss', (worker) => worker.status?.phase === 'Unknown', 90_000);
    expect(performance.now() - start).toBeGreaterThan(LOST_AFTER_MS - 2_000);
    expect(told.status?.assignment).toEqual({ nodeName: 'loss-1', epoch: 1 });
    expect(condition(told, 'Ready')).toMatchObject({ status: 'Unknown', reason: 'NodeLost' });
    expect((await get('loss-deleted')).metadata.finalizers).toEqual(['esb.dev/worker']);
    await waitFor('the Event', async () => (await eventsOf('loss-pinned')).includes('NodeLost'));

    first.live();
    await first.report(await get('loss-pinned'), 'Running', { status: 'True', reason: 'Running' });
    await create('loss-again', { nodeName: 'loss-1', nodeSelector: {} });
    await assigned('loss-again', 'loss-1');
    expect((await get('loss-pinned')).status).toMatchObject({
      phase: 'Running',
      assignment: { nodeName: 'loss-1', epoch: 1 },
    });
    await first.cleanUp(await get('loss-deleted'));
    await waitFor('loss-deleted to be let go', async () => (await find('loss-deleted')) === undefined);
  });

  it('moves nothing when the API server was frozen', async () => {
    await node('frozen-1');
    await node('frozen-2');
    await create('frozen-a');
    const before = (await assigned('frozen-a')).status?.assignment;
    server.pause();
    try {
      // Longer than it takes until a node is lost.
      clock.skip(50_000);
      // A client that reads Leases meanwhile, or renews that of the controller, gets no answer.
      await delay(3_000);
    } finally {
      server.continue();
    }
    await waitFor('the API server', () => find('frozen-a'), { timeoutMs: 60_000 });
    await create('frozen-b');
    await assigned('frozen-b', undefined, 90_000);
    expect((await get('frozen-a')).status?.assignment).toEqual(before);
  });

  it('publishes the Pod ranges of Nodes, which an agent may read and not change', async () => {
    const parameters = { namespace: 'esb-system', fieldSelector: 'metadata.name=esb-cluster-ranges' };
    const kubeconfig = await server.kubeconfig('esb:agent:node-1', ['esb:agents']);
    const agent = createKubeClient({ source: createKubeConnectionSource({ kubeconfig }) });
    try {
      const found = await waitFor('the ranges', async () => (await agent.list(configMaps, parameters)).items[0]);
      expect(found.data).toHaveProperty('podCIDRs');
      await expect(agent.update(configMaps, found)).rejects.toMatchObject({ code: 'Forbidden' });
    } finally {
      await agent.close();
    }
  });

  it('keeps the authority of gateways, and signs for whoever may serve the namespaces', async () => {
    const published = await waitFor('the authority', () =>
      admin.get(configMaps, { namespace: 'esb-system', name: 'esb-client-ca' }),
    );
    expect(published.data?.['ca.crt']).toContain('BEGIN CERTIFICATE');
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
    const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const request = async (
      name: string,
      namespaces: readonly string[],
      usages = ['client auth', 'digital signature'],
    ) => {
      const made = await Pkcs10CertificateRequestGenerator.create({
        name: 'CN=esb-gateway',
        keys,
        signingAlgorithm: algorithm,
        extensions: [
          new SubjectAlternativeNameExtension(
            namespaces.map((namespace) => ({ type: 'url', value: `esb://gateway/${namespace}` })),
          ),
        ],
      });
      return {
        metadata: { name },
        spec: {
          signerName: 'esb.dev/gateway-client',
          request: Buffer.from(`${made.toString('pem')}\n`).toString('base64'),
          usages,
        },
      };
    };
    const clientOf = async (user: string) =>
      createKubeClient({
        source: createKubeConnectionSource({ kubeconfig: await server.kubeconfig(user) }),
      });
    // An account of its own for the gateway of another namespace, and one that may send requests and serve nothing.
    await server.kubectl(['create', 'namespace', 'shop']);
    for (const user of ['gateway-of-shop', 'stranger']) {
      await server.kubectl(['create', 'clusterrolebinding', user, '--clusterrole=esb-gateway', `--user=${user}`]);
    }
    const gateway = await clientOf('esb:gateway');
    const shop = await clientOf('gateway-of-shop');
    const stranger = await clientOf('stranger');
    const find = (name: string) => admin.get(certificateSigningRequests, { name });
    const namesOf = async (name: string) => {
      const signed = await waitFor(`the certificate of ${name}`, async () => (await find(name))?.status?.certificate, {
        timeoutMs: 60_000,
      });
      return new X509Certificate(Buffer.from(signed, 'base64')).subjectAltName;
    };
    const refusalOf = (name: string) =>
      waitFor(`the refusal of ${name}`, async () => {
        const found = await find(name);
        return found?.status?.conditions?.find(({ type }) => type === 'Failed')?.message;
      });
    try {
      await stranger.create(certificateSigningRequests, await request('stranger-1', ['default']));
      await gateway.create(certificateSigningRequests, await request('both-1', ['default', 'shop']));
      await shop.create(certificateSigningRequests, await request('shop-1', ['shop']));
      await gateway.create(certificateSigningRequests, await request('own-1', ['default']));
      await gateway.create(
        certificateSigningRequests,
        await request('greedy-1', ['default'], ['client auth', 'code signing']),
      );
      await gateway.create(certificateSigningRequests, await request('nameless-1', []));
      expect(await namesOf('own-1')).toBe('URI:esb://gateway/default');
      expect(await refusalOf('greedy-1')).toContain('code signing');
      expect(await refusalOf('nameless-1')).toContain('esb://gateway/');
      for (const name of ['stranger-1', 'both-1', 'shop-1']) {
        expect((await find(name))?.status?.conditions).toBeUndefined();
      }
      // The binding may come after the request, and a person may approve what no binding allows.
      await server.kubectl([
        'create',
        'rolebinding',
        'esb-gateway-workers',
        '-n',
        'shop',
        '--clusterrole=esb-gateway-workers',
        '--user=gateway-of-shop',
      ]);
      await server.kubectl(['certificate', 'approve', 'both-1']);
      expect(await namesOf('shop-1')).toBe('URI:esb://gateway/shop');
      expect(await namesOf('both-1')).toBe('URI:esb://gateway/default, URI:esb://gateway/shop');
      expect((await find('stranger-1'))?.status?.certificate).toBeUndefined();
    } finally {
      await Promise.all([gateway.close(), shop.close(), stranger.close()]);
    }
  });
});
