import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaQuotas } from '../../../src/api/lambda-quota.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import {
  certificateSigningRequests,
  configMaps,
  events,
  leases,
  localSubjectAccessReviews,
  namespaces,
  nodes,
  pods,
  secrets,
} from '../../../src/kube/api/resource-types.ts';
import type { KubeClient, KubeObject, PatchBody, ResourceType } from '../../../src/kube/api/types.ts';
import { objectsIn, renderChart } from '../../support/chart.ts';
import { type ChartCluster, startChartCluster } from '../../support/chart-cluster.ts';
import { waitFor } from '../../support/wait-for.ts';

/** An attempt by its name, what is asked of the API server, and a part of the refusal. */
type Attempt = readonly [name: string, attempt: (client: KubeClient) => Promise<unknown>, told: string];

const system = 'esb-system';
const toStatus = { subresource: 'status' } as const;
const apply = (body: object): PatchBody => ({ kind: 'apply', fieldManager: 'esb-agent', body });
const merge = (body: object): PatchBody => ({ kind: 'merge', body });
const at = (namespace: string, name: string) => ({ namespace, name });
const type = (group: string, plural: string, namespaced = true): ResourceType<KubeObject> => ({
  group,
  version: 'v1',
  kind: plural,
  plural,
  namespaced,
});
const rbac = 'rbac.authorization.k8s.io';
const roleBindings = type(rbac, 'rolebindings');
const policies = type('admissionregistration.k8s.io', 'validatingadmissionpolicybindings', false);
/** The request for a token of an account. */
const tokensOf = (account: string) => type('', `serviceaccounts/${account}/token`);
const make = (client: KubeClient, of: ResourceType<never>, object: object) => client.create(of, object as never);
const makeWorker = (client: KubeClient, namespace: string, spec: object) =>
  client.create(lambdaWorkers, { metadata: at(namespace, 'new'), spec: { image: 'hello:1', ...spec } } as never);
const pod = { metadata: at(system, 'mine'), spec: { containers: [{ name: 'c', image: 'i' }] } };
const binding = (namespace: string) => ({
  metadata: at(namespace, 'mine'),
  roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'view' },
  subjects: [{ kind: 'User', apiGroup: rbac, name: 'me' }],
});
const tokenRequest = { spec: { audiences: ['esb'] } };
const request = (signerName: string) => ({
  metadata: { name: 'mine' },
  spec: { request: 'AAAA', signerName, usages: ['client auth'] },
});
const host = { network: { mode: 'Host' }, command: ['/usr/local/bin/aws-lambda-rie'] };
const endpoint = { status: { endpoint: '10.0.0.1:9' } };
const quota = { metadata: at('team-a', 'mine'), spec: { hard: { workers: 1_000 } } };

const letsItsNamespace: Attempt[1] = (me) =>
  me.patch(namespaces, { name: 'team-a' }, merge({ metadata: { labels: { 'esb.dev/privileged-workers': 'true' } } }));
const largerQuota: Attempt = [
  'a larger quota',
  (me) => me.patch(lambdaQuotas, at('team-a', 'team'), merge({ spec: quota.spec })),
  'cannot patch resource "lambdaquotas"',
];

