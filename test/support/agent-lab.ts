import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { credentials, makeGenericClientConstructor } from '@grpc/grpc-js';
import { type LambdaNode, lambdaNodes } from '../../src/api/lambda-node.ts';
import { type LambdaWorker, type LambdaWorkerSpec, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { removeNodeNetwork } from '../../src/cni/gc/uninstall.ts';
import type { KubeObject, ObjectKey, ResourceType } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { loadAgentProto } from '../../src/protocol/agent-proto.ts';
import { type ApiServer, type ApiServerOptions, startApiServer } from './api-server.ts';
import { createCertificateAuthority } from './certificate-authority.ts';
import { clientAuthority, prepareCluster } from './cluster-start.ts';
import { run } from './command.ts';
import { type DockerLab, startDockerLab } from './docker-lab.ts';
import { stateOfTask } from './freezer.ts';
import { initProgram } from './init-lab.ts';
import { type Lab, type LabOptions, startLab } from './lab.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { relaySockets } from './socket-relay.ts';
import { toolsFolder } from './tools.ts';
import { waitFor } from './wait-for.ts';

const root = resolve(import.meta.dirname, '../..');
const nodeName = 'node-1';
const agentPort = 9443;
const healthPort = 9093;
const subnet = '10.234.0.0/16';

/** Result of one call through the agent. */
export interface LabAnswer {
  /** Outcome of the call, or the end of its function where that is no answer and no error. */
  readonly outcome: string;
  readonly reason: string;
  readonly message: string;
  readonly stamp: string;
  /** State that the call found: running, paused or absent. */
  readonly start: string;
  readonly body: string;
  readonly logTail: string;
}

export interface LabCall {
  readonly payload?: unknown;
  /** Default: as the API server has it. */
  readonly epoch?: number;
  readonly tailLog?: boolean;
  /** Default: a random one. */
  readonly requestId?: string;
  readonly deadlineMs?: number;
}

/**
 * One node with the real agent, containerd, runc and CNI plugins, and a real API server outside of it. The node's
 * network is a namespace of its own; the test plays the controller and the gateway.
 */
export interface AgentLab {
  readonly api: ApiServer;
  readonly lab: Lab;
  readonly stateDir: string;
  readonly runDir: string;
  readonly nodeName: string;
  /** The agent's process, while it runs. */
  readonly agent: OwnedProcess;
  /** Starts the agent; with more flags and variables where a test wants them. */
  startAgent(flags?: readonly string[], variables?: NodeJS.ProcessEnv): Promise<void>;
  /** Runs another agent beside it, to its end. */
  runSecondAgent(flags?: readonly string[]): Promise<{ readonly code: number; readonly stderr: string }>;
  /** Waits until it serves. */
  untilServing(): Promise<void>;
  /** SIGKILL. */
  killAgent(): Promise<void>;
  /** SIGTERM, and waits for the end. */
  stopAgent(): Promise<void>;
  /** Lines that the agent logged. */
  log(): readonly Record<string, unknown>[];
  /** Creates a worker and assigns it to the node, as the controller would. */
  apply(name: string, spec?: Partial<LambdaWorkerSpec>): Promise<LambdaWorker>;
  patch(name: string, patch: object, subresource?: 'status'): Promise<void>;
  worker(name: string): Promise<LambdaWorker>;
  waitForWorker(name: string, what: string, test: (worker: LambdaWorker) => boolean): Promise<LambdaWorker>;
  waitForPhase(name: string, phase: string): Promise<LambdaWorker>;
  /** Deletes a worker and takes its finalizer away once the agent has reported that it is cleaned up. */
  remove(name: string): Promise<void>;
  node(): Promise<LambdaNode>;
  waitForNode(what: string, test: (node: LambdaNode) => boolean): Promise<LambdaNode>;
  /** Calls a worker through the agent. Rejects with a gRPC status. */
  invoke(worker: LambdaWorker, call?: LabCall): Promise<LabAnswer>;
  unary(method: string, request: object): Promise<Record<string, unknown>>;
  /** Messages of a call whose answer is a stream, as they come; leaving the loop ends it. */
  stream<Message>(method: string, request: object): AsyncIterable<Message>;
  /** State of the task of a container as containerd and the kernel have it, such as RUNNING; undefined without one. */
  taskState(containerId: string): Promise<string | undefined>;
  /** Rows of the tasks of workers, in order. The trial of /tmp of an agent that starts is none. */
  tasks(): Promise<readonly string[]>;
  /** Runs a program in the node's network. */
  onNode(program: string, ...args: readonly string[]): Promise<string>;
  /** GET of the agent's health server, as `status body`. */
  health(path: string): Promise<string>;
  close(): Promise<void>;
}

/** Node with a Docker engine in place of containerd. */
export interface DockerAgentLab extends Omit<AgentLab, 'lab' | 'taskState' | 'tasks'> {
  readonly lab: DockerLab;
}

/** Where the agent of a lab has its workers. */
interface LabNode {
  readonly folder: string;
  readonly netnsPath: string;
  readonly image: string;
  /** Labels and taints of the node for the agent. */
  readonly flags: readonly string[];
  readonly close: () => Promise<void>;
}

/** Starts everything but the agent. The caller closes it, also when the test fails (`afterAll`). */
export async function startAgentLab(options: ApiServerOptions & LabOptions = {}): Promise<AgentLab> {
  const tools = toolsFolder();
  let lab: Lab | undefined;
  const built = await startAround(options, async () => {
    const started = await startLab(options);
    lab = started;
    return {
      ...placeOf(started),
      flags: [
        ...['--containerd-socket', started.socketPath],
        ...['--cni-bin-dir', tools],
        ...['--certs-dir', join(started.folder, 'certs.d')],
        ...['--cgroup-parent', started.cgroupParent],
      ],
      close: async () => {
        await removeNodeNetwork({
          stateDir: stateFolder(started),
          configFile: join(root, 'cni/10-esb.conflist'),
          pluginFolder: tools,
          subnet,
          nodeNetns: started.netnsPath,
        });
        await started.close();
      },
    };
  });
  const containerd = lab;
  if (containerd === undefined) {
    throw new Error('the node has not been started');
  }
  return Object.assign(built, {
    lab: containerd,
    async taskState(containerId: string) {
      const line = (await containerd.ctr('tasks', 'list'))
        .split('\n')
        .find((each) => each.startsWith(`${containerId} `));
      const [, pid, told] = line?.trim().split(/\s+/) ?? [];
      return told === undefined ? undefined : await stateOfTask(told, Number(pid));
    },
    async tasks() {
      return (await containerd.ctr('tasks', 'list'))
        .split('\n')
        .slice(1)
        .flatMap((row) => (/^(esb-tmp-trial-|$)/.test(row) ? [] : row.trim().replaceAll(/ +/g, ' ')))
        .toSorted();
    },
  });
}

/** Starts an agent with a Docker engine. */
export async function startDockerAgentLab(options: ApiServerOptions = {}): Promise<DockerAgentLab> {
  let lab: DockerLab | undefined;
  const built = await startAround(options, async () => {
    const started = await startDockerLab();
    lab = started;
    const flags = ['--runtime-type', 'docker', '--docker-socket', started.socketPath];
    return { ...placeOf(started), flags, close: () => started.close() };
  });
  if (lab === undefined) {
    throw new Error('the node has not been started');
  }
  return Object.assign(built, { lab });
}

async function startAround(
  options: ApiServerOptions,
  startNode: () => Promise<LabNode>,
): Promise<Omit<AgentLab, 'lab' | 'taskState' | 'tasks'>> {
  const tools = toolsFolder();
  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const each of closers.toReversed()) {
      await each();
    }
  };
  try {
    return await build(tools, closers, close, options, startNode);
  } catch (error) {
    await close();
    throw error;
  }
}

