import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  GetFunctionConfigurationCommand,
  InvokeCommand,
  type InvokeCommandInput,
  LambdaClient,
} from '@aws-sdk/client-lambda';
import { afterAll, inject, onTestFinished } from 'vitest';
import type { SampleImageName } from '../../../local/image/sample-image.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type CommandOptions, type CommandResult, run } from '../../support/command.ts';
import { runElsewhere } from '../../support/command-service.ts';
import { stateOfTask } from '../../support/freezer.ts';
import { readInstanceEnvironment } from '../../support/instance-environment.ts';
import { patience } from '../../support/patience.ts';
import { waitFor } from '../../support/wait-for.ts';

/**
 * Seconds that a call may take, for a function that is to have `seconds` on a machine as fast as usual. The default and
 * the most are those of Lambda.
 */
export function functionTimeout(seconds = 3): number {
  return Math.min(seconds * patience(), 900);
}

/** Fields of a worker that a test sets; the others have their defaults. */
export interface WorkerSpec {
  readonly timeoutSeconds?: number;
  readonly [field: string]: unknown;
}

/** Result of an invocation by the AWS SDK. */
export interface SdkAnswer<T> {
  readonly status: number;
  readonly functionError: string | undefined;
  readonly payload: T;
  readonly requestId: string | undefined;
  readonly logTail: string | undefined;
}

/** Answer of the sample function. */
export interface CounterAnswer {
  readonly message: string;
  readonly counter: number;
  readonly overlaps: number;
  /** Begin and end of the call in seconds, where its event asks for them. */
  readonly times?: readonly [number, number];
  readonly bootId: string;
  readonly requestId: string;
  readonly echo?: unknown;
  readonly errorMessage?: string;
  readonly errorType?: string;
  readonly clientContext?: unknown;
}

/** The running instance, as its users have it: kubectl, ctr, the AWS SDK. */
export class Instance {
  readonly home: string;
  readonly registry: string;
  readonly gateway: string;
  readonly #kubeconfig: string;
  /** For what is looked at several times a second: no program each time. */
  readonly #client: KubeClient;

  constructor(home: string) {
    const values = readInstanceEnvironment(home);
    this.home = home;
    this.registry = values.ESB_REGISTRY ?? '';
    this.gateway = values.ESB_GATEWAY ?? '';
    this.#kubeconfig = values.KUBECONFIG ?? '';
    this.#client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: this.#kubeconfig }) });
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  /** The image of one of the samples in the instance's registry. */
  image(name: SampleImageName): string {
    return `${this.registry}/${name}:latest`;
  }

  program(name: string): string {
    return join(this.home, 'bin', name);
  }

  kubectl(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return this.#run('kubectl', args, {
      ...options,
      env: { ...options.env, KUBECONFIG: this.#kubeconfig },
    });
  }

  ctr(args: readonly string[], node = 'node-1', options: CommandOptions = {}): Promise<CommandResult> {
    const socket = join(this.home, 'nodes', node, 'containerd.sock');
    return this.#run('ctr', ['--address', socket, '--namespace', 'esb', ...args], options);
  }

