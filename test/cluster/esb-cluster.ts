import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { repositoryRoot } from '../../local/common/repository.ts';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { toolsFolder } from '../support/tools.ts';
import { waitFor } from '../support/wait-for.ts';
import { manifestList, workerManifest } from '../support/worker-manifests.ts';
import type { ClusterLab } from './cluster-lab.ts';
import { registryAddress } from './cluster-network.ts';
import { type Load, startLoad } from './load.ts';
import type { LoadCallOptions } from './steady-load.ts';

export const systemNamespace = 'esb-system';
export const chartFolder = join(repositoryRoot(), 'charts/esb');
export const manifestsFolder = join(repositoryRoot(), 'manifests');
/** Two references of one image: replacing one by the other replaces every Pod, as any upgrade does. */
export const imageTags = ['first', 'second'] as const;
/** Tag of the image that the scenario `release` upgrades from: 0.1.0, and this build until 0.1.0 exists. */
export const earlierTag = 'earlier';
export const imageRepository = `${registryAddress}/esb`;
export const sampleReference = `${registryAddress}/python-counter:latest`;
/** Sample with an emulator, which network mode `Host` needs. */
export const emulatedReference = `${registryAddress}/python-emulator:latest`;
/** Where the database of the gateways' events is, from their Secret. */
export const eventSecret = 'esb-events';
/** Service account whose token may call every function of the namespace `default`. */
const caller = 'caller';

/** State of ESB in the cluster, and the operations of its operators. */
export interface EsbCluster {
  readonly lab: ClusterLab;
  /** Words that tell Helm the values of the release. */
  readonly values: readonly string[];
  /** Makes workers `<name>-1` to `<name>-<count>` of the function `<name>`. */
  applyWorkers(name: string, count: number): Promise<void>;
  workers(): Promise<readonly LambdaWorker[]>;
  /** Waits until every worker is Ready; gives them. */
  workersReady(timeoutMs?: number): Promise<readonly LambdaWorker[]>;
  /** Ids and process ids of the containers that run or are frozen, as containerd of the node tells them. */
  tasks(node: string): Promise<readonly string[]>;
  /** Answers to calls that a node makes at once, through the Service of the gateway. Rejects when one fails. */
  callAtOnce(node: string, functionName: string, event: object, count: number): Promise<readonly unknown[]>;
  /** Steady calls from a node through the Service of the gateway. */
  load(node: string, functions: readonly string[], clients: number, calls?: LoadCallOptions): Promise<Load>;
  /**
   * Throws unless every Pod of the system namespace that should be there is Ready, with this tag where one is given.
   */
  rolledOut(tag?: string): Promise<void>;
}

interface Pod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly containers: readonly { readonly image: string }[] };
}

/** The values that the lab has to give, its images and its database, and those of agents, which are none by default. */
function releaseValues(tag: string, agent: object): object {
  return {
    image: { repository: imageRepository, tag },
    agent,
    gateway: {
      events: { store: 'postgres', postgres: { secretName: eventSecret } },
      podDisruptionBudget: { enabled: true },
    },
    test: { function: 'hello' },
  };
}

