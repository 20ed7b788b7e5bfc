import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { LambdaWorker, LambdaWorkerSpec } from '../../src/api/lambda-worker.ts';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { advanceAuthority } from '../../src/controller/certificates/ca.ts';
import { signRequest } from '../../src/controller/certificates/csr-signer.ts';
import { type CertificateSigningRequest, certificateSigningRequests } from '../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { prepareCluster } from './cluster-start.ts';
import { type FakeAgent, startFakeAgent } from './fake-agent.ts';
import { freePort } from './free-port.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { waitFor } from './wait-for.ts';

const root = resolve(import.meta.dirname, '../..');

/**
 * A process of a gateway that may be killed and started again, with the same port and the same state folder.
 */
export interface LaunchedGateway {
  readonly stateDir: string;
  /** The one that was started last. */
  readonly process: OwnedProcess;
  readonly port: number;
  /** Port of /healthz, /readyz and /metrics. */
  readonly healthPort: number;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it again after {@link LaunchedGateway.kill}. Does not wait until it is ready. */
  start(): Promise<void>;
  /** Waits until it is ready. */
  ready(): Promise<void>;
  /** The value of a metric without labels. */
  metric(name: string): Promise<number>;
  /** File descriptors that the process has open. */
  descriptors(): Promise<number>;
  /** Resident set size in MiB. */
  residentMiB(): Promise<number>;
}

/** A gateway's own process on a real API server, with one agent that does what the test says. */
export interface GatewayProcess extends LaunchedGateway {
  /**
   * Starts a further gateway of the same namespace, with the same flags; also one that gives slow clients little time.
   */
  startPeer(program?: 'main' | 'hasty', flags?: readonly string[]): Promise<LaunchedGateway>;
  /** The role that keeps the events of these gateways; undefined without {@link GatewayProcessOptions.role}. */
  readonly role: LaunchedGateway | undefined;
  /** Starts the role in a state folder, which may be one that a gateway left. Does not wait until it is ready. */
  startRole(stateDir: string): Promise<LaunchedGateway>;
  /** Flag by which a gateway hands its events to the role. */
  readonly roleFlag: readonly string[];
  readonly api: ApiServer;
  readonly agent: FakeAgent;
  /** Makes a worker, and waits until the gateway takes its calls. */
  addWorker(name: string, spec?: Partial<LambdaWorkerSpec>): Promise<void>;
  /** SIGTERM; resolves with the milliseconds until its end. */
  terminate(timeoutMs: number): Promise<number>;
  close(): Promise<void>;
}

export interface GatewayProcessOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** Whether a role of its own keeps the events. Default false. */
  readonly role?: boolean;
  /** File `cgroup.procs` of a control group to run in. */
  readonly group?: string;
}