/** Somebody with the built-in role `edit` in the namespace team-a. */
const ofTenant: readonly Attempt[] = [
  ['the network of the node', (me) => makeWorker(me, 'team-a', host), 'spec.network.mode Host'],
  ['a writable root', (me) => makeWorker(me, 'team-a', { readOnlyRootFilesystem: false }), 'fills the disk'],
  ['a huge /tmp', (me) => makeWorker(me, 'team-a', { ephemeralStorage: '11Gi' }), 'is more than 10Gi'],
  ['a class that is not listed', (me) => makeWorker(me, 'team-a', { network: { egress: 'All' } }), 'is not among'],
  ...(
    [
      ['the network of the node, later', host, 'spec.network.mode Host'],
      ['a writable root, later', { readOnlyRootFilesystem: false }, 'fills the disk'],
      ['a huge /tmp, later', { ephemeralStorage: '11Gi' }, 'is more than 10Gi'],
      ['a class that is not listed, later', { network: { egress: 'Cluster' } }, 'is not among'],
    ] as const
  ).map(
    ([name, spec, told]): Attempt => [
      name,
      (me) => me.patch(lambdaWorkers, at('team-a', 'own'), merge({ spec })),
      told,
    ],
  ),
  ['a worker in another namespace', (me) => makeWorker(me, 'default', {}), 'cannot create resource "lambdaworkers"'],
  ['workers of another namespace', (me) => me.list(lambdaWorkers, { namespace: 'default' }), 'cannot list'],
  ['workers of all namespaces', (me) => me.list(lambdaWorkers, {}), 'cannot list'],
  [
    'the spec of a worker of others',
    (me) => me.patch(lambdaWorkers, at('default', 'on-node-1'), merge({ spec: { timeoutSeconds: 9 } })),
    'cannot patch',
  ],
  ['the end of a worker of others', (me) => me.delete(lambdaWorkers, at('default', 'on-node-1')), 'cannot delete'],
  [
    'the assignment of its worker',
    (me) =>
      me.patch(
        lambdaWorkers,
        at('team-a', 'own'),
        merge({ status: { assignment: { nodeName: 'node-1', epoch: 9 } } }),
        toStatus,
      ),
    'lambdaworkers/status',
  ],
  [
    'a stamp of activity',
    (me) =>
      me.patch(
        lambdaWorkers,
        at('team-a', 'own'),
        merge({ status: { lastInvocationTime: '2026-11-01T00:00:00Z' } }),
        toStatus,
      ),
    'lambdaworkers/status',
  ],
  ['a quota of its own', (me) => make(me, lambdaQuotas as never, quota), 'cannot create resource "lambdaquotas"'],
  largerQuota,
  ['no quota', (me) => me.delete(lambdaQuotas, at('team-a', 'team')), 'cannot delete resource "lambdaquotas"'],
  ['a Secret of another namespace', (me) => me.get(secrets, at('default', 'other')), 'cannot get resource "secrets"'],
  ['the keys of callers', (me) => me.get(secrets, at('default', 'esb-access-keys')), 'cannot get resource "secrets"'],
  ['the key of the authority', (me) => me.get(secrets, at(system, 'esb-client-ca')), 'cannot get resource "secrets"'],
  ['Secrets of all namespaces', (me) => me.list(secrets, {}), 'cannot list resource "secrets"'],
  ['the label that lets its namespace', letsItsNamespace, 'cannot patch resource "namespaces"'],
  ['a LambdaNode of its own', (me) => make(me, lambdaNodes as never, { metadata: { name: 'mine' } }), 'cannot create'],
  [
    'a label of a LambdaNode',
    (me) => me.patch(lambdaNodes, { name: 'node-1' }, merge({ metadata: { labels: { pool: 'a' } } })),
    'cannot patch',
  ],
  [
    'to retire a LambdaNode',
    (me) => me.patch(lambdaNodes, { name: 'node-1' }, merge({ spec: { retired: true } })),
    'cannot patch',
  ],
  [
    'the address of an agent',
    (me) => me.patch(lambdaNodes, { name: 'node-1' }, merge(endpoint), toStatus),
    'lambdanodes/status',
  ],
  ['the end of a LambdaNode', (me) => me.delete(lambdaNodes, { name: 'node-1' }), 'cannot delete'],
  ['the Lease of an agent', (me) => me.patch(leases, at(system, 'node-1'), merge({ spec: {} })), 'cannot patch'],
  [
    'the certificate of a gateway',
    (me) => make(me, certificateSigningRequests as never, request('esb.dev/gateway-client')),
    'cannot create',
  ],
  ['to take the policy away', (me) => me.delete(policies, { name: 'esb-worker' }), 'cannot delete'],
  ['the policy of agents', (me) => me.delete(configMaps, at(system, 'esb-worker-policy')), 'cannot delete'],
  [
    'a token of the agents',
    (me) => make(me, tokensOf('esb-agent') as never, { metadata: at(system, 'esb-agent'), ...tokenRequest }),
    'serviceaccounts/token',
  ],
  ['a Pod of the system', (me) => make(me, pods as never, pod), 'cannot create resource "pods"'],
  [
    'a grant in another namespace',
    (me) => make(me, roleBindings as never, binding('default')),
    'cannot create resource "rolebindings"',
  ],
];

