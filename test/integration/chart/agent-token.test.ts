import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { createKubeClient } from '../../../src/kube/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/kube-config.ts';
import { configMaps, leases, nodes, pods, secrets } from '../../../src/kube/resource-types.ts';
import type { KubeClient, PatchBody } from '../../../src/kube/types.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { objectsIn, renderChart } from '../../support/chart.ts';
import { waitFor } from '../../support/wait-for.ts';

const root = join(import.meta.dirname, '../../..');
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
  let server: ApiServer;
  let admin: KubeClient;
  let agent: KubeClient;

  const connect = (kubeconfig: string): KubeClient =>
    createKubeClient({ source: createKubeConnectionSource({ kubeconfig }) });
  const worker = (name: string) => ({ namespace: 'default', name });

  /** A kubeconfig with the token of a Pod of that service account on that node. */
  const tokenOf = async (account: string, node: string): Promise<string> => {
    const name = `${account}-${node}`;
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: system },
      spec: { serviceAccountName: account, nodeName: node, containers: [{ name: 'c', image: 'esb' }] },
    };
    await server.kubectl(['create', '-f', '-'], JSON.stringify(pod));
    const token = await server.kubectl([
      ...['-n', system, 'create', 'token', account],
      ...['--bound-object-kind', 'Pod', '--bound-object-name', name],
    ]);
    const config = parse(await server.kubectl(['config', 'view', '--raw'])) as Record<string, unknown>;
    const file = join(server.folder, `${name}.kubeconfig`);
    await writeFile(file, stringify({ ...config, users: [{ name: 'test', user: { token: token.trim() } }] }));
    return file;
  };

  beforeAll(async () => {
    server = await startApiServer();
    admin = connect(server.adminKubeconfig);
    for (const part of ['crds', 'manifests/namespace.yaml']) {
      await server.kubectl(['apply', '-f', join(root, part)]);
    }
    await server.kubectl(['wait', '--for=condition=Established', '--all', 'crd']);
    await server.kubectl(
      ['apply', '-f', '-'],
      await renderChart(['--no-hooks', '--set', 'crds.install=false']),
    );
    for (const name of ['node-1', 'node-2']) {
      await admin.create(nodes, { metadata: { name } });
      await admin.create(lambdaNodes, { metadata: { name }, spec: { unschedulable: false, retired: false } });
      // Refused from when the policy that gives workers their finalizer is in force until the API server has read the definition of
      // workers, which it looks for every five seconds.
      await waitFor(`a worker for ${name} to be admitted`, () =>
        server.kubectl(
          ['create', '-f', '-'],
          JSON.stringify({
            apiVersion: 'esb.dev/v1alpha1',
            kind: 'LambdaWorker',
            metadata: { name: `on-${name}` },
            spec: { image: 'hello:1' },
          }),
        ),
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
    agent = connect(await tokenOf('esb-agent', 'node-1'));
    // A policy takes effect a moment after it was written.
    await waitFor('the policy', () =>
      agent.patch(lambdaWorkers, worker('on-node-2'), status({ restartCount: 1 }), toStatus).then(
        () => false,
        () => true,
      ),
    );
  });

  afterAll(async () => {
    await Promise.all([admin, agent].map((client) => client.close()));
    await server.stop();
  });

  it('says which node it is of', async () => {
    const who = await server.kubectl([
      '--kubeconfig',
      join(server.folder, 'esb-agent-node-1.kubeconfig'),
      'auth',
      'whoami',
      '-o',
      'json',
    ]);
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

  it('tells of the workers of its node, and changes none', async () => {
    await agent.patch(lambdaWorkers, worker('on-node-1'), status({ phase: 'Running' }), toStatus);
    await expect(
      agent.patch(lambdaWorkers, worker('on-node-2'), status({ phase: 'Running' }), toStatus),
    ).rejects.toMatchObject(refused('not assigned to node node-1'));
    const image = { kind: 'merge', body: { spec: { image: 'other:1' } } } as const;
    await expect(agent.patch(lambdaWorkers, worker('on-node-1'), image)).rejects.toMatchObject(
      refused('cannot patch'),
    );
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

  it.each(['esb-hold', 'esb-gateway'])('of %s is none: it writes no LambdaNode', async (account) => {
    const client = connect(await tokenOf(account, 'node-2'));
    try {
      await expect(
        client.patch(lambdaNodes, { name: 'node-2' }, status({ endpoint: '10.0.0.1:9' }), toStatus),
      ).rejects.toMatchObject({ code: 'Forbidden' });
    } finally {
      await client.close();
    }
  });

  it('is of the only account that the chart makes for agents', async () => {
    const accounts = objectsIn(await renderChart(['--no-hooks']))
      .filter(({ kind }) => kind === 'ServiceAccount')
      .map(({ metadata }) => metadata.name);
    expect(accounts.toSorted()).toEqual(['esb-agent', 'esb-controller', 'esb-gateway', 'esb-hold']);
  });
});
