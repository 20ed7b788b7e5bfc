import { readFile } from 'node:fs/promises';
import { Agent, request } from 'undici';
import { stringify } from 'yaml';
import { apiServerUrl } from '../cluster-network.ts';
import { type EsbCluster, manifestsFolder, nodeOf, systemNamespace } from '../esb-cluster.ts';
import type { Report } from '../report.ts';

interface Workload {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly template: { readonly metadata: object; readonly spec: { readonly serviceAccountName: string } };
  };
}

/** Pod Security, and what the token of an agent is good for. */
export async function rightsScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  await report.check('controller, gateway and hold Pods pass Pod Security "restricted"', async () => {
    await lab.kubectl(['create', 'namespace', 'restricted']);
    const level = 'pod-security.kubernetes.io/enforce=restricted';
    await lab.kubectl(['label', 'namespace', 'restricted', level]);
    const list = await lab.kubectl([
      ...['get', 'deployments,statefulsets,daemonsets', '-n', systemNamespace, '-o', 'json'],
    ]);
    const { items } = JSON.parse(list) as { items: readonly Workload[] };
    const admitted: string[] = [];
    const refused: string[] = [];
    for (const { metadata, spec } of items) {
      const account = spec.template.spec.serviceAccountName;
      await lab.kubectl(['create', 'serviceaccount', account, '-n', 'restricted']);
      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: metadata.name, namespace: 'restricted' },
        spec: { ...spec.template.spec, restartPolicy: 'Always' },
      };
      const { code, stderr } = await lab.kubectlAs(
        lab.controlPlane.adminKubeconfig,
        ['create', '--dry-run=server', '-f', '-'],
        stringify(pod),
      );
      if (code === 0) {
        admitted.push(metadata.name);
      } else if (stderr.includes('violates PodSecurity')) {
        refused.push(metadata.name);
      } else {
        throw new Error(stderr);
      }
    }
    const holds = await holdPods(esb);
    for (const { metadata, spec } of holds) {
      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: metadata.name, namespace: 'restricted' },
        // Its priority was computed from its class when it was made.
        spec: { ...spec, nodeName: undefined, priority: undefined, serviceAccountName: 'default' },
      };
      await lab.kubectl(['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod));
      admitted.push(metadata.name);
    }
    // The agent cannot pass: it shows that the namespace refuses at all.
    if (refused.join() !== 'esb-agent' || holds.length === 0) {
      throw new Error(`admitted: ${admitted.join(', ')}; refused: ${refused.join(', ')}`);
    }
    return `admitted: ${admitted.join(', ')}; refused: ${refused.join(', ')}`;
  });

  await report.check("an agent's token reads no Secret but a granted one", async () => {
    const agent = await lab.controlPlane.tokenKubeconfig('agent', await agentToken(esb, 'node-a'));
    const secrets = ['regcred', 'other'] as const;
    try {
      for (const name of secrets) {
        await lab.kubectl(['create', 'secret', 'generic', name, '--from-literal=password=p']);
      }
      const read = (name: string, namespace = 'default') =>
        lab.kubectlAs(agent, ['get', 'secret', name, '-n', namespace]);
      expectRefused('the Secret without a grant', await read('regcred'));
      await lab.kubectl(['apply', '-f', `${manifestsFolder}/samples/secret-grant.yaml`]);
      const granted = await read('regcred');
      if (granted.code !== 0) {
        throw new Error(`the granted Secret: ${granted.stderr}`);
      }
      expectRefused('another Secret of the namespace', await read('other'));
      expectRefused('the client authority', await read('esb-client-ca', systemNamespace));
      expectRefused('a list', await lab.kubectlAs(agent, ['get', 'secrets', '-A']));
      await lab.kubectl(['delete', '-f', `${manifestsFolder}/samples/secret-grant.yaml`]);
      expectRefused('the Secret whose grant was taken away', await read('regcred'));
    } finally {
      await lab.kubectl(['delete', 'secret', ...secrets, '--ignore-not-found']);
    }
    return 'the granted one, while it is granted';
  });

  await report.check("an agent's token writes no other node's worker or LambdaNode", async () => {
    const agent = await apiCaller(esb, await agentToken(esb, 'node-a'));
    const workers = await esb.workers();
    const worker = (node: string): string => {
      const name = workers.find((each) => nodeOf(each) === node)?.metadata.name ?? 'none';
      return `/apis/esb.dev/v1alpha1/namespaces/default/lambdaworkers/${name}`;
    };
    const lambdaNode = (name: string): string => `/apis/esb.dev/v1alpha1/lambdanodes/${name}`;
    const restarts = { status: { restartCount: 7 } };
    const seen = { status: { observedGeneration: 1 } };
    for (const [path, patch] of [
      [`${worker('node-a')}/status`, restarts],
      [`${lambdaNode('node-a')}/status`, seen],
    ] as const) {
      const { status, text } = await agent('PATCH', path, patch);
      if (status !== 200) {
        throw new Error(`its own ${path} was refused: ${status} ${text}`);
      }
    }
    const taken = { status: { assignment: { nodeName: 'node-b', epoch: 99 } } };
    const refused = [
      ["another node's worker", 'PATCH', `${worker('node-b')}/status`, restarts],
      ["another node's LambdaNode", 'PATCH', `${lambdaNode('node-b')}/status`, seen],
      ['the assignment of its own worker', 'PATCH', `${worker('node-a')}/status`, taken],
      ['the spec of its own worker', 'PATCH', worker('node-a'), { spec: { timeoutSeconds: 1 } }],
      ['the end of its own worker', 'DELETE', worker('node-a'), undefined],
      ["the end of another node's LambdaNode", 'DELETE', lambdaNode('node-b'), undefined],
      ["a cordon of another node's", 'PATCH', lambdaNode('node-b'), { spec: { unschedulable: true } }],
    ] as const;
    for (const [what, method, path, body] of refused) {
      const { status, text } = await agent(method, path, body);
      if (status !== 403) {
        throw new Error(`${what} was not refused: ${status} ${text}`);
      }
    }
    return `its own two, and none of ${refused.length} others`;
  });
}

