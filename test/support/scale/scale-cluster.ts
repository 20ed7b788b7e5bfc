import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Pool } from 'undici';
import { PROGRAM_FOLDER } from '../../../hack/image/image-content.ts';
import { fillProgramRoot } from '../../../hack/image/program-root.ts';
import { keepNodeLease } from '../../../src/agent/node/node-lease.ts';
import { isTrue, nodeConditions } from '../../../src/api/condition.ts';
import { lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { CONTROLLER_LEASE, SYSTEM_NAMESPACE } from '../../../src/api/name.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { sleep } from '../../../src/common/deadline.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { TaskGroup } from '../../../src/common/task-group.ts';
import { leases } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from '../api-server.ts';
import { type OwnedProcess, startOwnedProcess } from '../owned-process.ts';
import { waitFor } from '../wait-for.ts';
import type { AgentsFile } from './agents-process.ts';
import { type ApiRequests, parseApiRequests } from './api-requests.ts';
import { SimulatedKubelets } from './simulated-kubelets.ts';
import { WorkerFollower } from './worker-follower.ts';

const root = join(import.meta.dirname, '../../..');
const collection = `/apis/${lambdaWorkers.group}/${lambdaWorkers.version}/namespaces/default/${lambdaWorkers.plural}`;
const restingStates = ['Running', 'Paused', 'Absent'] as const;
/** Requests at a time, as many as our own client has under way. */
const CONNECTIONS = 32;
/** Thousandths of a core that a node promises: 70 % of eight. */
const NODE_MILLI_CPU = 5_600;
/** Workers of one function. */
const PER_FUNCTION = 5;
/** Milliseconds over which the first renewals for held agents are spread: with those of agents, half of what is quiet. */
const HOLD_SPREAD_MS = 5_000;

export interface ScaleClusterOptions {
  readonly agents: number;
  /** Simulated agents in one process. Default 25. */
  readonly agentsPerProcess?: number;
  /** Workers that a node has room for. */
  readonly workersPerNode: number;
  /** Whether nodes have Nodes with guards and reservations, as with the default values of the chart. Default false. */
  readonly reserves?: boolean;
}

/** A request as it is sent, without any client of ours in between. */
export interface RawRequest {
  readonly method: 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly contentType?: string;
  readonly body?: object;
}

export type Controller = OwnedProcess & { readonly name: string };

/** A real etcd and API server with many simulated agents, and controllers as processes of their own. */
export class ScaleCluster {
  readonly admin: KubeClient;
  readonly #server: ApiServer;
  readonly #pool: Pool;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #agents: readonly OwnedProcess[];
  readonly #controllers: Controller[] = [];
  readonly #followers: WorkerFollower[] = [];
  readonly #nodes: readonly string[];
  /** Renew the Leases of held agents. */
  #renewals: TaskGroup | undefined;
  readonly #kubelets: SimulatedKubelets | undefined;
  readonly #program: string;

  private constructor(
    server: ApiServer,
    admin: KubeClient,
    pool: Pool,
    headers: Readonly<Record<string, string>>,
    agents: readonly OwnedProcess[],
    nodes: readonly string[],
    kubelets: SimulatedKubelets | undefined,
    program: string,
  ) {
    this.#server = server;
    this.admin = admin;
    this.#pool = pool;
    this.#headers = headers;
    this.#agents = agents;
    this.#nodes = nodes;
    this.#kubelets = kubelets;
    this.#program = program;
  }

  /** Resolves once every node says that it is ready. */
  static async up(options: ScaleClusterOptions): Promise<ScaleCluster> {
    const server = await startApiServer();
    const agents: OwnedProcess[] = [];
    try {
      for (const part of [
        'crds',
        'manifests/namespace.yaml',
        'manifests/rbac.yaml',
        'manifests/local',
        'manifests/agent-policy.yaml',
        'manifests/worker-finalizer.yaml',
        'manifests/priority-class.yaml',
      ]) {
        await server.kubectl(['apply', '-f', join(root, part)]);
      }
      await server.kubectl(['apply', '-f', '-'], await flowSchemas());
      const source = createKubeConnectionSource({ kubeconfig: server.adminKubeconfig });
      const admin = createKubeClient({ source });
      const { origin, tls, headers } = await source.current();
      const pool = new Pool(origin, { connections: CONNECTIONS, connect: { ...tls } });
      const program = await programOfImage(join(server.folder, 'image'));
      const kubelets = options.reserves === true ? await startKubelets(admin, options) : undefined;
      agents.push(...(await startAgents(server, options)));
      const cluster = new ScaleCluster(server, admin, pool, headers, agents, nodeNames(options), kubelets, program);
      await cluster.#registered(options.agents);
      await waitFor('workers to be admitted', () => cluster.#admitsWorkers(), { timeoutMs: 120_000 });
      return cluster;
    } catch (error) {
      await Promise.all(agents.map((agent) => agent.kill()));
      await server.stop();
      throw error;
    }
  }

  /** Processor time of everything so far, by part, in milliseconds. */
  async processorTimes(): Promise<Readonly<Record<'apiServer' | 'agents' | 'controllers', number>>> {
    const [apiServer, agents, controllers] = await Promise.all(
      [this.#server.pids(), this.#agents.map(({ pid }) => pid), this.#controllers.map(({ pid }) => pid)].map(
        async (pids) => (await Promise.all(pids.map(processorMs))).reduce((sum, each) => sum + each, 0),
      ),
    );
    return { apiServer: apiServer ?? 0, agents: agents ?? 0, controllers: controllers ?? 0 };
  }

  /** Starts a controller; it is not waited for. `nodeOptions` are those of Node.js. */
  async startController(name: string, nodeOptions: readonly string[] = []): Promise<Controller> {
    const started = await startOwnedProcess({
      program: process.execPath,
      args: [
        ...nodeOptions,
        this.#program,
        'controller',
        // Each node is to have its part of the work.
        '--placement=spread',
        '--kubeconfig',
        await this.#server.kubeconfig('esb:controller'),
        '--health',
        '127.0.0.1:0',
        '--identity',
        name,
        ...(this.#kubelets === undefined
          ? []
          : ['--hold-image=registry.example/esb:1', '--hold-priority-class=esb-hold']),
      ],
      cwd: this.#server.folder,
      logFile: join(this.#server.folder, `${name}.log`),
    });
    const controller = { ...started, name };
    this.#controllers.push(controller);
    return controller;
  }

  /** Ends a controller in order. */
  async stopController(controller: Controller): Promise<void> {
    controller.signal('SIGTERM');
    await waitFor(`${controller.name} to end`, () => controller.ended(), { timeoutMs: 60_000 });
  }

  /**
   * Stops every agent where it stands, so that the API server works only for the measured part. Their Leases are renewed
   * for them: nodes that fall silent get no workers.
   */
  holdAgents(): void {
    for (const agent of this.#agents) {
      agent.signal('SIGSTOP');
    }
    // A renewal that fails is tried again, and never throws.
    const renewals = new TaskGroup(() => undefined);
    const options = { client: this.admin, namespace: SYSTEM_NAMESPACE, clock: systemClock, logger: silentLogger() };
    for (const [index, nodeName] of this.#nodes.entries()) {
      renewals.run(`lease of ${nodeName}`, async (signal) => {
        await sleep(systemClock, (index * HOLD_SPREAD_MS) / this.#nodes.length, signal);
        await keepNodeLease({ ...options, nodeName }, signal);
      });
    }
    this.#renewals = renewals;
  }

  async releaseAgents(): Promise<void> {
    await this.#renewals?.stop();
    this.#renewals = undefined;
    for (const agent of this.#agents) {
      agent.signal('SIGCONT');
    }
  }

  /** Has the agents begin to call workers, as `simulated-calls` says, or end. */
  toggleCalls(): void {
    for (const agent of this.#agents) {
      agent.signal('SIGUSR2');
    }
  }

  /** Output of the agents so far. */
  outputOfAgents(): string {
    return this.#agents.map((agent) => agent.output()).join('');
  }

  /** The controller that leads, by its Lease; undefined while none does. */
  async leader(): Promise<string | undefined> {
    const lease = await this.admin.get(leases, { namespace: SYSTEM_NAMESPACE, name: CONTROLLER_LEASE });
    const holder = lease?.spec?.holderIdentity ?? '';
    return this.#controllers.find(({ name, ended }) => !ended() && holder.startsWith(`${name}_`))?.name;
  }

  /**
   * Creates workers `w-FIRST` to `w-(FIRST + count - 1)`, a third of each resting state.
   *
   * @param specOf fields of the spec of a worker that are to be others
   */
  async createWorkers(first: number, count: number, specOf?: (index: number) => object): Promise<void> {
    await this.send(count, (index) => workerRequest(first + index, specOf?.(first + index)));
  }

  async deleteWorkers(first: number, count: number): Promise<void> {
    await this.send(count, (index) => ({ method: 'DELETE', path: workerPath(first + index) }));
  }

  /** Sends `count` requests over 32 connections; gives what that took in milliseconds. */
  async send(count: number, requestOf: (index: number) => RawRequest): Promise<number> {
    const began = performance.now();
    let next = 0;
    const client = async (): Promise<void> => {
      for (let index = next++; index < count; index = next++) {
        await this.#request(requestOf(index));
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, client));
    return performance.now() - began;
  }

  /** Follows every worker from now on, until the cluster goes down. */
  async follow(): Promise<WorkerFollower> {
    const follower = await WorkerFollower.start(this.admin);
    this.#followers.push(follower);
    return follower;
  }

  async requests(): Promise<ApiRequests> {
    return parseApiRequests(await this.#server.kubectl(['get', '--raw', '/metrics']));
  }

  async down(): Promise<void> {
    await this.#renewals?.stop();
    await Promise.all(this.#followers.map((follower) => follower.stop()));
    await this.#kubelets?.stop();
    await Promise.all([...this.#controllers, ...this.#agents].map((one) => one.kill()));
    await this.admin.close();
    await this.#pool.destroy();
    await this.#server.stop();
  }

  /**
   * The API server refuses what it has a mutating policy for until it has read the definition of the resource itself.
   */
  async #admitsWorkers(): Promise<true> {
    const request = workerRequest(0);
    await this.#request({ ...request, path: `${request.path}?dryRun=All` });
    return true;
  }

  async #registered(count: number): Promise<void> {
    await waitFor(
      `${count} nodes to be ready`,
      async () => {
        const ended = this.#agents.find((agent) => agent.ended());
        if (ended !== undefined) {
          throw new Error(`agents ended:\n${ended.output().slice(-3_000)}`);
        }
        const { items } = await this.admin.list(lambdaNodes);
        return items.length === count && items.every((node) => isTrue(node.status?.conditions, nodeConditions.ready));
      },
      { timeoutMs: 180_000, everyMs: 500 },
    );
  }

  async #request({ method, path, contentType = 'application/json', body }: RawRequest): Promise<void> {
    const answer = await this.#pool.request({
      method,
      path,
      headers: { ...this.#headers, 'content-type': contentType },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 300) {
      throw new Error(`${method} ${path} answered ${answer.statusCode}: ${text.slice(0, 500)}`);
    }
  }
}

/** @throws {Error} with its output, where the controller has ended */
export function expectAlive(controller: Controller): void {
  if (controller.ended()) {
    throw new Error(`the controller ended:\n${controller.output().slice(-3_000)}`);
  }
}

/** The path of a worker. */
export function workerPath(index: number): string {
  return `${collection}/${workerName(index)}`;
}

/** Where a worker rests. */
export function restingState(index: number): (typeof restingStates)[number] {
  return restingStates[index % restingStates.length] ?? 'Running';
}

export function workerName(index: number): string {
  return `w-${index}`;
}

function workerRequest(index: number, spec: object = {}): RawRequest {
  return {
    method: 'POST',
    path: collection,
    body: {
      apiVersion: `${lambdaWorkers.group}/${lambdaWorkers.version}`,
      kind: lambdaWorkers.kind,
      metadata: { name: workerName(index), labels: { 'app.kubernetes.io/part-of': 'scale' } },
      spec: {
        functionName: `f-${Math.floor(index / PER_FUNCTION)}`,
        image: 'registry.example/team/function:1.2.3',
        handler: 'lambda_function.handler',
        env: [
          { name: 'STAGE', value: 'production' },
          { name: 'TABLE', value: 'customers' },
        ],
        desiredState: restingState(index),
        ...spec,
      },
    },
  };
}

/** Rights of the chart, for the users that the roles are here. */
async function flowSchemas(): Promise<string> {
  const text = await readFile(join(root, 'manifests/flow-schemas.yaml'), 'utf8');
  const account = /- kind: ServiceAccount\n\s+serviceAccount: \{name: esb-(\w+), namespace: esb-system\}/g;
  return text.replaceAll(account, (_, role: string) =>
    role === 'agent' ? '- {kind: Group, group: {name: "esb:agents"}}' : `- {kind: User, user: {name: "esb:${role}"}}`,
  );
}

function nodeNames({ agents }: ScaleClusterOptions): readonly string[] {
  return Array.from({ length: agents }, (_, index) => `node-${index}`);
}

/** MiB of the workers that a node has room for. */
function capacityMiB({ workersPerNode }: ScaleClusterOptions): number {
  return workersPerNode * 192;
}

function startKubelets(admin: KubeClient, options: ScaleClusterOptions): Promise<SimulatedKubelets> {
  const memoryMiB = 2 * capacityMiB(options);
  return SimulatedKubelets.start(admin, nodeNames(options), { memoryMiB, namespace: SYSTEM_NAMESPACE });
}

async function startAgents(server: ApiServer, options: ScaleClusterOptions): Promise<OwnedProcess[]> {
  const { agentsPerProcess = 25, workersPerNode } = options;
  const names = nodeNames(options);
  const nodes = await Promise.all(
    names.map(async (name) => ({
      name,
      kubeconfig: await server.kubeconfig(`esb:agent:${name}`, ['esb:agents']),
    })),
  );
  const started: OwnedProcess[] = [];
  for (let first = 0; first < nodes.length; first += agentsPerProcess) {
    const folder = join(server.folder, `agents-${first}`);
    await mkdir(folder, { recursive: true });
    const file = join(folder, 'agents.json');
    const content: AgentsFile = {
      folder,
      capacity: { memoryMiB: capacityMiB(options), workers: workersPerNode, milliCPU: NODE_MILLI_CPU },
      nodes: nodes.slice(first, first + agentsPerProcess),
    };
    await writeFile(file, JSON.stringify(content));
    started.push(
      await startOwnedProcess({
        program: process.execPath,
        args: [join(import.meta.dirname, 'agents-process.ts'), file],
        logFile: join(folder, 'agents.log'),
      }),
    );
  }
  return started;
}

/**
 * Processor time of a process, user and system; 0 for one that has ended. Ticks are hundredths of a second.
 */
async function processorMs(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * 10;
}

/** Makes the program as the image has it, without types, below `folder`; gives its entry. */
async function programOfImage(folder: string): Promise<string> {
  const program = join(folder, PROGRAM_FOLDER);
  await fillProgramRoot(folder, { repository: root });
  await symlink(join(root, 'node_modules'), join(program, 'node_modules'));
  return join(program, 'src/main.js');
}
