import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WorkerEvents } from '../../src/agent/sync/worker-events.ts';
import { type LambdaNode, lambdaNodes } from '../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { reporters } from '../../src/api/name.ts';
import { messageOf } from '../../src/common/errors.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { events, leases, secrets } from '../../src/kube/api/resource-types.ts';
import type { KubeClient, PatchBody } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { EventRecorder } from '../../src/kube/events/event-recorder.ts';
import { type ApiServer, startApiServer } from '../support/api-server.ts';
import { waitFor } from '../support/wait-for.ts';

const root = join(import.meta.dirname, '../..');
const status = (body: object): PatchBody => ({
  kind: 'apply',
  fieldManager: 'esb-agent',
  body: { status: body },
});
const timings = { queued: 0, wake: 0, run: 0, start: 'running' } as const;
const lease: PatchBody = { kind: 'merge', body: { spec: { holderIdentity: 'x' } } };

describe('an agent', () => {
  let server: ApiServer;
  let admin: KubeClient;
  let agent: KubeClient;
  let unbound: KubeClient;

  const clientOf = async (user: string, groups: readonly string[] = []): Promise<KubeClient> =>
    createKubeClient({
      source: createKubeConnectionSource({ kubeconfig: await server.kubeconfig(user, groups) }),
    });
  const key = (name: string) => ({ namespace: 'default', name });
  const system = (name: string) => ({ namespace: 'esb-system', name });

  beforeAll(async () => {
    server = await startApiServer();
    for (const part of [
      'crds',
      'manifests/namespace.yaml',
      'manifests/rbac.yaml',
      'manifests/local',
      'manifests/agent-policy.yaml',
      'manifests/status-policy.yaml',
    ]) {
      await server.kubectl(['apply', '-f', join(root, part)]);
    }
    admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
    agent = await clientOf('esb:agent:node-1', ['esb:agents']);
    unbound = await clientOf('system:serviceaccount:esb-system:esb-agent');
    for (const [name, nodeName] of [
      ['own', 'node-1'],
      ['other', 'node-2'],
      ['probe', 'node-1'],
    ] as const) {
      await server.kubectl(
        ['create', '-f', '-'],
        JSON.stringify({
          apiVersion: 'esb.dev/v1alpha1',
          kind: 'LambdaWorker',
          metadata: { name },
          spec: { image: 'hello:1' },
        }),
      );
      await admin.patch(
        lambdaWorkers,
        key(name),
        {
          kind: 'merge',
          body: { status: { assignment: { nodeName, epoch: 1 } } },
        },
        { subresource: 'status' },
      );
    }
    // Each policy takes effect a moment after it was written.
    const isRefused = (name: string, body: PatchBody, part: string): Promise<boolean> =>
      agent.patch(lambdaWorkers, key(name), body, { subresource: 'status' }).then(
        () => false,
        (error: unknown) => messageOf(error).includes(part),
      );
    await waitFor('the policy on agents', () =>
      isRefused('other', status({ restartCount: 1 }), 'not assigned to node node-1'),
    );
    // A change that was let through is none when it is made again.
    let lastEpoch = 0;
    await waitFor('the policy on the status of workers', () => {
      lastEpoch += 1;
      return isRefused(
        'probe',
        status({ assignment: { nodeName: 'node-1', epoch: 1 }, lastEpoch }),
        'by the controller alone',
      );
    });
  });

  afterAll(async () => {
    await Promise.all([admin, agent, unbound].map((client) => client.close()));
    await server.stop();
  });

  it('registers its own LambdaNode and renews its own Lease, and no others', { tags: ['P33'] }, async () => {
    const register = (client: KubeClient, name: string) =>
      client.patch<LambdaNode>(
        lambdaNodes,
        { name },
        { kind: 'apply', fieldManager: 'esb-agent', body: { metadata: { name } } },
      );
    await register(agent, 'node-1');
    await agent.patch(lambdaNodes, { name: 'node-1' }, status({ endpoint: '10.0.0.1:9443' }), {
      subresource: 'status',
    });
    await agent.create(leases, { metadata: system('node-1') });
    await agent.patch(leases, system('node-1'), lease);
    const node = await admin.get(lambdaNodes, { name: 'node-1' });
    const owner = { apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaNode', name: 'node-1', uid: node?.metadata.uid };
    const owned = { metadata: { ownerReferences: [owner] } };
    await agent.patch(leases, system('node-1'), { kind: 'merge', body: owned });

    await register(admin, 'node-2');
    await admin.create(leases, { metadata: system('node-2') });
    const refusal = {
      code: 'Forbidden',
      message: expect.stringContaining('only the objects of that name') as string,
    };
    await expect(register(agent, 'node-3')).rejects.toMatchObject(refusal);
    await expect(
      agent.patch(lambdaNodes, { name: 'node-2' }, status({ endpoint: '10.0.0.1:9443' }), {
        subresource: 'status',
      }),
    ).rejects.toMatchObject(refusal);
    await expect(agent.patch(leases, system('node-2'), lease)).rejects.toMatchObject(refusal);
  });

  it('changes no condition of its LambdaNode that the controller has written', { tags: ['P33'] }, async () => {
    const key = { name: 'node-1' };
    const body = (...types: readonly string[]) => ({
      conditions: types.map((type) => ({
        type,
        status: 'True',
        reason: 'Told',
        message: '',
        lastTransitionTime: '2026-11-01T00:00:00Z',
      })),
    });
    const write = (patch: PatchBody) => agent.patch(lambdaNodes, key, patch, { subresource: 'status' });
    const refusal = { code: 'Forbidden', message: expect.stringContaining('by the controller alone') as string };
    await write(status(body('Ready')));
    await expect(write(status(body('Ready', 'Lost')))).rejects.toMatchObject(refusal);
    const found: PatchBody = { kind: 'apply', fieldManager: 'esb-controller', body: { status: body('Unheld') } };
    await admin.patch(lambdaNodes, key, found, { subresource: 'status' });
    await write(status(body('Ready', 'DiskReady')));
    await expect(write({ kind: 'merge', body: { status: body('Ready') } })).rejects.toMatchObject(refusal);
    const { items } = await admin.list(lambdaNodes);
    const types = items.find(({ metadata }) => metadata.name === 'node-1')?.status?.conditions?.map(({ type }) => type);
    expect(types?.toSorted()).toEqual(['DiskReady', 'Ready', 'Unheld']);
  });

  it('tells of the workers of its node alone, and leaves their assignment as it is', {
    tags: ['P24'],
  }, async () => {
    const options = { subresource: 'status' } as const;
    await agent.patch(lambdaWorkers, key('own'), status({ phase: 'Running' }), options);
    await expect(agent.patch(lambdaWorkers, key('other'), status({ phase: 'Running' }), options)).rejects.toMatchObject(
      {
        message: expect.stringContaining('not assigned to node node-1') as string,
      },
    );
    await expect(
      agent.patch(lambdaWorkers, key('own'), status({ assignment: { nodeName: 'node-1', epoch: 2 } }), options),
    ).rejects.toMatchObject({ message: expect.stringContaining('by the controller alone') as string });
    await expect(
      agent.patch(lambdaWorkers, key('own'), { kind: 'merge', body: { spec: { image: 'other:1' } } }),
    ).rejects.toMatchObject({ code: 'Forbidden' });
    await expect(agent.list(secrets, { namespace: 'default' })).rejects.toMatchObject({ code: 'Forbidden' });
  });

  it('writes Events about workers, in its own name', { tags: ['P33'] }, async () => {
    const recorder = new EventRecorder({
      client: agent,
      controller: reporters.agent,
      instance: 'node-1',
      seriesEveryMs: 0,
      logger: silentLogger(),
    });
    const told = new WorkerEvents(recorder);
    recorder.start();
    const found = await admin.get(lambdaWorkers, key('own'));
    const identity = { ...key('own'), uid: found?.metadata.uid ?? '', functionName: 'own' };
    for (const kind of ['first', 'second']) {
      told.answered(identity, { kind: 'TimedOut', message: kind, stamp: '', timings });
    }
    await waitFor('the Event with its count', async () => {
      const description = await server.kubectl(['describe', 'lw', 'own']);
      return description.includes('CallTimedOut') && description.includes('x2');
    });
    await recorder.stop();
    const [event] = (await admin.list(events, { namespace: 'default' })).items;
    if (event === undefined) {
      throw new Error('there is no Event');
    }

    const { metadata: _, ...body } = event;
    const refusal = (part: string) => ({ code: 'Forbidden', message: expect.stringContaining(part) as string });
    const write = (name: string, change: object) =>
      agent.create(events, { ...body, ...change, metadata: { namespace: 'default', name } });
    const pod = { apiVersion: 'v1', kind: 'Pod', namespace: 'default', name: 'some' };
    await expect(write('of-node-2', { reportingInstance: 'node-2' })).rejects.toMatchObject(refusal('of its own'));
    await expect(write('of-others', { reportingController: 'kubelet' })).rejects.toMatchObject(refusal('of its own'));
    await expect(write('on-a-pod', { regarding: pod })).rejects.toMatchObject(refusal('LambdaWorkers alone'));
    await admin.create(events, {
      ...body,
      reportingInstance: 'node-2',
      metadata: { namespace: 'default', name: 'other' },
    });
    const count: PatchBody = { kind: 'merge', body: { series: { count: 9, lastObservedTime: body.eventTime } } };
    await expect(agent.patch(events, key('other'), count)).rejects.toMatchObject(refusal('of its own'));
    await expect(agent.list(events, { namespace: 'default' })).rejects.toMatchObject({ code: 'Forbidden' });
  });

  it('whose token is bound to no node may write nothing', { tags: ['P34'] }, async () => {
    await expect(
      unbound.patch(lambdaWorkers, key('own'), status({ phase: 'Paused' }), { subresource: 'status' }),
    ).rejects.toMatchObject({
      code: 'Forbidden',
      message: expect.stringContaining('bound to a node') as string,
    });
  });

  it('does not stand in the way of anybody else', async () => {
    await admin.patch(lambdaWorkers, key('other'), status({ phase: 'Running' }), { subresource: 'status' });
    await admin.patch(leases, system('node-2'), lease);
  });
});