/** A gateway of the namespace `default`. */
const ofGateway: readonly Attempt[] = [
  ['a worker', (me) => makeWorker(me, 'default', {}), 'cannot create resource "lambdaworkers"'],
  [
    'the image of a worker',
    (me) => me.patch(lambdaWorkers, at('default', 'on-node-1'), merge({ spec: { image: 'other:1' } })),
    'cannot patch',
  ],
  ['the end of a worker', (me) => me.delete(lambdaWorkers, at('default', 'on-node-1')), 'cannot delete'],
  ...(
    [
      ['the assignment of a worker', { assignment: { nodeName: 'node-2', epoch: 9 } }],
      ['the phase of a worker', { phase: 'Paused' }],
      ['a stamp of activity', { lastInvocationTime: '2026-11-01T00:00:00Z' }],
    ] as const
  ).map(
    ([name, status]): Attempt => [
      name,
      (me) => me.patch(lambdaWorkers, at('default', 'on-node-1'), merge({ status }), toStatus),
      'lambdaworkers/status',
    ],
  ),
  ['workers of another namespace', (me) => me.list(lambdaWorkers, { namespace: 'team-a' }), 'cannot list'],
  ['workers of all namespaces', (me) => me.list(lambdaWorkers, {}), 'cannot list'],
  ['the Secret of a function', (me) => me.get(secrets, at('default', 'other')), 'cannot get resource "secrets"'],
  ['Secrets of its namespace', (me) => me.list(secrets, { namespace: 'default' }), 'cannot list resource "secrets"'],
  ['the keys of other callers', (me) => me.get(secrets, at('team-a', 'esb-access-keys')), 'cannot get'],
  ['the key of the authority', (me) => me.get(secrets, at(system, 'esb-client-ca')), 'cannot get resource "secrets"'],
  [
    'an authority of its own',
    (me) => me.patch(configMaps, at(system, 'esb-client-ca'), merge({ data: { 'ca.crt': '' } })),
    'cannot patch resource "configmaps"',
  ],
  ['requests of other gateways', (me) => me.list(certificateSigningRequests, {}), 'cannot list'],
  [
    'to approve its own request',
    (me) => me.patch(certificateSigningRequests, { name: 'mine' }, merge({}), { subresource: 'approval' }),
    'certificatesigningrequests/approval',
  ],
  ['a LambdaNode of its own', (me) => make(me, lambdaNodes as never, { metadata: { name: 'mine' } }), 'cannot create'],
  [
    'the address of an agent',
    (me) => me.patch(lambdaNodes, { name: 'node-1' }, merge(endpoint), toStatus),
    'lambdanodes/status',
  ],
  [
    'to retire a LambdaNode',
    (me) => me.patch(lambdaNodes, { name: 'node-1' }, merge({ spec: { retired: true } })),
    'cannot patch',
  ],
  ['the Lease of the controller', (me) => me.patch(leases, at(system, 'esb-controller'), merge({})), 'cannot patch'],
  [
    'a token of the controller',
    (me) => make(me, tokensOf('esb-controller') as never, { metadata: at(system, 'esb-controller'), ...tokenRequest }),
    'serviceaccounts/token',
  ],
  ['a Pod', (me) => make(me, pods as never, pod), 'cannot create resource "pods"'],
  [
    'the rights of callers elsewhere',
    (me) =>
      make(me, localSubjectAccessReviews as never, {
        metadata: at('team-a', ''),
        spec: { user: 'me', resourceAttributes: { namespace: 'team-a', verb: 'get', resource: 'pods' } },
      }),
    'cannot create',
  ],
  ['a grant in its namespace', (me) => make(me, roleBindings as never, binding('default')), 'cannot create'],
];

