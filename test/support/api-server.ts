import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { stringify } from 'yaml';
import { type CertificateAuthority, createCertificateAuthority } from './certificate-authority.ts';
import { run } from './command.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { toolsFolder } from './tools.ts';

export interface ApiServerOptions {
  /** Keep an audit log of every request, at level Metadata (`auditEvents()`). Default false. */
  readonly audit?: boolean;
  /** More flags of kube-apiserver. */
  readonly flags?: readonly string[];
}

/** One line of the audit log, the fields that tests look at. */
export interface AuditEvent {
  readonly stage: string;
  readonly verb: string;
  readonly requestURI: string;
  readonly user: { readonly username: string };
  readonly userAgent?: string;
  readonly objectRef?: {
    readonly resource?: string;
    readonly namespace?: string;
    readonly name?: string;
    readonly subresource?: string;
  };
  readonly responseStatus?: { readonly code?: number };
  readonly requestReceivedTimestamp: string;
}

/** A real etcd and kube-apiserver in a temporary folder, on free loopback ports. */
export interface ApiServer {
  readonly url: string;
  /** Temporary folder; removed by `stop()`. */
  readonly folder: string;
  /** Path of a kubeconfig of the administrator (group system:masters), who is known by a token. */
  readonly adminKubeconfig: string;
  /** Path of a kubeconfig for any user, who is known by a client certificate. No groups by default. */
  kubeconfig(user: string, groups?: readonly string[]): Promise<string>;
  /** Runs kubectl as the administrator; gives its standard output. Rejects when it fails, with what it printed. */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** Value of a key of etcd, such as `/registry/esb.dev/lambdaworkers/default/hello`; empty for none. */
  stored(key: string): Promise<string>;
  /** Process ids of etcd and kube-apiserver. */
  pids(): readonly number[];
  /** Freezes kube-apiserver (SIGSTOP): connections stay open and nothing is answered. */
  pause(): void;
  /** Lets it run again. */
  continue(): void;
  /** Kills kube-apiserver, so that connections are refused. etcd keeps its data. */
  takeDown(): Promise<void>;
  /** Starts it again on the same port and waits until it is ready. */
  bringUp(): Promise<void>;
  /** Entries of the audit log; empty without the `audit` option. */
  auditEvents(): readonly AuditEvent[];
  /** Ends both programs and removes the folder. */
  stop(): Promise<void>;
}

const START_ATTEMPTS = 3;
const READY_TIMEOUT_MS = 90_000;

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      const listening = Promise.withResolvers<void>();
      server.once('error', listening.reject);
      server.listen(0, '127.0.0.1', () => listening.resolve());
      await listening.promise;
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  });
  await Promise.all(
    servers.map(async (server) => {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    }),
  );
  return ports;
}

async function waitUntilReady(url: string, token: string, ca: string, running: readonly OwnedProcess[]): Promise<void> {
  const dispatcher = new Agent({ connect: { ca } });
  const end = performance.now() + READY_TIMEOUT_MS;
  try {
    for (;;) {
      const ended = running.find((one) => one.ended());
      if (ended !== undefined) {
        throw new Error(`a program ended while the API server was starting:\n${ended.output().slice(-4000)}`);
      }
      try {
        const answer = await request(`${url}/readyz`, {
          dispatcher,
          headers: { authorization: `Bearer ${token}` },
          headersTimeout: 5000,
        });
        await answer.body.dump();
        if (answer.statusCode === 200) {
          return;
        }
      } catch {
        // Not listening yet.
      }
      if (performance.now() > end) {
        throw new Error(`the API server was not ready in ${READY_TIMEOUT_MS} ms`);
      }
      await delay(100);
    }
  } finally {
    await dispatcher.destroy();
  }
}

function writePrivate(file: string, text: string): string {
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

function kubeconfigText(url: string, ca: string, user: Record<string, string>): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'test',
        cluster: { server: url, 'certificate-authority-data': Buffer.from(ca).toString('base64') },
      },
    ],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace: 'default' } }],
    'current-context': 'test',
  });
}

