import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Pool } from 'undici';
import { parse } from 'yaml';
import { run } from '../support/command.ts';
import { readInstanceEnvironment } from '../support/instance-environment.ts';
import { waitFor } from '../support/wait-for.ts';

const repository = join(import.meta.dirname, '../..');
const resources = '/apis/esb.dev/v1alpha1/namespaces/default';
const workersPath = `${resources}/lambdaworkers`;
const functionsPath = `${resources}/lambdafunctions`;

/** How long something is waited for, and how often it is asked for. */
export interface Patience {
  readonly timeoutMs: number;
  readonly everyMs: number;
}

const soon: Patience = { timeoutMs: 120_000, everyMs: 50 };

/** The part of a LambdaWorker that the benchmark looks at. */
export interface WorkerSeen {
  readonly metadata: { readonly name: string; readonly resourceVersion: string };
  readonly status?: {
    readonly phase?: string;
    readonly containerID?: string;
    readonly address?: { readonly ip: string; readonly port: number };
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly message: string;
    }[];
  };
}

interface Kubeconfig {
  readonly clusters: readonly {
    readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string };
  }[];
  readonly users: readonly {
    readonly user: { readonly 'client-certificate-data': string; readonly 'client-key-data': string };
  }[];
}

/** A local instance of one node for the benchmark alone, and the raw API server behind it. */
export class BenchInstance {
  readonly home: string;
  readonly registry: string;
  readonly gateway: string;
  readonly #api: Pool;
  readonly #dispose: () => Promise<void>;

  private constructor(home: string, dispose: () => Promise<void>) {
    const env = readInstanceEnvironment(home);
    this.home = home;
    this.registry = env.ESB_REGISTRY ?? '';
    this.gateway = env.ESB_GATEWAY ?? '';
    this.#dispose = dispose;
    const config = parse(readFileSync(join(home, 'kubeconfig'), 'utf8')) as Kubeconfig;
    const cluster = config.clusters[0]?.cluster;
    const user = config.users[0]?.user;
    const decode = (text: string | undefined): string => Buffer.from(text ?? '', 'base64').toString();
    this.#api = new Pool(cluster?.server ?? '', {
      connections: 4,
      connect: {
        ca: decode(cluster?.['certificate-authority-data']),
        cert: decode(user?.['client-certificate-data']),
        key: decode(user?.['client-key-data']),
      },
    });
  }

  /** Brings one up, or takes the running one that `ESB_BENCH_HOME` names and leaves it running. */
  static async up(agentOptions: readonly string[]): Promise<BenchInstance> {
    const given = process.env.ESB_BENCH_HOME;
    if (given !== undefined) {
      return new BenchInstance(given, async () => undefined);
    }
    const folder = await mkdtemp('/tmp/esb-bench-');
    const home = join(folder, 'home');
    const esb = (...args: string[]): Promise<unknown> =>
      run(process.execPath, [join(repository, 'local/main.ts'), ...args], {
        env: { ESB_HOME: home },
        timeoutMs: 1_800_000,
      });
    const down = async (): Promise<void> => {
      await esb('down');
      await rm(folder, { recursive: true, force: true });
    };
    try {
      await esb('up', '--no-sample', ...agentOptions.map((option) => `--agent-option=${option}`));
      return new BenchInstance(home, down);
    } catch (error) {
      await down();
      throw error;
    }
  }

  async down(): Promise<void> {
    await this.#api.close();
    await this.#dispose();
  }

  program(name: string): string {
    return join(this.home, 'bin', name);
  }

  image(name: 'python-counter' | 'nodejs-counter'): string {
    return `${this.registry}/${name}:latest`;
  }

  get containerdSocket(): string {
    return join(this.home, 'nodes', 'node-1', 'containerd.sock');
  }

  functionUrl(name: string): string {
    return `${this.gateway}/2015-03-31/functions/${name}/invocations`;
  }

  streamUrl(name: string): string {
    return `${this.gateway}/2021-11-15/functions/${name}/response-streaming-invocations`;
  }

  /** Body that `kubectl apply --server-side` sends. */
  async apply(name: string, spec: object): Promise<void> {
    await this.#apply(workersPath, 'LambdaWorker', name, this.#workerSpec(spec));
  }

  /** Applies a LambdaFunction of the mode Auto, whose workers have `spec`. */
  async applyFunction(name: string, scaling: object, spec: object): Promise<void> {
    await this.#apply(functionsPath, 'LambdaFunction', name, {
      scaling: { mode: 'Auto', minWorkers: 0, ...scaling },
      template: { spec: this.#workerSpec(spec) },
    });
  }

  async workersOf(functionName: string): Promise<readonly WorkerSeen[]> {
    const list = await this.#request('GET', `${workersPath}?labelSelector=esb.dev/lambda-function%3D${functionName}`);
    return (list as { readonly items: readonly WorkerSeen[] }).items;
  }

  async deleteFunction(name: string): Promise<void> {
    await this.#request('DELETE', `${functionsPath}/${name}`);
    const isGone = async (): Promise<boolean> => (await this.workersOf(name)).length === 0;
    await waitFor(`workers of ${name} to be gone`, isGone, soon);
  }

  async worker(name: string): Promise<WorkerSeen | undefined> {
    return (await this.#request('GET', `${workersPath}/${name}`)) as WorkerSeen | undefined;
  }

  async waitForPhase(name: string, phase: string, patience = soon): Promise<WorkerSeen> {
    return waitFor(
      `worker ${name} to be ${phase}`,
      async () => {
        const worker = await this.worker(name);
        return worker?.status?.phase === phase ? worker : undefined;
      },
      patience,
    );
  }

  async delete(name: string, patience = soon): Promise<void> {
    await this.#request('DELETE', `${workersPath}/${name}`);
    await waitFor(`worker ${name} to be gone`, async () => (await this.worker(name)) === undefined, patience);
  }

  /** A raw watch from now on; resolves with the first worker that `accept` takes. */
  async watch(accept: (worker: WorkerSeen) => boolean, started: () => void): Promise<WorkerSeen> {
    const stop = new AbortController();
    const answer = await this.#api.request({
      method: 'GET',
      path: `${workersPath}?watch=1&timeoutSeconds=120`,
      signal: stop.signal,
    });
    answer.body.on('error', () => undefined);
    started();
    let text = '';
    for await (const chunk of answer.body) {
      text += String(chunk);
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        const worker = (JSON.parse(line) as { object: WorkerSeen }).object;
        if (accept(worker)) {
          stop.abort();
          return worker;
        }
      }
    }
    throw new Error('the watch ended before what it waited for');
  }

  #workerSpec(spec: object): object {
    // By default a tag `latest` is asked for at its registry at every start, which the bare sequence does not do either.
    return { image: this.image('python-counter'), imagePullPolicy: 'IfNotPresent', ...spec };
  }

  async #apply(path: string, kind: string, name: string, spec: object): Promise<void> {
    await this.#request('PATCH', `${path}/${name}?fieldManager=bench&force=true`, {
      apiVersion: 'esb.dev/v1alpha1',
      kind,
      metadata: { name, namespace: 'default' },
      spec,
    });
  }

  async #request(method: 'GET' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<unknown> {
    const answer = await this.#api.request({
      method,
      path,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/apply-patch+yaml' } }),
    });
    const text = await answer.body.text();
    if (answer.statusCode === 404) {
      return undefined;
    }
    if (answer.statusCode >= 300) {
      throw new Error(`${method} ${path} answered ${answer.statusCode}: ${text.slice(0, 500)}`);
    }
    return JSON.parse(text);
  }
}