interface RunningPod {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly nodeName?: string };
}

async function holdPods({ lab }: EsbCluster): Promise<readonly RunningPod[]> {
  const label = 'app.kubernetes.io/component=hold';
  const list = await lab.kubectl(['get', 'pods', '-n', systemNamespace, '-l', label, '-o', 'json']);
  return (JSON.parse(list) as { items: readonly RunningPod[] }).items;
}

/** The token that the agent of a node really has. */
async function agentToken({ lab }: EsbCluster, node: string): Promise<string> {
  const pod = await lab.kubectl([
    ...['get', 'pods', '-n', systemNamespace, '-l', 'app.kubernetes.io/component=agent'],
    ...['--field-selector', `spec.nodeName=${node}`, '-o', 'jsonpath={.items[0].metadata.name}'],
  ]);
  const file = '/var/run/secrets/kubernetes.io/serviceaccount/token';
  const token = await lab.kubectl([
    // The image has neither a shell nor cat.
    ...['exec', '-n', systemNamespace, pod, '--'],
    ...['node', '--print', `require('node:fs').readFileSync('${file}', 'utf8')`],
  ]);
  return token.trim();
}

type ApiCaller = (
  method: 'PATCH' | 'DELETE',
  path: string,
  body?: object,
) => Promise<{ readonly status: number; readonly text: string }>;

/**
 * Writes with a token, without effect (dry run). kubectl would read before it patches a status, which agents may not
 * and need not.
 */
async function apiCaller({ lab }: EsbCluster, token: string): Promise<ApiCaller> {
  const ca = await readFile(lab.controlPlane.authorityFile, 'utf8');
  return async (method, path, body) => {
    const dispatcher = new Agent({ connect: { ca } });
    try {
      const answer = await request(`${apiServerUrl}${path}?dryRun=All`, {
        method,
        dispatcher,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/merge-patch+json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: answer.statusCode, text: (await answer.body.text()).slice(0, 500) };
    } finally {
      await dispatcher.destroy();
    }
  };
}

function expectRefused(what: string, { code, stderr, stdout }: { code: number; stderr: string; stdout: string }): void {
  if (code === 0 || !/forbidden/i.test(stderr)) {
    throw new Error(`${what} was not refused: ${stdout}${stderr}`);
  }
}