/** Starts one that is ready. The caller closes it, also when the test fails (`afterAll`). */
export async function startGatewayProcess(
  flags: readonly string[],
  options: GatewayProcessOptions = {},
): Promise<GatewayProcess> {
  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const each of closers.toReversed()) {
      await each();
    }
  };
  try {
    return await build(flags, options, closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(
  flags: readonly string[],
  { env = process.env, group = '/dev/null', role: hasRole = false }: GatewayProcessOptions,
  closers: (() => unknown)[],
  close: () => Promise<void>,
): Promise<GatewayProcess> {
  const api = await startApiServer();
  closers.push(() => api.stop());
  await prepareCluster(api, ['crds', 'manifests/namespace.yaml', 'manifests/rbac.yaml', 'manifests/local']);
  const admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: api.adminKubeconfig }) });
  closers.push(() => admin.close());
  const authority = await advanceAuthority(undefined, Date.now());
  const agent = await startFakeAgent({ clientAuthority: authority.current.certificate, keepsAnswers: true });
  closers.push(() => agent.stop());
  const apply = (resource: object): Promise<string> =>
    api.kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'esb.dev/v1alpha1', ...resource }));
  const patchStatus = (kind: string, name: string, status: object): Promise<string> =>
    api.kubectl(['patch', kind, name, '--subresource=status', '--type=merge', '-p', JSON.stringify({ status })]);
  await apply({ kind: 'LambdaNode', metadata: { name: agent.nodeName } });
  const { endpoint, certificate } = agent.node.status ?? {};
  await patchStatus('ln', agent.nodeName, { endpoint, certificate });

  const published = JSON.stringify({ data: { 'ca.crt': authority.current.certificate } });
  await api.kubectl(['patch', 'configmap', 'esb-client-ca', '-n', 'esb-system', '--type=merge', '-p', published]);

  const folder = await mkdtemp(join(tmpdir(), 'esb-gateway-'));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  const kubeconfig = await api.kubeconfig('esb:gateway');
  const sign = async (): Promise<void> => {
    const { items } = await admin.list<CertificateSigningRequest>(certificateSigningRequests);
    for (const request of items) {
      await signRequest(request, {
        client: admin,
        authority: () => authority.current,
        clock: systemClock,
        logger: silentLogger(),
      });
    }
  };
  const rolePort = await freePort();
  const roleFlag = ['--events-address', `127.0.0.1:${rolePort}`];
  const launch = async (
    name: string,
    command: readonly string[],
    more: readonly string[],
    givenPort?: number,
  ): Promise<LaunchedGateway> => {
    const [port, healthPort] = [givenPort ?? (await freePort()), await freePort()];
    const spawn = (): Promise<OwnedProcess> =>
      startOwnedProcess({
        program: 'sh',
        args: [
          ...['-c', 'echo 0 >"$0" && exec "$@"', group, process.execPath],
          ...command,
          ...['--namespace', 'default'],
          ...['--kubeconfig', kubeconfig],
          ...['--listen', `127.0.0.1:${port}`],
          ...['--health', `127.0.0.1:${healthPort}`],
          ...['--state-dir', join(folder, name)],
          ...['--event-destination', '127.0.0.0/8'],
          ...more,
        ],
        logFile: join(folder, `${name}-${port}.log`),
        env,
      });
    let current = await spawn();
    closers.push(() => current.kill());
    const ready = async (): Promise<void> => {
      await waitFor(
        'the gateway to be ready',
        async () => {
          if (current.ended()) {
            return true;
          }
          await sign();
          return (await get(healthPort, '/readyz')).startsWith('200');
        },
        { timeoutMs: 60_000 },
      );
      if (current.ended()) {
        throw new Error(`the gateway ended:\n${current.output().slice(-4_000)}`);
      }
    };
    return {
      stateDir: join(folder, name),
      get process() {
        return current;
      },
      port,
      healthPort,
      kill: () => current.kill(),
      async start() {
        current = await spawn();
      },
      ready,
      async metric(metric) {
        const line = new RegExp(`^${metric} (.+)$`, 'm').exec(await get(healthPort, '/metrics'));
        if (line?.[1] === undefined) {
          throw new Error(`there is no metric ${metric}`);
        }
        return Number(line[1]);
      },
      descriptors: async () => (await readdir(`/proc/${current.pid}/fd`)).length,
      async residentMiB() {
        const text = await readFile(`/proc/${current.pid}/status`, 'latin1');
        return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1]) / 1024;
      },
    };
  };
  const main = join(root, 'src/main.ts');
  const startRole = (stateDir: string): Promise<LaunchedGateway> =>
    launch(stateDir, [main, 'events'], ['--log-level', 'warn'], rolePort);
  const launchGateway = async (name: string, program: string, more: readonly string[]): Promise<LaunchedGateway> => {
    const launched = await launch(name, [program, 'gateway'], [...flags, ...more]);
    await launched.ready();
    return launched;
  };
  const role = hasRole ? await startRole('events') : undefined;
  await role?.ready();
  const given = hasRole ? roleFlag : [];
  const gateway = await launchGateway('state', main, given);
  const { healthPort, port } = gateway;
  return {
    get process() {
      return gateway.process;
    },
    port,
    healthPort,
    kill: gateway.kill,
    start: gateway.start,
    ready: gateway.ready,
    stateDir: gateway.stateDir,
    role,
    startRole,
    roleFlag,
    metric: gateway.metric,
    descriptors: gateway.descriptors,
    residentMiB: gateway.residentMiB,
    startPeer: (program = 'main', more = given) =>
      launchGateway('peer', program === 'main' ? main : join(import.meta.dirname, 'hasty-gateway.ts'), more),
    api,
    agent,
    async addWorker(name, spec = {}) {
      await apply({
        kind: 'LambdaWorker',
        metadata: { name, namespace: 'default' },
        spec: { image: 'registry.example/hello:1', ...spec },
      });
      await patchStatus('lw', name, { assignment: { nodeName: agent.nodeName, epoch: 1 } });
      const { metadata } = JSON.parse(await api.kubectl(['get', 'lw', name, '-o', 'json'])) as LambdaWorker;
      agent.put({ name, worker: { namespace: 'default', name, uid: metadata.uid ?? '' } });
      const url = `http://127.0.0.1:${port}/2015-03-31/functions/${spec.functionName ?? name}/invocations`;
      await waitFor(`the gateway to know ${name}`, async () => {
        const answer = await fetch(url, { method: 'POST', headers: { 'x-amz-invocation-type': 'DryRun' } });
        return answer.status === 204;
      });
    },
    async terminate(timeoutMs) {
      const began = performance.now();
      gateway.process.signal('SIGTERM');
      await waitFor('the gateway to end', () => gateway.process.ended(), { timeoutMs, everyMs: 20 });
      return performance.now() - began;
    },
    close,
  };
}

async function get(port: number, path: string): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(10_000) });
  return `${answer.status} ${await answer.text()}`;
}
