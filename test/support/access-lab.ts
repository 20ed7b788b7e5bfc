import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { LambdaClient, type LambdaClientConfig } from '@aws-sdk/client-lambda';
import type { HttpRequest } from '@aws-sdk/types';
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { type Authority, advanceAuthority } from '../../src/controller/certificates/ca.ts';
import { signRequest } from '../../src/controller/certificates/csr-signer.ts';
import { type CertificateSigningRequest, certificateSigningRequests } from '../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { prepareCluster } from './cluster-start.ts';
import { type FakeAgent, startFakeAgent } from './fake-agent.ts';
import { freePort } from './free-port.ts';
import { startOwnedProcess } from './owned-process.ts';
import { waitFor } from './wait-for.ts';

const root = resolve(import.meta.dirname, '../..');

/** A key in the Secret. */
export interface LabKey {
  readonly secretAccessKey: string;
  readonly user: string;
  readonly groups?: readonly string[];
  readonly sessionToken?: string;
  readonly expires?: string;
}

/** A gateway process that asks callers who they are. */
export interface AccessGateway {
  readonly url: string;
  readonly port: number;
  /** Its log so far. */
  log(): string;
  /** Status and text of `/readyz`. */
  readiness(): Promise<string>;
}

/** A real API server with RBAC, an agent that answers every call, and gateways with authentication. */
export interface AccessLab {
  readonly api: ApiServer;
  readonly agent: FakeAgent;
  /**
   * A gateway process with these flags beside those that it cannot do without; it ends with the test.
   *
   * @param until what its readiness begins with before this returns; `200` when absent
   * @param ends takes what ends it, for a gateway that is started outside of a test
   */
  gateway(
    flags?: readonly string[],
    scheme?: 'http' | 'https',
    until?: string,
    ends?: (end: () => Promise<void>) => void,
  ): Promise<AccessGateway>;
  /** Makes these the whole content of the Secret. */
  keys(keys: Readonly<Record<string, LabKey>>): Promise<void>;
  /** Lets somebody call these functions. */
  allow(
    name: string,
    subject: { readonly kind: 'User' | 'Group'; readonly name: string },
    functions: readonly string[],
  ): Promise<void>;
  /** Takes that back. */
  disallow(name: string): Promise<void>;
  /** Adds a function that is called by this name. */
  addFunction(name: string): Promise<void>;
  stop(): Promise<void>;
}

/** Starts all but the gateways. */
export async function startAccessLab(): Promise<AccessLab> {
  const api = await startApiServer();
  const folder = mkdtempSync(join(tmpdir(), 'esb-access-'));
  const apply = (object: object): Promise<string> => api.kubectl(['apply', '-f', '-'], JSON.stringify(object));
  await prepareCluster(api, ['crds', 'manifests/namespace.yaml', 'manifests/rbac.yaml', 'manifests/local']);
  const admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: api.adminKubeconfig }) });
  const authority = await advanceAuthority(undefined, Date.now());
  const agent = await startFakeAgent({ clientAuthority: authority.current.certificate });
  agent.onInvoke((call) => call.answer('"hi"'));
  await apply({ apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaNode', metadata: { name: agent.nodeName } });
  const { endpoint, certificate } = agent.node.status ?? {};
  await patchStatus(api, `ln/${agent.nodeName}`, { endpoint, certificate });
  const kubeconfig = await api.kubeconfig('esb:gateway');
  let started = 0;
  return {
    api,
    agent,
    async gateway(flags = [], scheme = 'http', until = '200', ends = onTestFinished) {
      started += 1;
      const [port, health] = [await freePort(), await freePort()];
      const logFile = join(folder, `gateway-${started}.log`);
      const stateDir = join(folder, `gateway-${started}`);
      const gateway = await startOwnedProcess({
        program: process.execPath,
        args: [
          join(root, 'src/main.ts'),
          'gateway',
          ...['--namespace', 'default', '--kubeconfig', kubeconfig, '--state-dir', stateDir],
          ...['--listen', `127.0.0.1:${port}`, '--health', `127.0.0.1:${health}`],
          ...flags,
        ],
        logFile,
      });
      ends(() => gateway.kill());
      const readiness = async (): Promise<string> => {
        const answer = await fetch(`http://127.0.0.1:${health}/readyz`);
        return `${answer.status} ${await answer.text()}`;
      };
      await waitFor(
        'the gateway to be ready',
        async () => {
          await signRequests(admin, authority);
          return (await readiness()).startsWith(until);
        },
        { timeoutMs: 60_000 },
      );
      return {
        url: `${scheme}://127.0.0.1:${port}`,
        port,
        log: () => readFileSync(logFile, 'utf8'),
        readiness,
      };
    },
    async keys(keys) {
      const stringData = Object.fromEntries(Object.entries(keys).map(([id, key]) => [id, JSON.stringify(key)]));
      await api.kubectl(['delete', 'secret', 'esb-access-keys', '--ignore-not-found']);
      await apply({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'esb-access-keys', namespace: 'default' },
        stringData,
      });
    },
    async allow(name, subject, functions) {
      const metadata = { name, namespace: 'default' };
      await apply({
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata,
        rules: [
          {
            apiGroups: ['esb.dev'],
            resources: ['lambdaworkers/invoke'],
            resourceNames: functions,
            verbs: ['create'],
          },
        ],
      });
      await apply({
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata,
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', ...subject }],
      });
    },
    async disallow(name) {
      await api.kubectl(['delete', 'rolebinding', name]);
    },
    async addFunction(name) {
      await apply({
        apiVersion: 'esb.dev/v1alpha1',
        kind: 'LambdaWorker',
        metadata: { name, namespace: 'default' },
        spec: { image: 'registry.example/hello:1' },
      });
      await patchStatus(api, `lw/${name}`, { assignment: { nodeName: agent.nodeName, epoch: 1 } });
      const uid = await api.kubectl(['get', 'lw', name, '-o', 'jsonpath={.metadata.uid}']);
      agent.put({ name, worker: { namespace: 'default', name, uid } });
    },
    async stop() {
      await agent.stop();
      await admin.close();
      await api.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function patchStatus(api: ApiServer, object: string, status: object): Promise<void> {
  await api.kubectl(['patch', object, '--subresource=status', '--type=merge', '-p', JSON.stringify({ status })]);
}

/** Signs requests, as the controller does. */
async function signRequests(admin: KubeClient, authority: Authority): Promise<void> {
  const { items } = await admin.list<CertificateSigningRequest>(certificateSigningRequests);
  for (const request of items) {
    await signRequest(request, {
      client: admin,
      authority: () => authority.current,
      clock: systemClock,
      logger: silentLogger(),
    });
  }
}

/** The AWS SDK, that tries once; it ends with the test. */
export function sdk(gateway: Pick<AccessGateway, 'url'>, config: Partial<LambdaClientConfig> = {}): LambdaClient {
  const client = new LambdaClient({ endpoint: gateway.url, region: 'us-east-1', maxAttempts: 1, ...config });
  onTestFinished(() => client.destroy());
  return client;
}

/** Signed request by a signer of our own, which adds these headers. */
export function sdkWith(
  gateway: Pick<AccessGateway, 'url'>,
  headers: Readonly<Record<string, string>>,
  config: Partial<LambdaClientConfig> = {},
): LambdaClient {
  return sdk(gateway, {
    ...config,
    credentials: { accessKeyId: 'unused', secretAccessKey: 'unused' },
    signer: {
      sign: async (request: HttpRequest) => {
        Object.assign(request.headers, headers);
        return request;
      },
    } as never,
  });
}
