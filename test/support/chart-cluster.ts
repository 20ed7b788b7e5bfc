import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { WORKER_FINALIZER } from '../../src/api/lambda-worker.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { renderChart } from './chart.ts';
import { prepareCluster } from './cluster-start.ts';
import { waitFor } from './wait-for.ts';

/** A real API server that has what the chart installs. Nothing of it runs. */
export interface ChartCluster {
  readonly server: ApiServer;
  readonly admin: KubeClient;
  /** Renders the chart with further arguments of Helm, and applies it. */
  install(args?: readonly string[]): Promise<void>;
  /** A client with a token of that service account, made where it is not there; with `node` as of a Pod on that Node. */
  clientOf(account: Account): Promise<KubeClient>;
  /** The kubeconfig of such a client. */
  kubeconfigOf(account: Account): Promise<string>;
  stop(): Promise<void>;
}

export interface Account {
  readonly name: string;
  /** Default: esb-system. */
  readonly namespace?: string;
  readonly node?: string;
}

/** Starts it with the resource definitions and the system's namespace alone. */
export async function startChartCluster(): Promise<ChartCluster> {
  const server = await startApiServer();
  const clients: KubeClient[] = [];
  const connect = (kubeconfig: string): KubeClient => {
    const client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig }) });
    clients.push(client);
    return client;
  };
  await prepareCluster(server, ['crds', 'manifests/namespace.yaml']);

  const kubeconfigOf = async ({ name, namespace = 'esb-system', node }: Account): Promise<string> => {
    const pod = `${name}-${node}`;
    if (node !== undefined) {
      const spec = { serviceAccountName: name, nodeName: node, containers: [{ name: 'c', image: 'esb' }] };
      await server.kubectl(
        ['create', '-f', '-'],
        JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { name: pod, namespace }, spec }),
      );
    }
    const bound = node === undefined ? [] : ['--bound-object-kind=Pod', `--bound-object-name=${pod}`];
    const token = await server.kubectl(['-n', namespace, 'create', 'token', name, ...bound]);
    const config = parse(await server.kubectl(['config', 'view', '--raw'])) as Record<string, unknown>;
    const file = join(server.folder, `${namespace}-${pod}.kubeconfig`);
    await writeFile(file, stringify({ ...config, users: [{ name: 'test', user: { token: token.trim() } }] }));
    return file;
  };

  return {
    server,
    admin: connect(server.adminKubeconfig),
    async install(args = []) {
      const text = await renderChart(['--no-hooks', '--set', 'crds.install=false', ...args]);
      await server.kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], text);
      // With the policy that gives workers their finalizer come all others. From then on the API server takes no worker
      // until it has read the definition of workers, which it looks for every five seconds.
      await waitFor('a worker to be admitted by the policies', async () => {
        const probe = {
          apiVersion: 'esb.dev/v1alpha1',
          kind: 'LambdaWorker',
          metadata: { name: 'probe' },
          spec: { image: 'hello:1', imagePullPolicy: 'Always' },
        };
        const made = await server.kubectl(
          ['create', '--dry-run=server', '-o', 'yaml', '-f', '-'],
          JSON.stringify(probe),
        );
        return made.includes(WORKER_FINALIZER);
      });
    },
    kubeconfigOf,
    clientOf: async (account) => connect(await kubeconfigOf(account)),
    async stop() {
      await Promise.all(clients.map((client) => client.close()));
      await server.stop();
    },
  };
}
