import { waitFor } from '../../support/wait-for.ts';
import { type EsbCluster, systemNamespace } from '../esb-cluster.ts';
import { nodeTraces } from '../node-traces.ts';
import type { Report } from '../report.ts';

/** Content of the nodes, by their names. */
export type Traces = ReadonlyMap<string, readonly string[]>;

/** Content of all nodes now. */
export async function allTraces({ lab }: EsbCluster): Promise<Traces> {
  const found = new Map<string, readonly string[]>();
  for (const node of lab.nodes) {
    found.set(node.name, await nodeTraces(node));
  }
  return found;
}

/**
 * `helm uninstall`, after which nothing is left but definitions and resources. `before`: the nodes before the install.
 */
export async function uninstallScenario(esb: EsbCluster, report: Report, before: Traces): Promise<void> {
  const { lab } = esb;
  let names: readonly string[] = [];
  await report.check('helm uninstall', async () => {
    names = (await esb.workers()).map(({ metadata }) => metadata.name);
    const there = await allTraces(esb);
    if ([...there].every(([name, lines]) => lines.join() === before.get(name)?.join())) {
      throw new Error('the nodes have no trace of ESB before it is uninstalled: nothing is shown by none after it');
    }
    const told = await lab.helm(['uninstall', 'esb', '-n', systemNamespace, '--wait', '--timeout', '6m']);
    return told.trim().split('\n').at(-1) ?? '';
  });
  await report.check('nothing is left in the cluster but definitions and resources', async () => {
    await expectNothingLeft(esb);
    const kept = (await esb.workers()).map(({ metadata }) => metadata.name);
    if (kept.join() !== names.join()) {
      throw new Error(`workers were ${names.join(', ')} and are ${kept.join(', ')}`);
    }
    const stuck = (await esb.workers()).filter(({ metadata }) => (metadata.finalizers ?? []).length > 0);
    if (stuck.length > 0) {
      throw new Error(`with a finalizer: ${stuck.map(({ metadata }) => metadata.name).join(', ')}`);
    }
    return `${kept.length} LambdaWorkers, without finalizers`;
  });
  await report.check('nothing is left on the nodes', () => expectCleanNodes(esb, before));
}

/** Kinds that are looked through, of the cluster and of the system namespace. */
const clusterKinds = [
  'clusterroles',
  'clusterrolebindings',
  'priorityclasses',
  'validatingadmissionpolicies',
  'validatingadmissionpolicybindings',
  'lambdanodes',
];
/** Kinds that Kubernetes has since 1.36. */
const laterKinds = ['mutatingadmissionpolicies', 'mutatingadmissionpolicybindings'];
const systemKinds = [
  ...['pods', 'deployments', 'daemonsets', 'statefulsets', 'replicasets', 'jobs', 'services', 'configmaps'],
  ...['secrets', 'serviceaccounts', 'roles', 'rolebindings', 'leases', 'poddisruptionbudgets', 'networkpolicies'],
  'persistentvolumeclaims',
];
/** Objects that Kubernetes puts into every namespace, and those that the lab put into this one. */
const notOurs = ['configmap/kube-root-ca.crt', 'serviceaccount/default', 'secret/esb-events'];

export async function expectNothingLeft({ lab }: EsbCluster): Promise<void> {
  const served = (await lab.kubectl(['api-resources', '--namespaced=false', '-o', 'name'])).split('\n');
  const later = laterKinds.filter((kind) => served.some((name) => name.startsWith(`${kind}.`)));
  await waitFor(
    'an end of what belonged to the release',
    async () => {
      const cluster = await lab.kubectl(['get', [...clusterKinds, ...later].join(), '-o', 'name']);
      const own = await lab.kubectl(['get', systemKinds.join(), '-n', systemNamespace, '-o', 'name']);
      const left = [
        ...cluster.split('\n').filter((line) => /[/.]esb|lambdanode/.test(line)),
        ...own.split('\n').filter((line) => line !== '' && !notOurs.includes(line)),
      ];
      if (left.length > 0) {
        throw new Error(left.join(', '));
      }
      return true;
    },
    { timeoutMs: 60_000, everyMs: 1_000 },
  );
}

export async function expectCleanNodes(esb: EsbCluster, before: Traces): Promise<string> {
  await waitFor(
    'nodes as they were',
    async () => {
      const after = await allTraces(esb);
      const left = [...after].flatMap(([name, lines]) =>
        lines.filter((line) => before.get(name)?.includes(line) !== true).map((line) => `${name}: ${line}`),
      );
      if (left.length > 0) {
        throw new Error(left.slice(0, 40).join('\n'));
      }
      return true;
    },
    { timeoutMs: 30_000, everyMs: 2_000 },
  );
  return `${[...before.values()].flat().length} lines of files, links, routes, tables, mounts and groups as before`;
}