/** `moreValues`: path of values that go before those of the lab. */
export async function openEsbCluster(lab: ClusterLab, moreValues?: string, agent: object = {}): Promise<EsbCluster> {
  const file = join(lab.folder, 'values.yaml');
  await writeFile(file, stringify(releaseValues(imageTags[0], agent)));
  const values = ['-f', file, ...(moreValues === undefined ? [] : ['-f', moreValues])];
  await lab.kubectl(['create', 'serviceaccount', caller]);
  await lab.kubectl(['apply', '-f', '-'], `${stringify(callerRole)}---\n${stringify(callerBinding)}`);
  /** Where the gateway is for Pods and nodes, and what it knows the caller by. */
  const gateway = async (): Promise<{ readonly origin: string; readonly token: string }> => {
    const service = ['get', 'service', 'esb-gateway', '-n', systemNamespace];
    const address = await lab.kubectl([...service, '-o', 'jsonpath={.spec.clusterIP}']);
    const token = await lab.kubectl(['create', 'token', caller, '--audience=esb-gateway', '--duration=2h']);
    return { origin: `http://${address}:9080`, token: token.trim() };
  };
  const workers: EsbCluster['workers'] = async () => {
    const list = await lab.kubectl(['get', 'lambdaworkers', '-n', 'default', '-o', 'json']);
    return (JSON.parse(list) as { items: readonly LambdaWorker[] }).items;
  };
  return {
    lab,
    values,
    workers,
    async applyWorkers(name, count) {
      const items = Array.from({ length: count }, (_, index) => workerOf(name, index + 1));
      await lab.kubectl(['apply', '-f', '-'], manifestList(items));
    },
    workersReady: (timeoutMs = 120_000) =>
      waitFor(
        'workers that are Ready',
        async () => {
          const all = await workers();
          const waiting = all.filter((worker) => !isReady(worker));
          if (waiting.length > 0) {
            throw new Error(waiting.map(told).join('\n'));
          }
          return all;
        },
        { timeoutMs, everyMs: 500 },
      ),
    async tasks(node) {
      const ctr = join(toolsFolder(), 'ctr');
      const { stdout } = await lab.node(node).run(ctr, ['-n', 'esb', 'tasks', 'ls']);
      return stdout
        .trim()
        .split('\n')
        .slice(1)
        .map((line) => line.trim().split(/\s+/).slice(0, 2).join(' '))
        .sort();
    },
    async callAtOnce(node, functionName, event, count) {
      const { origin, token } = await gateway();
      const call = async (): Promise<unknown> => {
        const { stdout } = await lab
          .node(node)
          .run('curl', [
            ...['--silent', '--show-error', '--fail-with-body', '--max-time', '60'],
            ...['--header', `authorization: Bearer ${token}`, '--data', JSON.stringify(event)],
            `${origin}/2015-03-31/functions/${functionName}/invocations`,
          ]);
        return JSON.parse(stdout);
      };
      return Promise.all(Array.from({ length: count }, call));
    },
    async load(node, functions, clients, calls) {
      return startLoad(lab.node(node), { ...(await gateway()), functions, clients, calls });
    },
    async rolledOut(tag) {
      for (const kind of ['deployment', 'daemonset', 'statefulset']) {
        const names = await lab.kubectl(['get', kind, '-n', systemNamespace, '-o', 'name']);
        for (const name of names.split('\n').filter((line) => line !== '')) {
          await lab.kubectl(['rollout', 'status', name, '-n', systemNamespace, '--timeout=180s']);
        }
      }
      if (tag === undefined) {
        return;
      }
      const list = await lab.kubectl([
        ...['get', 'pods', '-n', systemNamespace, '-o', 'json'],
        ...['-l', 'app.kubernetes.io/component in (controller,gateway,events,agent)'],
      ]);
      const old = (JSON.parse(list) as { items: readonly Pod[] }).items.filter(
        ({ metadata, spec }) =>
          metadata.deletionTimestamp === undefined &&
          spec.containers.some(({ image }) => image !== `${imageRepository}:${tag}`),
      );
      if (old.length > 0) {
        throw new Error(`not of the tag ${tag}: ${old.map(({ metadata }) => metadata.name).join(', ')}`);
      }
    },
  };
}

const callerRole = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'Role',
  metadata: { name: caller, namespace: 'default' },
  rules: [
    { apiGroups: ['esb.dev'], resources: ['lambdaworkers/invoke'], verbs: ['create'] },
    { apiGroups: ['esb.dev'], resources: ['lambdaworkers'], verbs: ['list'] },
  ],
};

const callerBinding = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'RoleBinding',
  metadata: { name: caller, namespace: 'default' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: caller },
  subjects: [{ kind: 'ServiceAccount', name: caller, namespace: 'default' }],
};

function workerOf(functionName: string, number: number): object {
  return workerManifest(`${functionName}-${number}`, {
    image: sampleReference,
    functionName,
    timeoutSeconds: 30,
    resources: { limits: { memory: '128Mi' } },
    ephemeralStorage: '16Mi',
    topologySpread: {
      topologyKey: 'kubernetes.io/hostname',
      maxSkew: 1,
      whenUnsatisfiable: 'ScheduleAnyway',
    },
  });
}

export function isReady(worker: LambdaWorker): boolean {
  const conditions = worker.status?.conditions ?? [];
  return conditions.some(({ type, status }) => type === 'Ready' && status === 'True');
}

export function nodeOf(worker: LambdaWorker): string | undefined {
  return worker.status?.assignment?.nodeName;
}

/** Where each worker is, since which assignment, and whether it is not Ready. */
export async function standing({ workers }: EsbCluster): Promise<readonly string[]> {
  return (await workers()).map((worker) => {
    const { nodeName, epoch } = worker.status?.assignment ?? {};
    return `${worker.metadata.name} on ${nodeName} since ${epoch}${isReady(worker) ? '' : ', not Ready'}`;
  });
}

function told(worker: LambdaWorker): string {
  const conditions = (worker.status?.conditions ?? [])
    .filter(({ status }) => status !== 'True')
    .map(({ type, reason, message }) => `${type}: ${reason}: ${message}`);
  return `${worker.metadata.name} on ${nodeOf(worker) ?? 'no node'}: ${conditions.join('; ')}`;
}