/** The agent of node-1. */
const ofAgent: readonly Attempt[] = [
  [
    'to tell of a worker elsewhere',
    (me) => me.patch(lambdaWorkers, at('default', 'on-node-2'), apply({ status: { phase: 'Running' } }), toStatus),
    'not assigned to node node-1',
  ],
  ...(
    [
      ['an assignment', { assignment: { nodeName: 'node-1', epoch: 2 } }],
      ['an epoch', { lastEpoch: 2 }],
    ] as const
  ).map(
    ([name, status]): Attempt => [
      name,
      (me) => me.patch(lambdaWorkers, at('default', 'on-node-1'), merge({ status }), toStatus),
      'by the controller alone',
    ],
  ),
  ['a worker', (me) => makeWorker(me, 'default', {}), 'cannot create resource "lambdaworkers"'],
  [
    'the image of its worker',
    (me) => me.patch(lambdaWorkers, at('default', 'on-node-1'), merge({ spec: { image: 'other:1' } })),
    'cannot patch',
  ],
  [
    'the finalizer of its worker',
    (me) => me.patch(lambdaWorkers, at('default', 'on-node-1'), merge({ metadata: { finalizers: [] } })),
    'cannot patch',
  ],
  ['the end of its worker', (me) => me.delete(lambdaWorkers, at('default', 'on-node-1')), 'cannot delete'],
  [
    'the address of another agent',
    (me) => me.patch(lambdaNodes, { name: 'node-2' }, apply(endpoint), toStatus),
    'only the objects of that name',
  ],
  [
    'a second LambdaNode',
    (me) => me.patch(lambdaNodes, { name: 'node-9' }, apply({ metadata: { name: 'node-9' } })),
    'only the objects of that name',
  ],
  ...(
    [
      ['to stay on the node that is retired', { retired: false }],
      ['to take its cordon back', { unschedulable: false }],
    ] as const
  ).map(
    ([name, spec]): Attempt => [
      name,
      (me) => me.patch(lambdaNodes, { name: 'node-1' }, merge({ spec })),
      'written by others than its agent',
    ],
  ),
  ['the end of its LambdaNode', (me) => me.delete(lambdaNodes, { name: 'node-1' }), 'cannot delete'],
  [
    'the Lease of the controller',
    (me) => me.create(leases, { metadata: at(system, 'esb-controller') }),
    'only the objects of that name',
  ],
  ['a Secret without a grant', (me) => me.get(secrets, at('default', 'other')), 'secrets "other"'],
  ['Secrets of a namespace', (me) => me.list(secrets, { namespace: 'default' }), 'cannot list resource "secrets"'],
  ['the key of the authority', (me) => me.get(secrets, at(system, 'esb-client-ca')), 'esb-client-ca'],
  [
    'an authority of its own',
    (me) => me.patch(configMaps, at(system, 'esb-client-ca'), merge({ data: { 'ca.crt': '' } })),
    'cannot patch resource "configmaps"',
  ],
  [
    'a label of its Node',
    (me) => me.patch(nodes, { name: 'node-1' }, merge({ metadata: { labels: { a: 'b' } } })),
    'cannot patch resource "nodes"',
  ],
  ['the end of a Pod', (me) => me.delete(pods, at(system, 'esb-agent-node-1')), 'cannot delete resource "pods"'],
  ['a Pod', (me) => make(me, pods as never, pod), 'cannot create resource "pods"'],
  ['the label that lets a namespace', letsItsNamespace, 'cannot patch resource "namespaces"'],
  largerQuota,
  [
    'the certificate of a gateway',
    (me) => make(me, certificateSigningRequests as never, request('esb.dev/gateway-client')),
    'cannot create',
  ],
  [
    'a token of the controller',
    (me) => make(me, tokensOf('esb-controller') as never, { metadata: at(system, 'esb-controller'), ...tokenRequest }),
    'serviceaccounts/token',
  ],
  ...(
    [
      ['an Event in the name of another node', 'node-2', 'LambdaWorker', 'only Events of its own'],
      ['an Event about a Pod', 'node-1', 'Pod', 'about LambdaWorkers alone'],
    ] as const
  ).map(
    ([name, reportingInstance, kind, told]): Attempt => [
      name,
      (me) =>
        make(me, events as never, {
          metadata: at('default', 'mine'),
          eventTime: '2026-11-01T00:00:00.000000Z',
          reportingController: 'esb.dev/agent',
          reportingInstance,
          action: 'Pull',
          reason: 'Pulled',
          type: 'Normal',
          regarding: { apiVersion: kind === 'Pod' ? 'v1' : 'esb.dev/v1alpha1', kind, namespace: 'default', name: 'x' },
        }),
      told,
    ],
  ),
];

