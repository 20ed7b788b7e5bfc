import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { configMaps, leases, nodes, pods, secrets } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient, PatchBody } from '../../../src/kube/api/types.ts';
import { objectsIn, renderChart } from '../../support/chart.ts';
import { type ChartCluster, startChartCluster } from '../../support/chart-cluster.ts';
import { waitFor } from '../../support/wait-for.ts';

const system = 'esb-system';
const toStatus = { subresource: 'status' } as const;
const status = (body: object): PatchBody => ({
  kind: 'apply',
  fieldManager: 'esb-agent',
  body: { status: body },
});
const refused = (told: string) => ({
  code: 'Forbidden',
  message: expect.stringContaining(told) as string,
});

/** The rights of the chart, and a token such as the kubelet of a node gives to the Pod of the agent there. */
describe("an agent's own token", () => {
  let cluster: ChartCluster;
  let admin: KubeClient;
  let agent: KubeClient;
  const worker = (name: string) => ({ namespace: 'default', name });
  const agentOnNode1 = { name: 'esb-agent', node: 'node-1' };

  beforeAll(async () => {
    cluster = await startChartCluster();
    admin = cluster.admin;
    const { server } = cluster;
    await cluster.install();
    for (const name of ['node-1', 'node-2']) {
      await admin.create(nodes, { metadata: { name } });
      await admin.create(lambdaNodes, { metadata: { name }, spec: { unschedulable: false, retired: false } });
      await server.kubectl(
        ['create', '-f', '-'],
        JSON.stringify({
          apiVersion: 'esb.dev/v1alpha1',
          kind: 'LambdaWorker',
          metadata: { name: `on-${name}` },
          spec: { image: 'hello:1' },
        }),
      );
      const assignment = { nodeName: name, epoch: 1 };
      const body = { status: { assignment } };
      await admin.patch(lambdaWorkers, worker(`on-${name}`), { kind: 'merge', body }, toStatus);
    }
    for (const name of ['granted', 'other']) {
      await server.kubectl(['create', 'secret', 'generic', name, '--from-literal=key=value']);
    }
    await server.kubectl([
      ...['create', 'role', 'granted', '--verb=get'],
      ...['--resource=secrets', '--resource-name=granted'],
    ]);
    await server.kubectl([
      ...['create', 'rolebinding', 'granted', '--role=granted'],
      `--serviceaccount=${system}:esb-agent`,
    ]);
    agent = await cluster.clientOf(agentOnNode1);
    // A policy takes effect a moment after it was written.
    await waitFor('the policy', () =>
      agent.patch(lambdaWorkers, worker('on-node-2'), status({ restartCount: 1 }), toStatus).then(
        () => false,
        () => true,
      ),
    );
  });

  afterAll(async () => {
    await cluster.stop();
  });

  it('says which node it is of', async () => {
    const kubeconfig = join(cluster.server.folder, 'esb-system-esb-agent-node-1.kubeconfig');
    const who = await cluster.server.kubectl(['--kubeconfig', kubeconfig, 'auth', 'whoami', '-o', 'json']);
    expect(JSON.parse(who)).toMatchObject({
      status: {
        userInfo: {
          username: 'system:serviceaccount:esb-system:esb-agent',
          extra: { 'authentication.kubernetes.io/node-name': ['node-1'] },
        },
      },
    });
  });

  it('reads no Secret but those that were granted, one by one', async () => {
    await expect(agent.get(secrets, worker('granted'))).resolves.toMatchObject({ data: { key: 'dmFsdWU=' } });
    await expect(agent.get(secrets, worker('other'))).rejects.toMatchObject(refused('secrets "other"'));
    await expect(agent.list(secrets, { namespace: 'default' })).rejects.toMatchObject(refused('secrets'));
    await expect(agent.get(secrets, { namespace: system, name: 'esb-client-ca' })).rejects.toMatchObject(
      refused('esb-client-ca'),
    );
  });

  it('writes its own LambdaNode and Lease, and no other', async () => {
    const body = { kind: 'merge', body: { spec: { holderIdentity: 'x' } } } as const;
    await agent.patch(lambdaNodes, { name: 'node-1' }, status({ endpoint: '10.0.0.1:9443' }), toStatus);
    await agent.create(leases, { metadata: { namespace: system, name: 'node-1' } });
    await agent.patch(leases, { namespace: system, name: 'node-1' }, body);

    const told = refused('only the objects of that name');
    const patch = agent.patch(lambdaNodes, { name: 'node-2' }, status({ endpoint: '10.0.0.1:9' }), toStatus);
    await expect(patch).rejects.toMatchObject(told);
    const create = agent.create(leases, { metadata: { namespace: system, name: 'esb-controller' } });
    await expect(create).rejects.toMatchObject(told);
    await expect(agent.delete(lambdaNodes, { name: 'node-1' })).rejects.toMatchObject(refused('delete'));
  });

  it('neither retires nor cordons its LambdaNode, and takes back neither', async () => {
    const merge = (body: object): PatchBody => ({ kind: 'merge', body });
    const change = (body: object) => agent.patch(lambdaNodes, { name: 'node-1' }, merge(body));
    await admin.patch(lambdaNodes, { name: 'node-1' }, merge({ spec: { retired: true, unschedulable: true } }));
    for (const spec of [{ retired: false }, { unschedulable: false }]) {
      await expect(change({ spec })).rejects.toMatchObject(refused('written by others than its agent'));
    }

    const newcomer = await cluster.clientOf({ name: 'esb-agent', node: 'node-3' });
    const register = (object: object) =>
      newcomer.patch(
        lambdaNodes,
        { name: 'node-3' },
        { kind: 'apply', fieldManager: 'esb-agent', body: { metadata: { name: 'node-3' }, ...object } },
      );
    await expect(register({ spec: { unschedulable: true } })).rejects.toMatchObject(
      refused('written by others than its agent'),
    );
    await register({});
  });

  it('tells of the workers of its node, and changes none', async () => {
    await agent.patch(lambdaWorkers, worker('on-node-1'), status({ phase: 'Running' }), toStatus);
    await expect(
      agent.patch(lambdaWorkers, worker('on-node-2'), status({ phase: 'Running' }), toStatus),
    ).rejects.toMatchObject(refused('not assigned to node node-1'));
    for (const own of [{ assignment: { nodeName: 'node-1', epoch: 2 } }, { lastEpoch: 2 }]) {
      await expect(
        agent.patch(lambdaWorkers, worker('on-node-1'), { kind: 'merge', body: { status: own } }, toStatus),
      ).rejects.toMatchObject(refused('by the controller alone'));
    }
    const image = { kind: 'merge', body: { spec: { image: 'other:1' } } } as const;
    await expect(agent.patch(lambdaWorkers, worker('on-node-1'), image)).rejects.toMatchObject(refused('cannot patch'));
    await expect(agent.delete(lambdaWorkers, worker('on-node-1'))).rejects.toMatchObject(refused('delete'));
  });

  it('changes nothing of the cluster: no Node, no Pod, no authority of the gateways', async () => {
    const label = { kind: 'merge', body: { metadata: { labels: { a: 'b' } } } } as const;
    await expect(agent.patch(nodes, { name: 'node-1' }, label)).rejects.toMatchObject(refused('nodes'));
    const pod = { namespace: system, name: 'esb-agent-node-1' };
    await expect(agent.delete(pods, pod)).rejects.toMatchObject(refused('pods'));
    const authority = { namespace: system, name: 'esb-client-ca' };
    await expect(agent.patch(configMaps, authority, label)).rejects.toMatchObject(refused('configmaps'));
  });

  it.each(['esb-hold', 'esb-reserve', 'esb-gateway'])('of %s is none: it writes no LambdaNode', async (account) => {
    const client = await cluster.clientOf({ name: account, node: 'node-2' });
    await expect(
      client.patch(lambdaNodes, { name: 'node-2' }, status({ endpoint: '10.0.0.1:9' }), toStatus),
    ).rejects.toMatchObject({ code: 'Forbidden' });
  });

  it('is of the only account that the chart makes for agents', async () => {
    const accounts = objectsIn(await renderChart(['--no-hooks']))
      .filter(({ kind }) => kind === 'ServiceAccount')
      .map(({ metadata }) => metadata.name);
    expect(accounts.toSorted()).toEqual(['esb-agent', 'esb-controller', 'esb-gateway', 'esb-hold', 'esb-reserve']);
  });
});
