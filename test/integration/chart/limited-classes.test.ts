import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { objectsIn, podTemplates, renderChart } from '../../support/chart.ts';

const namespace = 'esb-system';
const classes = ['system-cluster-critical', 'system-node-critical'];
/** How GKE and others limit the classes of Kubernetes' own to namespaces that have a quota for them. */
const admission = JSON.stringify({
  apiVersion: 'apiserver.config.k8s.io/v1',
  kind: 'AdmissionConfiguration',
  plugins: [
    {
      name: 'ResourceQuota',
      configuration: {
        apiVersion: 'apiserver.config.k8s.io/v1',
        kind: 'ResourceQuotaConfiguration',
        limitedResources: [
          {
            resource: 'pods',
            matchScopes: [{ scopeName: 'PriorityClass', operator: 'In', values: classes }],
          },
        ],
      },
    },
  ],
});

describe('on a cluster that limits the critical priority classes', () => {
  let folder: string;
  let server: ApiServer;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-admission-'));
    const file = join(folder, 'admission.json');
    await writeFile(file, admission);
    server = await startApiServer({ flags: [`--admission-control-config-file=${file}`] });
    await server.kubectl(['create', 'namespace', namespace]);
  });

  afterAll(async () => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const create = async (template: { readonly of: string; readonly spec: object }) =>
    server.kubectl(
      ['create', '-f', '-', '-o', 'name'],
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { generateName: 'tried-', namespace },
        spec: { ...template.spec, restartPolicy: 'Never' },
      }),
    );
  const templates = async (...sets: readonly string[]) =>
    podTemplates(objectsIn(await renderChart(sets.flatMap((each) => ['--set', each]))));
  const critical = ({ spec }: { readonly spec: object }) =>
    'priorityClassName' in spec && classes.includes(String(spec.priorityClassName));

  it('a Pod of such a class is refused in a namespace without a quota', async () => {
    const [first] = (await templates()).filter(critical);
    await expect(create(first ?? { of: '', spec: {} })).rejects.toThrow('insufficient quota to match');
  });

  it('every Pod of the chart is made, and those after an uninstall without the quota', async () => {
    const leftovers = (await templates()).find(({ of }) => of === 'Job esb-leftovers');
    await expect(create(leftovers ?? { of: '', spec: {} })).resolves.toContain('pod/tried-');

    const quotas = objectsIn(await renderChart()).filter(({ kind }) => kind === 'ResourceQuota');
    for (const quota of quotas) {
      await server.kubectl(['apply', '--server-side', '-f', '-'], JSON.stringify(quota));
      // As the controller of quotas does.
      const { hard } = quota.spec as { readonly hard: object };
      const used = Object.fromEntries(Object.keys(hard).map((name) => [name, '0']));
      await server.kubectl([
        ...['patch', 'resourcequota', quota.metadata.name, '-n', namespace, '--subresource=status'],
        ...['--type=merge', '-p', JSON.stringify({ status: { hard, used } })],
      ]);
    }
    const all = await templates();
    expect(all.filter(critical).length).toBeGreaterThanOrEqual(4);
    for (const template of all) {
      await expect(create(template), template.of).resolves.toContain('pod/tried-');
    }
  });

  it('has no quota where no role is of such a class, or where somebody else has one', async () => {
    const kinds = async (sets: readonly string[]) =>
      objectsIn(await renderChart(sets.flatMap((each) => ['--set', each]))).map(({ kind }) => kind);
    const plain = ['controller', 'gateway', 'agent'].map((role) => `${role}.priorityClassName=`);
    expect(await kinds(plain)).not.toContain('ResourceQuota');
    expect(await kinds(['resourceQuota.enabled=false'])).not.toContain('ResourceQuota');
  });
});