/** The rights and policies of the chart, by tokens such as the parts of ESB and people have. */
describe('attempts at what is not its own', () => {
  let cluster: ChartCluster;
  let admin: KubeClient;
  let agent: KubeClient;
  let gateway: KubeClient;
  let tenant: KubeClient;

  beforeAll(async () => {
    cluster = await startChartCluster();
    admin = cluster.admin;
    const { server } = cluster;
    await cluster.install(['--set', 'workerPolicy.egress={Internet,None}']);
    for (const args of [
      ['namespace', 'team-a'],
      ['-n', 'team-a', 'serviceaccount', 'tenant'],
      // The controller manager, which is not here, adds the roles of ESB to the built-in one.
      ...['edit', 'esb-edit', 'esb-view', 'esb-invoke'].map((role) => [
        ...['-n', 'team-a', 'rolebinding', `tenant-${role}`],
        ...[`--clusterrole=${role}`, '--serviceaccount=team-a:tenant'],
      ]),
      ...['granted', 'other'].map((name) => ['secret', 'generic', name, '--from-literal=key=value']),
      ['role', 'granted', '--verb=get', '--resource=secrets', '--resource-name=granted'],
      ['rolebinding', 'granted', '--role=granted', `--serviceaccount=${system}:esb-agent`],
    ]) {
      const options = args[0] === '-n' ? args.slice(0, 2) : [];
      await server.kubectl([...options, 'create', ...args.slice(options.length)]);
    }
    const worker = (namespace: string, name: string) =>
      make(admin, lambdaWorkers as never, { metadata: at(namespace, name), spec: { image: 'hello:1' } });
    for (const name of ['node-1', 'node-2']) {
      await admin.create(nodes, { metadata: { name } });
      await admin.create(lambdaNodes, { metadata: { name }, spec: { unschedulable: false, retired: false } });
      await worker('default', `on-${name}`);
      const body = { status: { assignment: { nodeName: name, epoch: 1 } } };
      await admin.patch(lambdaWorkers, at('default', `on-${name}`), merge(body), toStatus);
    }
    await worker('team-a', 'own');
    await make(admin, lambdaQuotas as never, { metadata: at('team-a', 'team'), spec: { hard: { workers: 5 } } });
    await admin.patch(lambdaNodes, { name: 'node-1' }, merge({ spec: { retired: true, unschedulable: true } }));
    tenant = await cluster.clientOf({ name: 'tenant', namespace: 'team-a' });
    gateway = await cluster.clientOf({ name: 'esb-gateway' });
    agent = await cluster.clientOf({ name: 'esb-agent', node: 'node-1' });
    // A policy takes effect a moment after it was written.
    await waitFor('the policies', async () => {
      const outcomes = await Promise.allSettled([
        agent.patch(lambdaWorkers, at('default', 'on-node-2'), apply({ status: { restartCount: 1 } }), toStatus),
        tenant.patch(lambdaWorkers, at('team-a', 'own'), merge({ spec: host })),
      ]);
      if (outcomes[1].status === 'fulfilled') {
        await tenant.patch(lambdaWorkers, at('team-a', 'own'), merge({ spec: { network: null, command: null } }));
      }
      return outcomes.every(({ status }) => status === 'rejected');
    });
  });

  afterAll(() => cluster.stop());

  const refused = async (client: KubeClient, [, attempt, told]: Attempt): Promise<void> => {
    await expect(attempt(client)).rejects.toMatchObject({
      code: 'Forbidden',
      message: expect.stringContaining(told) as string,
    });
  };

  it('are 30 of a tenant, and 20 each of a gateway and an agent, and as many names', () => {
    for (const [table, least] of [
      [ofTenant, 30],
      [ofGateway, 20],
      [ofAgent, 20],
    ] as const) {
      expect(new Set(table.map(([name]) => name)).size).toBe(table.length);
      expect(table.length).toBeGreaterThanOrEqual(least);
    }
  });

  it.each(ofTenant)('by a tenant, %s, are refused', (...row) => refused(tenant, row));
  it.each(ofGateway)('by a gateway, %s, are refused', (...row) => refused(gateway, row));
  it.each(ofAgent)('by an agent, %s, are refused', (...row) => refused(agent, row));

  it('are none where an agent writes what is of its node, and reads what it was granted', async () => {
    const kubeconfig = join(cluster.server.folder, 'esb-system-esb-agent-node-1.kubeconfig');
    const who = await cluster.server.kubectl(['--kubeconfig', kubeconfig, 'auth', 'whoami', '-o', 'json']);
    const extra = { 'authentication.kubernetes.io/node-name': ['node-1'] };
    const username = 'system:serviceaccount:esb-system:esb-agent';
    expect(JSON.parse(who)).toMatchObject({ status: { userInfo: { username, extra } } });
    await expect(agent.get(secrets, at('default', 'granted'))).resolves.toMatchObject({ data: { key: 'dmFsdWU=' } });
    await agent.patch(lambdaNodes, { name: 'node-1' }, apply({ status: { endpoint: '10.0.0.1:9443' } }), toStatus);
    await agent.create(leases, { metadata: at(system, 'node-1') });
    await agent.patch(leases, at(system, 'node-1'), merge({ spec: { holderIdentity: 'x' } }));
    await agent.patch(lambdaWorkers, at('default', 'on-node-1'), apply({ status: { phase: 'Running' } }), toStatus);
  });

  it('fail of an agent that registers itself with a cordon, and not of one that registers itself', async () => {
    const newcomer = await cluster.clientOf({ name: 'esb-agent', node: 'node-3' });
    const register = (object: object) =>
      newcomer.patch(lambdaNodes, { name: 'node-3' }, apply({ metadata: { name: 'node-3' }, ...object }));
    await expect(register({ spec: { unschedulable: true } })).rejects.toMatchObject({
      code: 'Forbidden',
      message: expect.stringContaining('written by others than its agent') as string,
    });
    await register({});
  });

  it.each(['esb-hold', 'esb-reserve', 'esb-gateway', 'esb-events'])(
    'fail of %s on a node: it writes no LambdaNode',
    async (name) => {
      const client = await cluster.clientOf({ name, node: 'node-2' });
      await expect(client.patch(lambdaNodes, { name: 'node-2' }, apply(endpoint), toStatus)).rejects.toMatchObject({
        code: 'Forbidden',
      });
    },
  );

  it('are tried by all accounts that the chart makes', async () => {
    const accounts = objectsIn(await renderChart(['--no-hooks']))
      .filter(({ kind }) => kind === 'ServiceAccount')
      .map(({ metadata }) => metadata.name);
    expect(accounts.toSorted()).toEqual([
      'esb-agent',
      'esb-controller',
      'esb-events',
      'esb-gateway',
      'esb-hold',
      'esb-reserve',
    ]);
  });
});
