import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { ensureSampleImage } from '../../local/image/sample-image.ts';
import type { LambdaWorker, LambdaWorkerSpec } from '../../src/api/lambda-worker.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { advanceAuthority } from '../../src/controller/certificates/ca.ts';
import { signRequest } from '../../src/controller/certificates/csr-signer.ts';
import { type CertificateSigningRequest, certificateSigningRequests } from '../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { type AgentLab, startAgentLab } from './agent-lab.ts';
import { type Boto3Caller, startBoto3 } from './boto3-caller.ts';
import { clientAuthority } from './cluster-start.ts';
import { createJavaScriptCaller } from './javascript-caller.ts';
import type { LambdaCaller } from './lambda-caller.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { ensurePythonClients, type PythonClients } from './python-clients.ts';
import { relaySockets } from './socket-relay.ts';
import { layoutImage } from './test-image.ts';
import { toolsFolder } from './tools.ts';
import { waitFor } from './wait-for.ts';

const root = resolve(import.meta.dirname, '../..');
const gatewayPort = 9080;
const healthPort = 9092;

/** A gateway's process and the ways to it. */
export interface LabGateway {
  /** Where the test reaches it, through two relays that buffer some MiB. */
  readonly url: string;
  /** Its port on the loopback of the node. */
  readonly port: number;
  readonly process: OwnedProcess;
  /** GET of its health server, as `status body`. */
  health(path: string): Promise<string>;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>;
}

export interface RestartOptions {
  /** Default true. */
  readonly untilReady?: boolean;
  /** Default `main`; the other one waits for little, see `hasty-gateway.ts`. */
  readonly program?: 'main' | 'hasty';
}

/**
 * The real thing from end to end: a gateway's process beside the real agent on one node, workers with AWS's own Python
 * runtime and emulator, and in front of it the clients that people have. The test plays the controller.
 */
export interface ConformanceLab {
  readonly agentLab: AgentLab;
  readonly gateway: LabGateway;
  readonly clients: PythonClients;
  /** The SDK for JavaScript, and boto3. */
  readonly callers: { readonly javaScript: LambdaCaller; readonly boto3: Boto3Caller };
  /** Makes a worker of the sample function, and waits until it is ready and the gateway knows it. */
  apply(name: string, spec?: Partial<LambdaWorkerSpec>): Promise<LambdaWorker>;
  /** The image of the sample function. */
  readonly image: string;
  /** Waits until a worker has written this, and gives all that it wrote so far, as its node has it. */
  logged(name: string, text: string): Promise<string>;
  /** A port of this side for one of the node's loopback. */
  reach(port: number): Promise<number>;
  /** Waits until the gateway takes calls of a function. */
  known(functionName: string): Promise<void>;
  /**
   * Starts the gateway again, with these flags beside the usual ones, and waits until it is ready unless told not to.
   */
  restartGateway(flags?: readonly string[], options?: RestartOptions): Promise<LabGateway>;
  close(): Promise<void>;
}

