import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { chartFolder, helm } from '../../support/chart.ts';
import { type ChartCluster, startChartCluster } from '../../support/chart-cluster.ts';
import { run } from '../../support/command.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

const label = 'esb.dev/privileged-workers';
const host = { network: { mode: 'Host' }, command: ['/usr/local/bin/aws-lambda-rie'] };
const worker = (name: string, spec: object, metadata: object = {}): object => ({
  apiVersion: 'esb.dev/v1alpha1',
  kind: 'LambdaWorker',
  metadata: { name, ...metadata },
  spec: { image: 'hello:1', ...spec },
});
const ofFunction = (name: string, spec: object): object => ({
  apiVersion: 'esb.dev/v1alpha1',
  kind: 'LambdaFunction',
  metadata: { name },
  spec: { template: { spec: { image: 'hello:1', ...spec } } },
});
const lambdaNode = {
  apiVersion: 'esb.dev/v1alpha1',
  kind: 'LambdaNode',
  metadata: { name: 'node-2', labels: { pool: 'a' } },
};
const quota = (name: string): object => ({
  apiVersion: 'esb.dev/v1alpha1',
  kind: 'LambdaQuota',
  metadata: { name },
  spec: { hard: { workers: 100 } },
});
const request = {
  apiVersion: 'certificates.k8s.io/v1',
  kind: 'CertificateSigningRequest',
  metadata: { name: 'mine' },
  spec: { request: 'AAAA', signerName: 'esb.dev/gateway-client', usages: ['client auth'] },
};

