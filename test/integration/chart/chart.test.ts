import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import {
  chartFolder,
  chartNotes,
  helm,
  objectsIn,
  podTemplates,
  renderChart,
  valuesArguments,
  valuesFiles,
} from '../../support/chart.ts';

const root = join(import.meta.dirname, '../../..');
const postgres = ['gateway.events.store=postgres', 'gateway.events.postgres.secretName=database'];
const set = (...values: readonly string[]): readonly string[] => values.flatMap((value) => ['--set', value]);

async function named(kind: string, name: string, args: readonly string[] = []) {
  const objects = objectsIn(await renderChart(args));
  return objects.find((object) => object.kind === kind && object.metadata.name === name);
}

async function argumentsOf(kind: string, name: string, args: readonly string[] = []) {
  return (await named(kind, name, args))?.spec?.template?.spec.containers[0]?.args ?? [];
}

describe('the chart', () => {
  it.each(valuesFiles)('passes helm lint --strict with the values %s', async (name) => {
    const told = await helm(['lint', '--strict', chartFolder, ...valuesArguments(name)]);
    expect(told).toContain('0 chart(s) failed');
  });

  it('has the version of the program', async () => {
    const chart = parse(await readFile(join(chartFolder, 'Chart.yaml'), 'utf8')) as Record<string, string>;
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    expect(chart).toMatchObject({ version, appVersion: version });
  });

  it.each([
    ['gateway.replica=2', 'replica'],
    ['agent.drainSeconds=soon', 'drainSeconds'],
    ['image.pullPolicy=Sometimes', 'pullPolicy'],
    ['image.digest=sha256:12', 'digest'],
    ['controller.replicas=0', 'replicas'],
    ['gateway.namespaces={Shop}', 'namespaces'],
    ['gateway.namespaces={shop,shop}', 'namespaces'],
  ])('refuses %s by its schema', async (value, told) => {
    await expect(renderChart(set(value))).rejects.toThrow(told);
  });

  it.each([
    [['gateway.namespaces={shop,default}'], 'default is that of gateway.namespace already'],
    [['gateway.events.store=postgres'], 'needs a Secret with the connection string'],
    [
      [...postgres, 'gateway.extraArgs={--events-address=esb-events:9444}'],
      'has no meaning with a database that keeps the events',
    ],
    [['gateway.extraArgs={--event-store=postgres}'], 'gateway.events.store says where events are kept'],
    [['gateway.tls.clientCAConfigMap=clients'], 'gateway.tls.secretName'],
    [[...postgres, 'gateway.autoscaling.minReplicas=11'], 'minReplicas is more than maxReplicas'],
    [['agent.stateDir=/var/lib'], 'is shared with others'],
    [['gateway.functionUrls.enabled=true'], 'gateway.functionUrls.domain is needed'],
    [['gateway.hosts.shop={shop.example.com}'], 'shop is no namespace'],
    [
      ['gateway.controlApi.enabled=true', 'gateway.authentication.enabled=false'],
      'gateway.controlApi.enabled needs gateway.authentication.enabled',
    ],
  ])('refuses %j, which no schema can say', async (values, told) => {
    await expect(renderChart(['--skip-schema-validation', ...set(...values)])).rejects.toThrow(told);
  });

  it('tells each gateway the names by which requests may be signed: of its own Service, and those of the operator', async () => {
    const hostsOf = async (name: string, ...values: readonly string[]) =>
      (await argumentsOf('Deployment', name, set(...values))).filter((flag) => flag.startsWith('--host='));
    expect(await hostsOf('esb-gateway')).toEqual([
      '--host=esb-gateway',
      '--host=esb-gateway.esb-system',
      '--host=esb-gateway.esb-system.svc',
      '--host=esb-gateway.esb-system.svc.cluster.local',
    ]);
    const values = [
      'gateway.namespaces={shop}',
      'gateway.clusterDomain=example.internal',
      'gateway.hosts.default={gateway.example.com}',
      'gateway.hosts.shop={shop.example.com,api.shop.example.com}',
    ];
    expect(await hostsOf('esb-gateway-shop', ...values)).toEqual([
      '--host=esb-gateway-shop',
      '--host=esb-gateway-shop.esb-system',
      '--host=esb-gateway-shop.esb-system.svc',
      '--host=esb-gateway-shop.esb-system.svc.example.internal',
      '--host=shop.example.com',
      '--host=api.shop.example.com',
    ]);
  });

  it('serves function URLs where it is asked to, at a Service of their own', async () => {
    expect(await named('Service', 'esb-gateway-urls')).toBeUndefined();
    const urls = set('gateway.functionUrls.enabled=true', 'gateway.functionUrls.domain=fn.example.com');
    expect(await named('Service', 'esb-gateway-urls', urls)).toMatchObject({
      spec: { ports: [{ name: 'http', targetPort: 'urls' }] },
    });
    const flag = '--function-url-domain=fn.example.com';
    expect(await argumentsOf('Deployment', 'esb-gateway')).not.toContain(flag);
    expect(await argumentsOf('Deployment', 'esb-gateway', urls)).toContain(flag);
    expect(await argumentsOf('Deployment', 'esb-controller', urls)).toContain(flag);
  });

  it('takes the user of a local instance for the controller only where it is asked to', async () => {
    const policies = ['esb-hold', 'esb-worker-status', 'esb-worker-version', 'esb-destination'];
    for (const name of policies) {
      const inCluster = JSON.stringify(await named('ValidatingAdmissionPolicy', name));
      expect(inCluster).not.toContain("'esb:controller'");
      expect(inCluster).not.toContain("'esb:gateway'");
      const local = await named('ValidatingAdmissionPolicy', name, set('controller.localUser=true'));
      expect(JSON.stringify(local)).toContain("'esb:controller'");
    }
  });

  it('lets gateways write functions where it is asked to, in the namespaces that they serve, and nothing else', async () => {
    expect(await named('ClusterRole', 'esb-gateway-control')).toBeUndefined();
    expect(await argumentsOf('Deployment', 'esb-gateway')).not.toContain('--control-api');
    const control = set('gateway.controlApi.enabled=true');
    expect(await argumentsOf('Deployment', 'esb-gateway', control)).toContain('--control-api');
    expect(await named('ClusterRole', 'esb-gateway-control', control)).toMatchObject({
      rules: [
        { apiGroups: ['esb.dev'], resources: ['lambdafunctions'], verbs: ['get', 'create', 'patch', 'delete'] },
        { apiGroups: ['esb.dev'], resources: ['lambdaversions'], verbs: ['get', 'delete'] },
      ],
    });
    expect(await named('RoleBinding', 'esb-gateway-control', control)).toMatchObject({
      metadata: { namespace: 'default' },
      subjects: [{ kind: 'ServiceAccount', name: 'esb-gateway' }],
    });
    expect(await named('ClusterRoleBinding', 'esb-gateway-control', control)).toBeUndefined();
  });

  it('has two gateways without a state, one a node, of which one may go at a time', async () => {
    const gateway = await named('Deployment', 'esb-gateway');
    expect(gateway).toMatchObject({
      spec: { replicas: 2, strategy: { rollingUpdate: { maxUnavailable: 0 } } },
    });
    const pod = gateway?.spec?.template?.spec;
    expect(JSON.stringify(pod?.volumes)).not.toContain('persistentVolumeClaim');
    expect(pod).toMatchObject({
      topologySpreadConstraints: [{ topologyKey: 'kubernetes.io/hostname', maxSkew: 1 }],
      // More than the longest call.
      terminationGracePeriodSeconds: 930,
    });
    expect(pod?.containers[0]?.args).toContain('--events-address=esb-events:9444');
    expect(await named('PodDisruptionBudget', 'esb-gateway')).toMatchObject({ spec: { maxUnavailable: 1 } });
    const scaled = await named('Deployment', 'esb-gateway', set('gateway.autoscaling.enabled=true'));
    expect(scaled?.spec).not.toHaveProperty('replicas');
  });

  it('keeps events in one role, on a claim of its own', async () => {
    const volumesOf = async (...values: readonly string[]) =>
      (await named('StatefulSet', 'esb-events', set(...values)))?.spec?.template?.spec.volumes ?? [];
    const policyOf = async (...values: readonly string[]) =>
      (await named('PersistentVolumeClaim', 'esb-events', set(...values)))?.metadata.annotations;
    expect(await named('StatefulSet', 'esb-events')).toMatchObject({ spec: { replicas: 1 } });
    expect(await volumesOf()).toContainEqual({
      name: 'state',
      persistentVolumeClaim: { claimName: 'esb-events' },
    });
    expect(await policyOf()).toEqual({ 'helm.sh/resource-policy': 'keep' });
    expect(await policyOf('gateway.events.persistence.keep=false')).toBeUndefined();
    const without = 'gateway.events.persistence.enabled=false';
    expect(await volumesOf(without)).toContainEqual({ name: 'state', emptyDir: {} });
    expect(await named('PersistentVolumeClaim', 'esb-events', set(without))).toBeUndefined();
  });

  it('has no such role where gateways share a database', async () => {
    const objects = objectsIn(await renderChart(set(...postgres)));
    expect(objects.filter(({ metadata }) => metadata.name.startsWith('esb-events'))).toEqual([]);
    const { args = [] } =
      objects.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === 'esb-gateway')?.spec?.template
        ?.spec.containers[0] ?? {};
    expect(args).toContain('--event-store=postgres');
    expect(args.join()).not.toContain('--events-address');
  });

  it('gives each namespace gateways, a role and an account of its own, with rights there alone', async () => {
    const objects = objectsIn(await renderChart(set('gateway.namespaces={shop}', 'networkPolicy.enabled=true')));
    const find = (kind: string, name: string, namespace: string) =>
      objects.find(
        ({ kind: each, metadata }) =>
          each === kind && metadata.name === name && (metadata.namespace ?? '') === namespace,
      );
    const gateway = find('Deployment', 'esb-gateway-shop', 'esb-system')?.spec?.template;
    expect(gateway?.spec.containers[0]?.args).toEqual(
      expect.arrayContaining(['--namespace=shop', '--events-address=esb-events-shop:9444']),
    );
    const events = find('StatefulSet', 'esb-events-shop', 'esb-system')?.spec?.template;
    expect(events?.spec.containers[0]?.args).toContain('--namespace=shop');
    expect(JSON.stringify(events?.spec.volumes)).toContain('"claimName":"esb-events-shop"');
    expect(gateway?.spec).toMatchObject({ serviceAccountName: 'esb-gateway-shop' });
    expect(events?.spec).toMatchObject({ serviceAccountName: 'esb-events-shop' });
    const subjects = (name: string) => [{ kind: 'ServiceAccount', name, namespace: 'esb-system' }];
    expect(find('RoleBinding', 'esb-gateway-workers', 'shop')).toMatchObject({
      subjects: subjects('esb-gateway-shop'),
    });
    expect(find('RoleBinding', 'esb-events-workers', 'shop')).toMatchObject({ subjects: subjects('esb-events-shop') });
    const written = find('ClusterRole', 'esb-events-workers', '') as { rules?: { verbs: string[] }[] } | undefined;
    expect(new Set(written?.rules?.flatMap(({ verbs }) => verbs))).toEqual(new Set(['list', 'watch', 'serve']));
    expect(find('RoleBinding', 'esb-gateway-workers', 'default')).toMatchObject({ subjects: subjects('esb-gateway') });
    // Services and budgets of one are not those of the other.
    const selected = JSON.stringify(find('Service', 'esb-gateway', 'esb-system')?.spec);
    expect(selected).toContain('"app.kubernetes.io/component":"gateway"');
    expect(gateway?.metadata.labels['app.kubernetes.io/component']).toBe('gateway-shop');
    const policy = JSON.stringify(find('NetworkPolicy', 'esb-gateway', 'esb-system'));
    expect(policy).toContain('"values":["gateway","gateway-shop"]');
  });

  it('replaces no Pod for a new version of itself with the same image', async () => {
    const objects = objectsIn(await renderChart());
    const labels = podTemplates(objects.filter(({ kind }) => kind !== 'Pod')).flatMap(({ metadata }) =>
      Object.keys(metadata.labels),
    );
    expect(labels).not.toContain('app.kubernetes.io/version');
    expect(labels).not.toContain('helm.sh/chart');
  });

  it('keeps the resource definitions at an uninstall unless it is told not to', async () => {
    const policies = async (args: readonly string[]) =>
      objectsIn(await renderChart(args))
        .filter(({ kind }) => kind === 'CustomResourceDefinition')
        .map(({ metadata }) => metadata.annotations?.['helm.sh/resource-policy']);
    expect(await policies([])).toEqual(Array(5).fill('keep'));
    expect(await policies(set('crds.keep=false'))).toEqual(Array(5).fill(undefined));
    expect(await policies(set('crds.install=false'))).toEqual([]);
  });

  it('gives an agent the time that its calls have, and ten seconds more', async () => {
    const args = set('agent.drainSeconds=100');
    expect(await argumentsOf('DaemonSet', 'esb-agent', args)).toContain('--drain=100');
    expect(await named('DaemonSet', 'esb-agent', args)).toMatchObject({
      spec: { template: { spec: { terminationGracePeriodSeconds: 110 } } },
    });
  });

  it("has agents run the node's credential providers, at the paths of the node", async () => {
    const config = '/etc/eks/image-credential-provider/config.json';
    const binDir = '/etc/eks/image-credential-provider';
    const values = ['config', 'binDir'].map((key) => `agent.credentialProviders.${key}`);
    const args = set(
      `${values[0]}=${config}`,
      `${values[1]}=${binDir}`,
      'agent.credentialProviders.paths={/etc/cloud}',
    );
    const flags = await argumentsOf('DaemonSet', 'esb-agent', args);
    expect(flags).toContain(`--image-credential-provider-config=${config}`);
    expect(flags).toContain(`--image-credential-provider-bin-dir=${binDir}`);
    const text = JSON.stringify(await named('DaemonSet', 'esb-agent', args));
    for (const path of [config, binDir, '/etc/cloud']) {
      expect(text).toContain(`"mountPath":"${path}","readOnly":true`);
      expect(text).toContain(`"hostPath":{"path":"${path}"}`);
    }
    await expect(renderChart(set(`${values[0]}=${config}`))).rejects.toThrow('binDir is needed');
    expect((await argumentsOf('DaemonSet', 'esb-agent', set())).join()).not.toContain('credential-provider');
  });

  it('warns whoever installs it of what they gave up', async () => {
    const open = ['gateway.authentication.enabled=false', 'gateway.events.persistence.enabled=false'];
    const careful = ['gateway.tls.secretName=tls', 'agent.network.denyCIDRs={10.0.0.0/8}', ...postgres];
    expect(await chartNotes(set(...careful))).not.toMatch(/WARNING|NOTE: /);
    const external = careful.map((each) => each.replace('tls.secretName=tls', 'tls.external=true'));
    expect(await chartNotes(set(...external))).not.toMatch(/WARNING|NOTE: /);
    const told = await chartNotes(set(...open, 'hold.enabled=false'));
    for (const value of [...open, 'hold.enabled=false'].map((each) => each.replace(/=.*/, ''))) {
      expect(told).toContain(value);
    }
    expect(told).not.toContain('Authorization');
    expect(await chartNotes()).toContain('-H "Authorization: Bearer $(kubectl create token -n default caller');
  });

  it('makes a class of a low priority for demand Pods, and none where none are wanted', async () => {
    const classes = async (...values: readonly string[]) =>
      objectsIn(await renderChart(set(...values))).filter(({ metadata }) => metadata.name === 'esb-demand');
    expect(await classes()).toMatchObject([{ kind: 'PriorityClass', value: -5, preemptionPolicy: 'Never' }]);
    expect(await argumentsOf('Deployment', 'esb-controller', set())).toContain('--demand-priority-class=esb-demand');
    for (const value of ['hold.demand=false', 'hold.enabled=false']) {
      expect(await classes(value)).toEqual([]);
      const told = (await argumentsOf('Deployment', 'esb-controller', set(value))).join();
      expect(told).not.toContain('--demand-priority-class');
    }
  });

  it('makes another class for hold Pods that have another value or preempt, since no class can be changed', async () => {
    const classOf = async (...values: readonly string[]) => {
      const objects = objectsIn(await renderChart(set(...values)));
      const made = objects.filter(({ kind, metadata }) => kind === 'PriorityClass' && metadata.name !== 'esb-demand');
      const told = (await argumentsOf('Deployment', 'esb-controller', set(...values))).find((arg) =>
        arg.startsWith('--hold-priority-class='),
      );
      expect(made.map(({ metadata }) => `--hold-priority-class=${metadata.name}`)).toEqual(
        told === undefined || values.includes('hold.priorityClass.create=false') ? [] : [told],
      );
      return { name: told?.split('=')[1], value: made[0]?.value, preemption: made[0]?.preemptionPolicy };
    };
    expect(await classOf()).toEqual({ name: 'esb-hold', value: 0, preemption: 'Never' });
    expect(await classOf('hold.priorityClass.value=1000000')).toEqual({
      name: 'esb-hold-1000000',
      value: 1_000_000,
      preemption: 'Never',
    });
    expect(await classOf('hold.priorityClass.value=-5')).toEqual({
      name: 'esb-hold-minus-5',
      value: -5,
      preemption: 'Never',
    });
    const others = ['hold.priorityClass.create=false', 'hold.priorityClass.name=mine'];
    expect(await classOf(...others, 'hold.priorityClass.value=7')).toMatchObject({ name: 'mine' });
    expect(await classOf('hold.priorityClass.name=')).toMatchObject({ name: undefined });
  });

  it('places no agents on virtual nodes, where there is no containerd', async () => {
    const affinity = (await named('DaemonSet', 'esb-agent'))?.spec?.template?.spec.affinity;
    expect(JSON.stringify(affinity)).toMatch(/NotIn.*virtual-kubelet.*NotIn.*fargate/);
  });

  it('gives each role the labels, variables and annotations that others ask for', async () => {
    for (const [kind, role] of [
      ['Deployment', 'controller'],
      ['Deployment', 'gateway'],
      ['DaemonSet', 'agent'],
    ] as const) {
      const args = set(
        `${role}.podLabels.team=edge`,
        `${role}.extraEnv[0].name=TZ`,
        `${role}.extraEnv[0].value=UTC`,
        `${role}.serviceAccountAnnotations.role=cloud`,
      );
      const template = (await named(kind, `esb-${role}`, args))?.spec?.template;
      expect(template?.metadata.labels.team).toBe('edge');
      expect(template?.spec.containers[0]).toMatchObject({
        env: expect.arrayContaining([{ name: 'TZ', value: 'UTC' }]),
      });
      const account = await named('ServiceAccount', `esb-${role}`, args);
      expect(account?.metadata.annotations).toEqual({ role: 'cloud' });
    }
  });

  it('can be a part of another chart, with a condition', async () => {
    await expect(renderChart(set('enabled=true'))).resolves.toContain('esb-controller');
  });

  it('asks for no more rights than a part that is on needs', async () => {
    const rules = async (args: readonly string[]) =>
      JSON.stringify(
        objectsIn(await renderChart(args))
          .filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role')
          .map(({ rules }) => rules),
      );
    const open = await rules(['--skip-tests', ...set('gateway.authentication.enabled=false', 'hold.enabled=false')]);
    expect(open).not.toContain('tokenreviews');
    expect(open).not.toContain('esb-access-keys');
    expect(open).toContain('"resources":["pods"],"verbs":["list","watch","patch","delete"]');
    const all = await rules([]);
    expect(all).toContain('tokenreviews');
    expect(all).not.toContain('"*"');
    expect(await rules(set('gateway.authentication.accessKeysSecret=keys'))).toContain('"keys"');
  });
});