  /** Runs a client of the instance; where `ESB_E2E_COMMANDS` names a service, there. */
  #run(name: string, args: readonly string[], options: CommandOptions): Promise<CommandResult> {
    const service = process.env.ESB_E2E_COMMANDS;
    const program = this.program(name);
    return service === undefined ? run(program, args, options) : runElsewhere(service, program, args, options);
  }

  /** Applies a worker with the sample image; it is deleted when the test is over. */
  async apply(name: string, spec: WorkerSpec = {}, namespace = 'default'): Promise<void> {
    const worker = {
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaWorker',
      metadata: { name, namespace },
      spec: {
        image: this.image('python-counter'),
        ...spec,
        timeoutSeconds: functionTimeout(spec.timeoutSeconds),
      },
    };
    onTestFinished(() => this.delete(name, { mayFail: true }, namespace), 120_000 * patience());
    await this.kubectl(['apply', '-f', '-'], { input: JSON.stringify(worker) });
  }

  async patch(name: string, spec: WorkerSpec): Promise<void> {
    await this.kubectl(['patch', 'lw', name, '--type=merge', '-p', JSON.stringify({ spec })]);
  }

  async delete(name: string, options: CommandOptions = {}, namespace = 'default'): Promise<void> {
    await this.kubectl(
      ['delete', 'lw', name, '-n', namespace, '--ignore-not-found', `--timeout=${90 * patience()}s`],
      options,
    );
  }

  async worker(name: string): Promise<LambdaWorker> {
    const found = await this.#client.get(lambdaWorkers, { namespace: 'default', name });
    if (found === undefined) {
      throw new Error(`there is no worker ${name}`);
    }
    return found;
  }

  /** Waits until `accept` holds of the worker, and returns it. */
  waitForWorker(
    name: string,
    what: string,
    accept: (worker: LambdaWorker) => boolean,
    timeoutMs = 60_000,
  ): Promise<LambdaWorker> {
    return waitFor(
      `worker ${name} to be ${what}`,
      async () => {
        const worker = await this.worker(name);
        return accept(worker) ? worker : undefined;
      },
      { timeoutMs, everyMs: 200 },
    );
  }

  waitForPhase(name: string, phase: string, timeoutMs?: number): Promise<LambdaWorker> {
    return this.waitForWorker(name, phase, (worker) => worker.status?.phase === phase, timeoutMs);
  }

  /**
   * Waits until the worker is paused: by its resource, which may tell of the time before the last call for a moment,
   * and by the kernel.
   */
  waitUntilPaused(name: string): Promise<LambdaWorker> {
    return waitFor(
      `worker ${name} to be frozen`,
      async () => {
        const worker = await this.worker(name);
        const { phase, containerID, assignment } = worker.status ?? {};
        return phase === 'Paused' && (await this.taskState(containerID ?? '', assignment?.nodeName)) === 'PAUSED'
          ? worker
          : undefined;
      },
      { timeoutMs: 60_000, everyMs: 200 },
    );
  }

  /**
   * Waits until the worker is Ready and the gateway has heard of it, which takes a moment, and some seconds after an
   * outage of the API server. A dry run calls nothing.
   */
  async ready(name: string): Promise<LambdaWorker> {
    await this.kubectl(['wait', `lw/${name}`, '--for=condition=Ready', `--timeout=${60 * patience()}s`]);
    const worker = await this.worker(name);
    const url = `${this.gateway}/2015-03-31/functions/${worker.spec.functionName ?? name}/invocations`;
    await waitFor(`the gateway to know ${name}`, async () => {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { 'x-amz-invocation-type': 'DryRun' },
        signal: AbortSignal.timeout(5_000 * patience()),
      });
      return answer.status === 204;
    });
    return worker;
  }

  /** Waits until the gateway describes the newest generation of a worker, which has its function to itself. */
  async described(name: string): Promise<void> {
    const { metadata } = await this.worker(name);
    const client = this.lambda();
    await waitFor(`the gateway to describe generation ${metadata.generation} of ${name}`, async () => {
      const { RevisionId } = await client.send(new GetFunctionConfigurationCommand({ FunctionName: name }));
      return RevisionId === `${metadata.uid}-${metadata.generation}`;
    });
  }

  /** RUNNING, PAUSED, … as `ctr` and the kernel tell it together; undefined when there is no such task. */
  async taskState(containerId: string, node = 'node-1'): Promise<string | undefined> {
    const { stdout } = await this.ctr(['tasks', 'ls'], node);
    const line = stdout.split('\n').find((row) => row.split(/\s+/)[0] === containerId);
    const [, pid, told] = line?.split(/\s+/) ?? [];
    return told === undefined ? undefined : await stateOfTask(told, Number(pid));
  }

  async taskPid(containerId: string, node = 'node-1'): Promise<number> {
    const { stdout } = await this.ctr(['tasks', 'ls'], node);
    const line = stdout.split('\n').find((row) => row.split(/\s+/)[0] === containerId);
    return Number(line?.split(/\s+/)[1]);
  }

  /** An unmodified AWS SDK client. Every failure is told at once, so that retries hide nothing. */
  lambda(endpoint = this.gateway, maxAttempts = 1): LambdaClient {
    const client = new LambdaClient({
      endpoint,
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      maxAttempts,
    });
    onTestFinished(() => client.destroy());
    return client;
  }

  async invoke<T = CounterAnswer>(
    name: string,
    event: unknown = {},
    { client, signal, ...input }: Partial<InvokeCommandInput> & { client?: LambdaClient; signal?: AbortSignal } = {},
  ): Promise<SdkAnswer<T>> {
    const answer = await (client ?? this.lambda()).send(
      new InvokeCommand({ FunctionName: name, Payload: JSON.stringify(event), ...input }),
      signal === undefined ? {} : { abortSignal: signal },
    );
    // Null where there is no body, against the type.
    const text = Buffer.from(answer.Payload ?? []).toString();
    return {
      status: answer.StatusCode ?? 0,
      functionError: answer.FunctionError,
      payload: (text === '' ? undefined : JSON.parse(text)) as T,
      requestId: answer.$metadata.requestId,
      logTail: answer.LogResult === undefined ? undefined : Buffer.from(answer.LogResult, 'base64').toString(),
    };
  }

  /** Output of a worker, from the node's own file. */
  workerLog(containerId: string, node = 'node-1'): Promise<string> {
    return readFile(join(this.home, 'nodes', node, 'agent', 'logs', `${containerId}.log`), 'utf8');
  }
}

/** The instance that the set-up made. */
export function instance(): Instance {
  const made = new Instance(inject('home'));
  afterAll(() => made.close());
  return made;
}
