import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { parseAllDocuments } from 'yaml';
import { type LambdaWorker, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { runController } from '../../src/controller/main.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { controllerFlags } from '../../src/options/controller.ts';
import { type AccessLab, startAccessLab } from './access-lab.ts';
import { type Boto3Caller, startBoto3 } from './boto3-caller.ts';
import { renderChart } from './chart.ts';
import { type FakeNode, startFakeNode } from './fake-node.ts';
import { fastClock } from './fast-clock.ts';
import { createJavaScriptCaller } from './javascript-caller.ts';
import type { Credentials, LambdaCaller } from './lambda-caller.ts';
import { optionsOf } from './options.ts';
import { ensurePythonClients, type PythonClients } from './python-clients.ts';

/** May do everything in the namespace that `edit` may. */
export const EDITOR: Credentials = { accessKeyId: 'AKIDEDITOR', secretAccessKey: 'editors-secret-0123456789' };
/** May call functions and read them, and change none. */
export const READER: Credentials = { accessKeyId: 'AKIDREADER', secretAccessKey: 'readers-secret-0123456789' };

/** May do nothing until a test lets it. */
export const DEPLOYER: Credentials = { accessKeyId: 'AKIDDEPLOYER', secretAccessKey: 'deployers-secret-0123456789' };

/** Digest of the image that a fake node says to have run. */
export function digestOf(image: string): string {
  return createHash('sha256').update(image).digest('hex');
}

/**
 * A real API server with roles and policies, a real controller, a gateway that lets callers change functions, the AWS SDKs,
 * and a node whose workers run at once. An image of the name `broken` is never found.
 */
export interface ControlLab extends Pick<AccessLab, 'api' | 'keys'> {
  readonly admin: KubeClient;
  readonly clients: PythonClients;
  readonly url: string;
  readonly callers: { readonly javaScript: LambdaCaller; readonly boto3: Boto3Caller };
  /** Log of the gateway so far. */
  log(): string;
  close(): Promise<void>;
}

export async function startControlLab(): Promise<ControlLab> {
  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const each of closers.toReversed()) {
      await each();
    }
  };
  try {
    return await build(closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(closers: (() => unknown)[], close: () => Promise<void>): Promise<ControlLab> {
  const clients = await ensurePythonClients(createProgress({ write: () => undefined }));
  const access = await startAccessLab();
  closers.push(() => access.stop());
  const { api } = access;
  const admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: api.adminKubeconfig }) });
  closers.push(() => admin.close());
  await grant(access);
  await access.keys({
    [EDITOR.accessKeyId]: { secretAccessKey: EDITOR.secretAccessKey, user: 'editor' },
    [READER.accessKeyId]: { secretAccessKey: READER.secretAccessKey, user: 'reader' },
    [DEPLOYER.accessKeyId]: { secretAccessKey: DEPLOYER.secretAccessKey, user: 'deployer' },
  });
  const node = await startFakeNode(admin, 'node-of-functions', {
    capacity: { memoryMiB: 100_000, milliCPU: 100_000, workers: 1_000 },
  });
  closers.push(() => node.die());
  const stopping = new AbortController();
  const controller = runController(
    optionsOf(controllerFlags, [
      ...['--kubeconfig', await api.kubeconfig('esb:controller'), '--health', '127.0.0.1:0', '--identity', 'first'],
      '--function-url-domain=fn.example.com',
    ]),
    { signal: stopping.signal, logger: silentLogger() },
    fastClock(4),
  );
  controller.catch(() => undefined);
  const running = runAll(admin, node, stopping.signal);
  closers.push(async () => {
    stopping.abort();
    await Promise.allSettled([controller, running]);
  });
  const flags = ['--control-api', '--function-url-domain=fn.example.com', '--function-url-listen=127.0.0.1:0'];
  const gateway = await access.gateway(flags, 'http', '200', (end) => closers.push(end));
  const javaScript = createJavaScriptCaller(gateway.url);
  closers.push(() => javaScript.close());
  const boto3 = startBoto3(clients, gateway.url);
  closers.push(() => boto3.close());
  return {
    api,
    keys: (keys) => access.keys(keys),
    admin,
    clients,
    url: gateway.url,
    callers: { javaScript, boto3 },
    log: () => gateway.log(),
    close,
  };
}