const AUDIT_POLICY = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`;

/**
 * Starts etcd and kube-apiserver, with RBAC, and waits until they serve (about 4 s).
 *
 * @throws {Error} with the end of the program's output when one of them does not start
 */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const folder = mkdtempSync(join(tmpdir(), 'esb-api-'));
  try {
    const authority = await createCertificateAuthority();
    for (let attempt = 1; ; attempt++) {
      try {
        return await startIn(folder, authority, options);
      } catch (error) {
        // Somebody else may have taken a port between the choice and the start.
        if (attempt === START_ATTEMPTS || !String(error).includes('address already in use')) {
          throw error;
        }
      }
    }
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

async function startIn(folder: string, authority: CertificateAuthority, options: ApiServerOptions): Promise<ApiServer> {
  const tools = toolsFolder();
  const [clientPort, peerPort, port] = await freePorts(3);
  const url = `https://127.0.0.1:${port}`;
  const etcdUrl = `http://127.0.0.1:${clientPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const token = randomBytes(24).toString('hex');
  const auditLog = join(folder, 'audit.log');
  const server = await authority.issueServer();
  const serviceAccountKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });

  writePrivate(join(folder, 'ca.crt'), authority.certificate);
  writePrivate(join(folder, 'server.crt'), server.certificate);
  writePrivate(join(folder, 'server.key'), server.key);
  writePrivate(join(folder, 'tokens.csv'), `${token},admin,admin,"system:masters"\n`);
  writePrivate(
    join(folder, 'sa.key'),
    serviceAccountKey.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  writePrivate(join(folder, 'sa.pub'), serviceAccountKey.publicKey.export({ type: 'spki', format: 'pem' }).toString());
  writePrivate(join(folder, 'audit.yaml'), AUDIT_POLICY);
  const adminKubeconfig = writePrivate(
    join(folder, 'admin.kubeconfig'),
    kubeconfigText(url, authority.certificate, { token }),
  );
  mkdirSync(join(folder, 'kubectl-cache'), { recursive: true });

  const etcd = await startOwnedProcess({
    program: join(tools, 'etcd'),
    logFile: join(folder, 'etcd.log'),
    args: [
      `--data-dir=${join(folder, `etcd-${peerPort}`)}`,
      `--listen-client-urls=${etcdUrl}`,
      `--advertise-client-urls=${etcdUrl}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=default=${peerUrl}`,
      '--unsafe-no-fsync',
      '--log-level=error',
    ],
  });

  const startKubeApiserver = async (): Promise<OwnedProcess> => {
    const started = await startOwnedProcess({
      program: join(tools, 'kube-apiserver'),
      logFile: join(folder, 'kube-apiserver.log'),
      args: [
        `--etcd-servers=${etcdUrl}`,
        `--secure-port=${port}`,
        '--bind-address=127.0.0.1',
        '--advertise-address=127.0.0.1',
        // Without it the server would try to publish its loopback address as an endpoint, and fail.
        '--endpoint-reconciler-type=none',
        `--cert-dir=${join(folder, 'certs')}`,
        `--tls-cert-file=${join(folder, 'server.crt')}`,
        `--tls-private-key-file=${join(folder, 'server.key')}`,
        `--client-ca-file=${join(folder, 'ca.crt')}`,
        `--token-auth-file=${join(folder, 'tokens.csv')}`,
        `--service-account-key-file=${join(folder, 'sa.pub')}`,
        `--service-account-signing-key-file=${join(folder, 'sa.key')}`,
        '--service-account-issuer=https://kubernetes.default.svc',
        '--authorization-mode=Node,RBAC',
        // No controller manager makes service accounts here, and no test starts Pods that need one.
        '--disable-admission-plugins=ServiceAccount',
        '--service-cluster-ip-range=10.96.0.0/16',
        '--allow-privileged',
        ...(options.audit === true
          ? [`--audit-policy-file=${join(folder, 'audit.yaml')}`, `--audit-log-path=${auditLog}`]
          : []),
        ...(options.flags ?? []),
      ],
    });
    try {
      await waitUntilReady(url, token, authority.certificate, [etcd, started]);
    } catch (error) {
      await started.kill();
      throw error;
    }
    return started;
  };

  let kubeApiserver: OwnedProcess;
  try {
    kubeApiserver = await startKubeApiserver();
  } catch (error) {
    await etcd.kill();
    throw error;
  }

  let kubeconfigs = 0;
  return {
    url,
    folder,
    adminKubeconfig,
    async kubeconfig(user, groups = []) {
      const issued = await authority.issueClient(user, groups);
      kubeconfigs++;
      return writePrivate(
        join(folder, `user-${kubeconfigs}.kubeconfig`),
        kubeconfigText(url, authority.certificate, {
          'client-certificate-data': Buffer.from(issued.certificate).toString('base64'),
          'client-key-data': Buffer.from(issued.key).toString('base64'),
        }),
      );
    },
    async kubectl(args, input) {
      const result = await run(
        join(tools, 'kubectl'),
        ['--kubeconfig', adminKubeconfig, '--cache-dir', join(folder, 'kubectl-cache'), ...args],
        { timeoutMs: 60_000, ...(input === undefined ? {} : { input }) },
      );
      return result.stdout;
    },
    async stored(key) {
      const body = JSON.stringify({ key: Buffer.from(key).toString('base64') });
      const answer = await request(`${etcdUrl}/v3/kv/range`, { method: 'POST', body });
      const { kvs } = (await answer.body.json()) as { readonly kvs?: readonly { readonly value: string }[] };
      return Buffer.from(kvs?.[0]?.value ?? '', 'base64').toString();
    },
    pids: () => [etcd.pid, kubeApiserver.pid],
    pause: () => kubeApiserver.signal('SIGSTOP'),
    continue: () => kubeApiserver.signal('SIGCONT'),
    takeDown: () => kubeApiserver.kill(),
    async bringUp() {
      if (kubeApiserver.ended()) {
        kubeApiserver = await startKubeApiserver();
      }
    },
    auditEvents() {
      if (options.audit !== true) {
        return [];
      }
      return readFileSync(auditLog, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as AuditEvent);
    },
    async stop() {
      await kubeApiserver.kill();
      await etcd.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