/** Somebody with the built-in role `edit` in the namespace team-a, by a real token, and what the chart installs. */
describe('a tenant', () => {
  let cluster: ChartCluster;
  let admin: KubeClient;
  let kubeconfig: string;

  /** Runs kubectl as the tenant; rejects with what it printed. */
  const kubectl = async (args: readonly string[], object?: object): Promise<string> => {
    const { folder } = cluster.server;
    const all = ['--kubeconfig', kubeconfig, '--cache-dir', join(folder, 'tenant-cache'), ...args];
    const input = object === undefined ? {} : { input: stringify(object) };
    return (await run(join(toolsFolder(), 'kubectl'), all, { timeoutMs: 60_000, ...input })).stdout;
  };
  const create = (object: object, ...args: readonly string[]) =>
    kubectl(['create', '-f', '-', '-o', 'yaml', ...args], object);
  const patch = (kind: string, name: string, body: object, ...args: readonly string[]) =>
    kubectl(['patch', kind, name, '--type=merge', '-p', JSON.stringify(body), ...args]);
  const find = (name: string) => admin.get(lambdaWorkers, { namespace: 'team-a', name });
  const lets = (value: 'true' | '') =>
    cluster.server.kubectl([
      ...['label', '--overwrite', 'namespace', 'team-a'],
      value === '' ? `${label}-` : `${label}=${value}`,
    ]);
  const policyIs = (inForce: boolean) =>
    waitFor(`the policy to be ${inForce ? 'in force' : 'lifted'}`, async () => {
      const refused = await create(worker('probe', host), '--dry-run=server').then(
        () => false,
        () => true,
      );
      return refused === inForce;
    });

  beforeAll(async () => {
    cluster = await startChartCluster();
    admin = cluster.admin;
    const { server } = cluster;
    await cluster.install(['--set', 'workerPolicy.enabled=false']);
    for (const namespace of ['team-a', 'team-b']) {
      await server.kubectl(['create', 'namespace', namespace]);
      await server.kubectl(['-n', namespace, 'create', 'secret', 'generic', 'keys', '--from-literal=k=v']);
    }
    await server.kubectl(['-n', 'team-a', 'create', 'serviceaccount', 'tenant']);
    // The controller manager, which is not here, adds the roles of ESB to the built-in one.
    for (const role of ['edit', 'esb-edit', 'esb-view', 'esb-invoke']) {
      await server.kubectl([
        ...['-n', 'team-a', 'create', 'rolebinding', `tenant-${role}`],
        ...[`--clusterrole=${role}`, '--serviceaccount=team-a:tenant'],
      ]);
    }
    await server.kubectl(['create', '-f', '-'], JSON.stringify({ ...lambdaNode, metadata: { name: 'node-1' } }));
    const config = parse(
      await readFile(await cluster.kubeconfigOf({ name: 'tenant', namespace: 'team-a' }), 'utf8'),
    ) as { contexts: { context: { namespace?: string } }[] };
    for (const { context } of config.contexts) {
      context.namespace = 'team-a';
    }
    kubeconfig = join(server.folder, 'tenant.kubeconfig');
    await writeFile(kubeconfig, stringify(config));

    await server.kubectl(['-n', 'team-a', 'create', '-f', '-'], stringify(quota('team')));
    await create(worker('plain', {}));
    for (const name of ['before', 'before-too']) {
      await create(worker(name, { ...host, readOnlyRootFilesystem: false }));
    }
    await cluster.install();
    await policyIs(true);
  });

  afterAll(() => cluster.stop());

  it.each([
    ['the network of the node', host, 'spec.network.mode Host is the network of the node: write Bridge, or'],
    ['a writable root', { readOnlyRootFilesystem: false }, 'spec.readOnlyRootFilesystem false fills the disk'],
    ['a huge /tmp', { ephemeralStorage: '11Gi' }, 'spec.ephemeralStorage is more than 10Gi: write less, or'],
    ['a huge /tmp in bytes', { ephemeralStorage: 11 * 2 ** 30 }, 'spec.ephemeralStorage is more than 10Gi'],
    ['more /tmp than anybody may have', { ephemeralStorage: '65Gi' }, 'from 1Mi to 64Gi'],
    ['a port of the node', { hostPort: 80 }, 'unknown field "spec.hostPort"'],
    ['all privileges', { securityContext: { privileged: true } }, 'unknown field "spec.securityContext"'],
    ['a folder of the node', { volumes: [{ hostPath: { path: '/' } }] }, 'unknown field "spec.volumes"'],
    [
      'a Secret of another namespace',
      { env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 's', key: 'k', namespace: 'team-b' } } }] },
      'unknown field "spec.env[0].valueFrom.secretKeyRef.namespace"',
    ],
    ['an image by a path', { image: '../../etc/passwd' }, 'image must be a reference'],
    ['more processes than a node has', { resources: { pids: 10_000_000 } }, 'spec.resources.pids'],
  ])(
    'is refused a new worker with %s, and told of the field',
    { tags: ['T1', 'T3', 'T4', 'T5', 'T6', 'T7'] },
    async (_what, spec, told) => {
      await expect(create(worker('new', spec))).rejects.toThrow(told);
      const inTemplate = told
        .replace('"spec.', '"spec.template.spec.')
        .replace(/^spec.resources/, 'spec.template.spec.resources');
      await expect(create(ofFunction('new', spec))).rejects.toThrow(inTemplate);
    },
  );

  it('writes functions and scales them', async () => {
    await create(ofFunction('mine', {}));
    await kubectl(['scale', 'lf/mine', '--replicas=3']);
    await expect(kubectl(['get', 'lf', 'mine', '-o', 'jsonpath={.spec.scaling.minWorkers}'])).resolves.toBe('3');
    await expect(patch('lambdafunction', 'mine', { status: { workers: 9 } }, '--subresource=status')).rejects.toThrow(
      'lambdafunctions/status',
    );
    await kubectl(['delete', 'lf', 'mine']);
  });

  it('makes no version and no worker of one, says nothing of what an alias means, and may delete a version', async () => {
    await expect(create(worker('forged-1-0', { functionName: 'forged', version: 1 }))).rejects.toThrow(
      'spec.version is written by the controller alone',
    );
    const version = {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaVersion',
      metadata: { name: 'mine-1' },
      spec: { functionName: 'mine', version: 1, template: { spec: { image: 'hello:1' } } },
    };
    await expect(create(version)).rejects.toThrow('cannot create resource "lambdaversions"');
    await cluster.server.kubectl(['-n', 'team-a', 'create', '-f', '-'], JSON.stringify(version));
    await expect(patch('lambdaversion', 'mine-1', { spec: { description: 'x' } })).rejects.toThrow('lambdaversions');
    await expect(kubectl(['get', 'lv', 'mine-1', '-o', 'name'])).resolves.toContain('mine-1');
    await kubectl(['delete', 'lv', 'mine-1']);
  });

  it('reads the quotas that it is bound by', async () => {
    await expect(kubectl(['get', 'lambdaquotas', '-o', 'name'])).resolves.toBe('lambdaquota.esb.dev/team\n');
  });

  it('is told of the way out', async () => {
    await expect(create(worker('new', host))).rejects.toThrow(
      'kubectl label namespace team-a esb.dev/privileged-workers=true',
    );
  });

  it.each([
    ['the network of the node', host],
    ['a writable root', { readOnlyRootFilesystem: false }],
    ['a huge /tmp', { ephemeralStorage: '11Gi' }],
  ])('is refused a change to %s', { tags: ['T2'] }, async (_what, spec) => {
    await expect(patch('lambdaworker', 'plain', { spec })).rejects.toThrow('ValidatingAdmissionPolicy');
    await expect(
      kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], worker('plain', spec)),
    ).rejects.toThrow('ValidatingAdmissionPolicy');
  });

  it.each([
    ['a worker in another namespace', () => create(worker('new', {}), '-n', 'team-b')],
    ['a Secret of another namespace', () => kubectl(['-n', 'team-b', 'get', 'secret', 'keys'])],
    ['the keys of the authority of gateways', () => kubectl(['-n', 'esb-system', 'get', 'secret', 'esb-client-ca'])],
    [
      'a grant of Secrets of another namespace to the agents',
      () => kubectl(['-n', 'team-b', 'create', 'rolebinding', 'r', '--clusterrole=view', '--user=x']),
    ],
    ['the label that lets its namespace', () => kubectl(['label', 'namespace', 'team-a', `${label}=true`])],
    ['a LambdaNode of its own', () => create(lambdaNode)],
    ['a quota of its own', () => create(quota('own'))],
    ['a larger quota', () => patch('lambdaquota', 'team', { spec: { hard: { workers: 1_000 } } })],
    ['to use less of its quota', () => patch('lambdaquota', 'team', { status: { used: {} } }, '--subresource=status')],
    ['no quota at all', () => kubectl(['delete', 'lambdaquota', 'team'])],
    ['a label of a LambdaNode', () => kubectl(['label', 'lambdanode', 'node-1', 'pool=a'])],
    ['to retire a LambdaNode', () => patch('lambdanode', 'node-1', { spec: { retired: true } })],
    [
      'the assignment of its worker',
      () =>
        patch(
          'lambdaworker',
          'plain',
          { status: { assignment: { nodeName: 'node-1', epoch: 9 } } },
          '--subresource=status',
        ),
    ],
    [
      'a stamp of activity',
      () =>
        patch(
          'lambdaworker',
          'plain',
          { status: { lastInvocationTime: '2026-11-01T00:00:00Z' } },
          '--subresource=status',
        ),
    ],
    ['a certificate of a gateway', () => create(request)],
    ['the policy', () => kubectl(['delete', 'validatingadmissionpolicybinding', 'esb-worker'])],
    ['what agents know of the policy', () => kubectl(['-n', 'esb-system', 'delete', 'configmap', 'esb-worker-policy'])],
    [
      'to be the controller',
      () => kubectl(['get', 'lambdanodes', '--as=system:serviceaccount:esb-system:esb-controller']),
    ],
    ['a token of the agents', () => kubectl(['-n', 'esb-system', 'create', 'token', 'esb-agent'])],
    [
      'a Pod of the system',
      () =>
        create({
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: 'p', namespace: 'esb-system' },
          spec: { serviceAccountName: 'esb-agent', containers: [{ name: 'c', image: 'i' }] },
        }),
    ],
  ])(
    'is refused %s by its rights',
    { tags: ['T8', 'T9', 'T10', 'T11', 'T12', 'T13', 'T14', 'T15', 'T31'] },
    async (_what, attempt) => {
      await expect(attempt()).rejects.toThrow('forbidden');
    },
  );

  it('cannot make a worker that passes for another one, an older one, or one that is being deleted', {
    tags: ['T16', 'T17'],
  }, async () => {
    const plain = await find('plain');
    const forged = {
      uid: plain?.metadata.uid,
      creationTimestamp: '2020-01-01T00:00:00Z',
      deletionTimestamp: '2020-01-01T00:00:00Z',
      generation: 7,
    };
    const assignment = { nodeName: 'node-1', epoch: 9 };
    const made = parse(
      await create({ ...worker('forged', {}, forged), status: { assignment } }, '--validate=false'),
    ) as LambdaWorker;
    expect(made.status?.assignment).toBeUndefined();
    expect(made.metadata.uid).not.toBe(plain?.metadata.uid);
    expect(made.metadata.deletionTimestamp).toBeUndefined();
    expect(Date.parse(made.metadata.creationTimestamp ?? '')).toBeGreaterThan(Date.parse('2026-01-01'));
    await patch('lambdaworker', 'forged', {
      metadata: { deletionTimestamp: forged.deletionTimestamp },
    }).catch(() => undefined);
    await patch('lambdaworker', 'forged', {
      metadata: { creationTimestamp: forged.creationTimestamp },
    }).catch(() => undefined);
    expect((await find('forged'))?.metadata).toMatchObject({
      uid: made.metadata.uid,
      creationTimestamp: made.metadata.creationTimestamp,
    });
    expect((await find('forged'))?.metadata.deletionTimestamp).toBeUndefined();
  });

  it('has no function called by a destination that it may not call itself', { tags: ['T35'] }, async () => {
    const { server } = cluster;
    const invoke = ['--verb=create', '--resource=lambdaworkers.esb.dev/invoke', '--resource-name=hello'];
    await server.kubectl(['-n', 'team-a', 'create', 'role', 'calls-hello', ...invoke]);
    const bound = (name: string, role: string) =>
      server.kubectl(['-n', 'team-a', 'create', 'rolebinding', name, `--${role}`, '--user=author']);
    await bound('author-edits', 'clusterrole=esb-edit');
    await bound('author-views', 'clusterrole=esb-view');
    await bound('author-calls', 'role=calls-hello');
    const as = (args: readonly string[], object?: object): Promise<string> =>
      server.kubectl(
        ['-n', 'team-a', '--as=author', ...args],
        ...(object === undefined ? [] : ([JSON.stringify(object)] as const)),
      );
    const to = (functionName: string, place: 'onSuccess' | 'onFailure' = 'onSuccess') => ({
      asyncInvoke: { [place]: { functionName } },
    });
    const function_ = (spec: object, template: object = {}): object => {
      const { spec: usual, ...rest } = ofFunction('greets', template) as { spec: object };
      return { ...rest, spec: { ...usual, ...spec } };
    };
    const refused = 'needs the right to create lambdaworkers/invoke of this name';
    for (const object of [
      worker('greets', to('secret')),
      worker('greets', to('secret', 'onFailure')),
      function_(to('secret')),
      function_({}, to('secret', 'onFailure')),
      function_({ asyncInvoke: { onSuccess: { functionName: 'hello' }, onFailure: { functionName: 'secret' } } }),
    ]) {
      await expect(as(['create', '-f', '-'], object)).rejects.toThrow(refused);
    }
    await as(['create', '-f', '-'], function_(to('hello')));
    const change = (spec: object) => as(['patch', 'lf', 'greets', '--type=merge', '-p', JSON.stringify({ spec })]);
    await expect(change(to('secret'))).rejects.toThrow(`spec.asyncInvoke.onSuccess has the function secret called`);
    // A destination that somebody else has written stays, and scaling and labels go on.
    await kubectl(['patch', 'lf', 'greets', '--type=merge', '-p', JSON.stringify({ spec: to('secret') })]);
    await change({ description: 'greets' });
    await as(['scale', 'lf/greets', '--replicas=2']);
    await as(['label', 'lf', 'greets', 'team=a']);
    await expect(change(to('secret', 'onFailure'))).rejects.toThrow(refused);
    await kubectl(['delete', 'lf', 'greets']);
  });

  it('is named by an upgrade, with the workers that break the policy', async () => {
    const notes = () =>
      helm([
        ...['install', 'esb', chartFolder, '--namespace', 'esb-system', '--dry-run=server', '--take-ownership'],
        ...['--kubeconfig', cluster.server.adminKubeconfig, '--set', 'crds.install=false'],
      ]);
    expect(await notes()).toMatch(
      /WARNING: 2 LambdaWorkers break the policy esb-worker.*\n.*: team-a\/before, team-a\/before-too\n/,
    );
    await lets('true');
    expect(await notes()).not.toContain('break the policy');
    await lets('');
    await policyIs(true);
  });

  it('keeps the workers that were made before, to be annotated and deleted, and not to be changed', async () => {
    await patch('lambdaworker', 'before', { metadata: { annotations: { note: 'a' } } });
    await expect(patch('lambdaworker', 'before', { spec: { timeoutSeconds: 9 } })).rejects.toThrow(
      'spec.network.mode Host',
    );
    // As ESB does, and as somebody else might.
    await patch('lambdaworker', 'before', { metadata: { finalizers: ['team.example/wait'] } });
    await kubectl(['delete', 'lambdaworker', 'before', '--wait=false']);
    expect((await find('before'))?.metadata.deletionTimestamp).toBeDefined();
    await patch('lambdaworker', 'before', { metadata: { finalizers: null } });
    expect(await find('before')).toBeUndefined();
  });

  it('may do all that where an administrator lets its namespace, for as long as the label is there', async () => {
    await lets('true');
    await policyIs(false);
    await create(worker('let', { ...host, readOnlyRootFilesystem: false, ephemeralStorage: '11Gi' }));
    await patch('lambdaworker', 'before-too', { spec: { timeoutSeconds: 9 } });
    await lets('');
    await policyIs(true);
    await patch('lambdaworker', 'let', { metadata: { annotations: { note: 'a' } } });
    await expect(patch('lambdaworker', 'let', { spec: { timeoutSeconds: 9 } })).rejects.toThrow(
      'spec.network.mode Host',
    );
    await patch('lambdaworker', 'let', {
      spec: { network: { mode: 'Bridge' }, readOnlyRootFilesystem: true, ephemeralStorage: '1Gi' },
    });
  });

  it('is refused an image that its registry is not asked for, and a class that is not listed, where that is wished', {
    tags: ['T33'],
  }, async () => {
    await create(worker('open', { network: { egress: 'All' } }), '--dry-run=server');
    await cluster.install([
      ...['--set', 'workerPolicy.requireAlwaysPull=true'],
      ...['--set', 'workerPolicy.egress={Internet,None}'],
    ]);
    await waitFor('the policy to be changed', () =>
      create(worker('probe', {}), '--dry-run=server').then(
        () => false,
        () => true,
      ),
    );
    for (const spec of [{}, { imagePullPolicy: 'Never' }, { imagePullPolicy: 'IfNotPresent' }]) {
      await expect(create(worker('new', spec))).rejects.toThrow('spec.imagePullPolicy is not Always');
    }
    await create(worker('asked', { imagePullPolicy: 'Always' }));
    await create(worker('inside', { imagePullPolicy: 'Always', network: { egress: 'None' } }));
    for (const egress of ['All', 'Cluster']) {
      await expect(create(worker('new', { imagePullPolicy: 'Always', network: { egress } }))).rejects.toThrow(
        `spec.network.egress ${egress} is not among Internet, None: write one of these or leave it out, or`,
      );
    }
  });
});