/** Binds the role of the chart to the gateway, and gives the two users their rights. */
async function grant({ api }: AccessLab): Promise<void> {
  const rendered = await renderChart([
    '--set',
    'gateway.controlApi.enabled=true',
    '--show-only',
    'templates/rbac.yaml',
  ]);
  const roles = parseAllDocuments(rendered).map((document) => document.toJS() as { metadata?: { name?: string } });
  const role = roles.find(({ metadata }) => metadata?.name === 'esb-gateway-control');
  const bind = (name: string, roleName: string, user: string, kind = 'ClusterRole'): object => ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: { name, namespace: 'default' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: roleName },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
  });
  const objects = [
    role,
    bind('control', 'esb-gateway-control', 'esb:gateway'),
    bind('editor-writes', 'esb-edit', 'editor'),
    bind('editor-reads', 'esb-view', 'editor'),
    bind('reader-reads', 'esb-view', 'reader'),
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'calls-letters', namespace: 'default' },
      rules: [
        { apiGroups: ['esb.dev'], resources: ['lambdaworkers/invoke'], resourceNames: ['letters'], verbs: ['create'] },
      ],
    },
    bind('editor-calls', 'calls-letters', 'editor', 'Role'),
  ];
  await api.kubectl(['apply', '-f', '-'], objects.map((object) => JSON.stringify(object)).join('\n---\n'));
}

/** Has the agent of all assigned workers tell that they run their newest spec, until the signal fires. */
async function runAll(admin: KubeClient, node: FakeNode, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const { items } = await admin.list(lambdaWorkers, { namespace: 'default' }, { signal });
      for (const worker of items) {
        await run(admin, node, worker);
      }
    } catch {
      // An object that has changed meanwhile is looked at again.
    }
    await delay(100);
  }
}

async function run(admin: KubeClient, node: FakeNode, worker: LambdaWorker): Promise<void> {
  const { metadata, spec, status } = worker;
  const isTold = status?.observedGeneration === metadata.generation && status?.phase !== undefined;
  if (status?.assignment === undefined || metadata.deletionTimestamp !== undefined) {
    if (status?.phase !== 'Terminating' && metadata.deletionTimestamp !== undefined) {
      await node.cleanUp(worker);
    }
    return;
  }
  if (isTold) {
    return;
  }
  if (spec.image.includes('broken')) {
    await node.report(worker, 'Failed', { status: 'False', reason: 'ImageNotFound' });
    const key = { namespace: 'default', name: metadata.name };
    const at = `${new Date().toISOString().slice(0, 19)}Z`;
    const condition = { reason: 'ImageNotFound', message: 'no such image', lastTransitionTime: at };
    const conditions = [
      { type: 'Ready', status: 'False', ...condition },
      { type: 'UpToDate', status: 'False', ...condition },
      { type: 'Stalled', status: 'True', ...condition },
    ];
    const body = { status: { phase: 'Failed', observedGeneration: metadata.generation, conditions } };
    const patch = { kind: 'apply', fieldManager: 'esb-agent', body } as const;
    await admin.patch(lambdaWorkers, key, patch, { subresource: 'status' });
    return;
  }
  const [repository = ''] = spec.image.split(/[@:]/);
  const image = spec.image.includes('@') ? spec.image : `${repository}@sha256:${digestOf(spec.image)}`;
  const key = { namespace: 'default', name: metadata.name };
  await admin.patch(lambdaWorkers, key, { kind: 'merge', body: { status: { image } } }, { subresource: 'status' });
  await node.report(worker, 'Running', { status: 'True', reason: 'Running' });
}