function placeOf({ folder, netnsPath, image }: Omit<LabNode, 'flags' | 'close'>): Omit<LabNode, 'flags' | 'close'> {
  return { folder, netnsPath, image };
}

function stateFolder({ folder }: { readonly folder: string }): string {
  return join(folder, 'agent');
}

async function build(
  tools: string,
  closers: (() => unknown)[],
  close: () => Promise<void>,
  options: ApiServerOptions,
  startNode: () => Promise<LabNode>,
): Promise<Omit<AgentLab, 'lab' | 'taskState' | 'tasks'>> {
  const [api, lab, authority] = await Promise.all([
    startApiServer(options).then((started) => {
      closers.push(() => started.stop());
      return started;
    }),
    startNode().then((started) => {
      closers.push(() => started.close());
      return started;
    }),
    createCertificateAuthority(),
  ]);
  const stateDir = stateFolder(lab);
  const runDir = join(lab.folder, 'run');
  const inside = (program: string, args: readonly string[], logFile: string): Promise<OwnedProcess> =>
    startOwnedProcess({
      program: 'nsenter',
      args: [`--net=${lab.netnsPath}`, program, ...args],
      logFile,
    });
  const relay = async (from: string, to: string): Promise<void> => {
    const file = join(lab.folder, `relay-${randomUUID().slice(0, 8)}.log`);
    const started = await inside(process.execPath, [join(import.meta.dirname, 'socket-relay.ts'), from, to], file);
    closers.push(() => started.kill());
  };
  const apiPort = new URL(api.url).port;
  const apiSocket = join(lab.folder, 'api.sock');
  const agentSocket = join(lab.folder, 'agent.sock');
  const healthSocket = join(lab.folder, 'health.sock');
  const outside = await relaySockets(`unix:${apiSocket}`, `tcp:127.0.0.1:${apiPort}`);
  closers.push(() => outside.close());
  await relay(`tcp:127.0.0.1:${apiPort}`, `unix:${apiSocket}`);
  await relay(`unix:${agentSocket}`, `tcp:127.0.0.1:${agentPort}`);
  await relay(`unix:${healthSocket}`, `tcp:127.0.0.1:${healthPort}`);

  await prepareCluster(api, INSTALLED, [clientAuthority(authority.certificate)]);
  const kubeconfig = await api.kubeconfig(`esb:agent:${nodeName}`, ['esb:agents']);
  const clientCertificate = await authority.issueGateway(['default']);

  const env = { ...process.env, PATH: `${tools}:${process.env.PATH ?? ''}` };
  const init = await initProgram();
  const command = (flags: readonly string[]): string[] => [
    `--net=${lab.netnsPath}`,
    process.execPath,
    join(root, 'src/main.ts'),
    'agent',
    ...['--node-name', nodeName],
    ...['--kubeconfig', kubeconfig],
    ...['--state-dir', stateDir],
    ...['--run-dir', runDir],
    ...['--listen', `127.0.0.1:${agentPort}`],
    ...['--health', `127.0.0.1:${healthPort}`],
    ...['--memory', '4096'],
    ...['--subnet', subnet],
    ...['--init-program', init],
    ...lab.flags,
    ...['--log-level', 'debug'],
    ...flags,
  ];

  let agent: OwnedProcess | undefined;
  let starts = 0;
  closers.push(() => agent?.kill());

  const requireAgent = (): OwnedProcess => {
    if (agent === undefined) {
      throw new Error('the agent is not running');
    }
    return agent;
  };
  const health = async (path: string): Promise<string> => {
    const { stdout } = await run('curl', [
      '--silent',
      '--unix-socket',
      healthSocket,
      '--write-out',
      '%{http_code}',
      '--output',
      '-',
      '--max-time',
      '5',
      `http://agent${path}`,
    ]);
    return `${stdout.slice(-3)} ${stdout.slice(0, -3).trim()}`;
  };

  let client: InstanceType<ReturnType<typeof makeGenericClientConstructor>> | undefined;
  let trusted = Buffer.alloc(0);
  closers.push(() => client?.close());
  const connected = async (): Promise<Record<string, (...args: unknown[]) => unknown>> => {
    // As gateways do once they have read the LambdaNode; from the file, so that the API server may be away.
    const pem = await readFile(join(stateDir, 'server.pem'));
    if (client === undefined || !pem.equals(trusted)) {
      client?.close();
      trusted = pem;
      client = new (makeGenericClientConstructor(loadAgentProto().agent, 'Agent'))(
        `unix:${agentSocket}`,
        credentials.createSsl(pem, Buffer.from(clientCertificate.key), Buffer.from(clientCertificate.certificate)),
        {
          'grpc.ssl_target_name_override': nodeName,
          'grpc.default_authority': nodeName,
          'grpc.use_local_subchannel_pool': 1,
          'grpc.initial_reconnect_backoff_ms': 50,
          'grpc.max_reconnect_backoff_ms': 200,
          'grpc.max_receive_message_length': -1,
        },
      );
    }
    return client as unknown as Record<string, (...args: unknown[]) => unknown>;
  };
  const unary: AgentLab['unary'] = async (method, request) => {
    const methods = await connected();
    const done = Promise.withResolvers<Record<string, unknown>>();
    methods[method]?.call(
      client,
      request,
      { deadline: Date.now() + 30_000 },
      (error: Error | null, answer: Record<string, unknown>) =>
        error === null ? done.resolve(answer) : done.reject(error),
    );
    return done.promise;
  };
  // No program each time: tests look several times a second.
  const admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: api.adminKubeconfig }) });
  closers.push(() => admin.close());
  const read = async <T extends KubeObject>(type: ResourceType<T>, key: ObjectKey): Promise<T> => {
    const found = await admin.get(type, key);
    if (found === undefined) {
      throw new Error(`there is no ${type.kind} ${key.name}`);
    }
    return found;
  };
  const patch: AgentLab['patch'] = async (name, body, subresource) => {
    await admin.patch(
      lambdaWorkers,
      { namespace: 'default', name },
      { kind: 'merge', body },
      subresource === undefined ? {} : { subresource },
    );
  };
  const worker = (name: string): Promise<LambdaWorker> => read(lambdaWorkers, { namespace: 'default', name });
  const waitForWorker: AgentLab['waitForWorker'] = async (name, what, test) => {
    let last: LambdaWorker | undefined;
    try {
      return await waitFor(
        `${name} ${what}`,
        async () => {
          last = await worker(name);
          return test(last) ? last : undefined;
        },
        { timeoutMs: 60_000, everyMs: 200 },
      );
    } catch (error) {
      throw new Error(
        `${String(error)}; its status is ${JSON.stringify(last?.status)}; the agent said:\n${agent?.output().slice(-6000)}`,
        { cause: error },
      );
    }
  };
  const node = (): Promise<LambdaNode> => read(lambdaNodes, { name: nodeName });

  return {
    api,
    stateDir,
    runDir,
    nodeName,
    get agent() {
      return requireAgent();
    },
    async startAgent(flags = [], variables = {}) {
      starts += 1;
      agent = await startOwnedProcess({
        program: 'nsenter',
        args: command(flags),
        logFile: join(lab.folder, `agent-${starts}.log`),
        env: { ...env, ...variables },
      });
    },
    runSecondAgent: (flags = []) => run('nsenter', command(flags), { env, mayFail: true, timeoutMs: 60_000 }),
    untilServing: async () => {
      try {
        await waitFor(
          'the agent to serve',
          async () => {
            if (requireAgent().ended()) {
              return true;
            }
            return (await health('/readyz')).startsWith('200');
          },
          { timeoutMs: 60_000 },
        );
      } catch (error) {
        throw new Error(`${String(error)}:\n${requireAgent().output().slice(-6000)}`, { cause: error });
      }
      if (requireAgent().ended()) {
        throw new Error(`the agent ended:\n${requireAgent().output().slice(-6000)}`);
      }
    },
    async killAgent() {
      await requireAgent().kill();
    },
    async stopAgent() {
      const stopping = requireAgent();
      stopping.signal('SIGTERM');
      await waitFor('the agent to end', () => stopping.ended(), { timeoutMs: 60_000 });
    },
    log: () =>
      requireAgent()
        .output()
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    async apply(name, spec = {}) {
      const body = {
        metadata: { finalizers: ['esb.dev/worker'] },
        spec: {
          image: lab.image,
          imagePullPolicy: 'IfNotPresent',
          ephemeralStorage: '16Mi',
          terminationGracePeriodSeconds: 2,
          ...spec,
        },
      };
      await admin.patch(lambdaWorkers, { namespace: 'default', name }, { kind: 'apply', body, fieldManager: 'test' });
      await patch(name, { status: { assignment: { nodeName, epoch: 1 } } }, 'status');
      return worker(name);
    },
    patch,
    worker,
    waitForWorker,
    waitForPhase: (name, phase) => waitForWorker(name, `to be ${phase}`, ({ status }) => status?.phase === phase),
    async remove(name) {
      await admin.delete(lambdaWorkers, { namespace: 'default', name });
      await waitForWorker(name, 'to be cleaned up', ({ status }) =>
        (status?.conditions ?? []).some(({ type, status: is }) => type === 'CleanedUp' && is === 'True'),
      );
      await patch(name, { metadata: { finalizers: null } });
    },
    node,
    async waitForNode(what, test) {
      let last: LambdaNode | undefined;
      try {
        return await waitFor(
          `the node ${what}`,
          async () => {
            last = await node();
            return test(last) ? last : undefined;
          },
          { timeoutMs: 60_000, everyMs: 200 },
        );
      } catch (error) {
        throw new Error(`${String(error)}; its status is ${JSON.stringify(last?.status)}`, { cause: error });
      }
    },
    async invoke(target, call = {}) {
      const methods = await connected();
      const stream = methods.invoke?.call(
        client,
        {
          worker: {
            namespace: target.metadata.namespace,
            name: target.metadata.name,
            uid: target.metadata.uid,
          },
          epoch: call.epoch ?? target.status?.assignment?.epoch ?? 1,
          requestId: call.requestId ?? randomUUID(),
          payload: Buffer.from(JSON.stringify(call.payload ?? {})),
          tailLog: call.tailLog === true,
        },
        { deadline: Date.now() + (call.deadlineMs ?? 60_000) },
      ) as AsyncIterable<{
        readonly chunk?: Buffer;
        readonly trailer?: {
          readonly outcome: string;
          readonly reason: string;
          readonly message: string;
          readonly stamp: string;
          readonly timings: { readonly start: string } | null;
          readonly logTail: Buffer;
          readonly functionEnd: { readonly outcome: string } | null;
        };
      }>;
      const chunks: Buffer[] = [];
      for await (const { chunk, trailer } of stream) {
        if (chunk !== undefined) {
          chunks.push(chunk);
        }
        if (trailer !== undefined && trailer !== null) {
          return {
            outcome: outcomeOf(trailer),
            reason: trailer.reason,
            message: trailer.message,
            stamp: trailer.stamp,
            start: trailer.timings?.start ?? '',
            body: Buffer.concat(chunks).toString(),
            logTail: trailer.logTail.toString(),
          };
        }
      }
      throw new Error('the answer had no trailer');
    },
    unary,
    async *stream<Message>(method: string, request: object) {
      const methods = await connected();
      const call = methods[method]?.call(client, request) as AsyncIterable<Message> & Partial<Writable>;
      // A method that takes a stream takes the request as the first message of that, and as its last.
      call.end?.(request);
      yield* call;
    },
    onNode: async (program, ...args) => (await run('nsenter', [`--net=${lab.netnsPath}`, program, ...args])).stdout,
    health,
    close,
  };
}

/** Files that an installation brings. */
const INSTALLED = [
  'crds',
  'manifests/namespace.yaml',
  'manifests/rbac.yaml',
  'manifests/local',
  'manifests/agent-policy.yaml',
];

function outcomeOf(trailer: {
  readonly outcome: string;
  readonly functionEnd: { readonly outcome: string } | null;
}): string {
  const end = trailer.functionEnd?.outcome ?? 'FUNCTION_OUTCOME_ANSWERED';
  return ['FUNCTION_OUTCOME_ANSWERED', 'FUNCTION_OUTCOME_ERROR'].includes(end) ? trailer.outcome : end;
}