/** Starts a lab with an agent that serves. The caller closes it, also when the test fails (`afterAll`). */
export async function startConformanceLab(gatewayFlags: readonly string[] = []): Promise<ConformanceLab> {
  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const each of closers.toReversed()) {
      await each();
    }
  };
  try {
    return await build(gatewayFlags, closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(
  usualFlags: readonly string[],
  closers: (() => unknown)[],
  close: () => Promise<void>,
): Promise<ConformanceLab> {
  const progress = createProgress({ write: () => undefined });
  const clients = await ensurePythonClients(progress);
  const agentLab = await startAgentLab();
  closers.push(() => agentLab.close());
  const { api, lab } = agentLab;
  const sample = await ensureSampleImage('python-counter', { progress, tools: toolsFolder() });
  const image = lab.registry.put('python-counter:latest', await layoutImage(sample.layout));

  const authority = await advanceAuthority(undefined, Date.now());
  await api.kubectl(['apply', '-f', '-'], JSON.stringify(clientAuthority(authority.current.certificate)));
  const admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: api.adminKubeconfig }) });
  closers.push(() => admin.close());
  const signRequests = async (): Promise<void> => {
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
  await agentLab.startAgent();
  await agentLab.untilServing();

  const inside = (program: string, args: readonly string[], name: string): Promise<OwnedProcess> =>
    startOwnedProcess({
      program: 'nsenter',
      args: [`--net=${lab.netnsPath}`, program, ...args],
      logFile: join(lab.folder, `${name}.log`),
    });
  const reach = async (port: number): Promise<number> => {
    const socket = join(lab.folder, `p${port}.sock`);
    const script = join(import.meta.dirname, 'socket-relay.ts');
    const carrier = await inside(
      process.execPath,
      [script, `unix:${socket}`, `tcp:127.0.0.1:${port}`],
      `relay-${port}`,
    );
    closers.push(() => carrier.kill());
    const server = await relaySockets('tcp:127.0.0.1:0', `unix:${socket}`);
    closers.push(() => server.close());
    return (server.address() as AddressInfo).port;
  };
  const url = `http://127.0.0.1:${await reach(gatewayPort)}`;
  const healthUrl = `http://127.0.0.1:${await reach(healthPort)}`;
  const health = async (path: string): Promise<string> => {
    const answer = await fetch(`${healthUrl}${path}`, { signal: AbortSignal.timeout(5_000) });
    return `${answer.status} ${(await answer.text()).trim()}`;
  };
  const kubeconfig = await api.kubeconfig('esb:gateway');
  let starts = 0;
  const startGateway = async (
    flags: readonly string[],
    { untilReady = true, program = 'main' }: RestartOptions = {},
  ): Promise<LabGateway> => {
    starts += 1;
    const started = await inside(
      process.execPath,
      [
        program === 'main' ? join(root, 'src/main.ts') : join(import.meta.dirname, 'hasty-gateway.ts'),
        'gateway',
        ...['--namespace', 'default'],
        '--authentication=off',
        ...['--kubeconfig', kubeconfig],
        ...['--listen', `127.0.0.1:${gatewayPort}`],
        ...['--health', `127.0.0.1:${healthPort}`],
        ...['--state-dir', join(lab.folder, 'gateway')],
        ...usualFlags,
        ...flags,
      ],
      `gateway-${starts}`,
    );
    const path = untilReady ? '/readyz' : '/healthz';
    try {
      await waitFor(
        `the gateway to answer 200 to ${path}`,
        async () => {
          if (started.ended()) {
            return true;
          }
          if (untilReady) {
            await signRequests();
          }
          return (await health(path)).startsWith('200');
        },
        { timeoutMs: 60_000, everyMs: 100 },
      );
      if (started.ended()) {
        throw new Error('the gateway ended');
      }
    } catch (error) {
      await started.kill();
      throw new Error(`${String(error)}:\n${started.output().slice(-6_000)}`, { cause: error });
    }
    return {
      url,
      port: gatewayPort,
      process: started,
      health,
      async stop() {
        started.signal('SIGTERM');
        await waitFor('the gateway to end', () => started.ended(), { timeoutMs: 30_000 });
      },
    };
  };
  let gateway: LabGateway | undefined;
  closers.push(() => gateway?.process.kill());
  gateway = await startGateway([]);

  const javaScript = createJavaScriptCaller(url);
  closers.push(() => javaScript.close());
  const boto3 = startBoto3(clients, url);
  closers.push(() => boto3.close());

  const known = async (functionName: string): Promise<void> => {
    await waitFor(`the gateway to know ${functionName}`, async () => {
      const outcome = await javaScript.call('Invoke', {
        FunctionName: functionName,
        InvocationType: 'DryRun',
      });
      return outcome.kind === 'answered';
    });
  };
  return {
    agentLab,
    get gateway() {
      if (gateway === undefined) {
        throw new Error('the gateway is not running');
      }
      return gateway;
    },
    clients,
    image,
    callers: { javaScript, boto3 },
    async apply(name, spec = {}) {
      await agentLab.apply(name, { image, ...spec });
      const worker = await agentLab.waitForWorker(name, 'to be ready', ({ status }) =>
        (status?.conditions ?? []).some(({ type, status: is }) => type === 'Ready' && is === 'True'),
      );
      await known(spec.functionName ?? name);
      return worker;
    },
    logged: (name, text) =>
      waitFor(`${name} to write '${text}'`, async () => {
        const { status } = await agentLab.worker(name);
        const file = join(agentLab.stateDir, 'logs', `${status?.containerID}.log`);
        const written = await readFile(file, 'utf8');
        return written.includes(text) ? written : undefined;
      }),
    reach,
    known,
    async restartGateway(flags = [], options) {
      await gateway?.stop();
      gateway = undefined;
      gateway = await startGateway(flags, options);
      return gateway;
    },
    close,
  };
}

/** Reads a JSON payload, or says what it is. */
export function parsed(payload: unknown): Record<string, unknown> {
  try {
    return JSON.parse(String(payload)) as Record<string, unknown>;
  } catch (error) {
    throw new Error(`'${String(payload).slice(0, 200)}' is not JSON`, { cause: error });
  }
}
