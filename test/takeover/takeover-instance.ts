import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { homeAt } from '../../local/common/home.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { readInstanceState } from '../../local/instance/instance-state.ts';
import { probeHealth } from '../../local/supervisor/health-probe.ts';
import { createSupervisorClient } from '../../local/supervisor/supervisor-client.ts';
import type { ShapeImage } from '../images/shape-image.ts';
import { run } from '../support/command.ts';
import { stateOfTask } from '../support/freezer.ts';
import { waitFor } from '../support/wait-for.ts';
import { manifestList } from '../support/worker-manifests.ts';
import type { LoadedWorker } from './load.ts';
import { type NotedRun, runsIn } from './verdict.ts';

const AGENT = 'agent-node-1';
/** Seconds that a call may take. */
export const TIMEOUT_SECONDS = 60;

/** An instance whose workers are put under load, all of them on one node. */
export interface TakeoverInstance extends AsyncDisposable {
  readonly lambda: LambdaClient;
  /** Makes these workers, and waits until each can be called. */
  makeWorkers(workers: readonly LoadedWorker[], images: ReadonlyMap<string, string>): Promise<void>;
  removeWorkers(workers: readonly LoadedWorker[]): Promise<void>;
  /** Puts an image into the registry of the instance, and returns its name. */
  push(name: string, image: ShapeImage): Promise<string>;
  /** SIGKILL of the agent; the next one is started at once. */
  killAgent(): Promise<void>;
  untilAgentServes(): Promise<void>;
  /** Number of workers that are paused now. */
  pausedWorkers(): Promise<number>;
  /** Calls that the functions noted. */
  runs(workers: readonly LoadedWorker[]): Promise<readonly NotedRun[]>;
}

/** Takes an instance down. */
export async function takeDown(root: string): Promise<void> {
  await esb(root, 'down');
}

/**
 * Brings an instance up, of one node and one gateway. Its agents start from compiled code, as long as
 * NODE_COMPILE_CACHE names a folder: half of a start is the reading of the sources.
 */
export async function bringUp(root: string): Promise<void> {
  const agent = join(repositoryRoot(), 'src/agent/main.ts');
  // A process that is killed leaves no compiled code.
  await run(process.execPath, ['--disable-warning=ExperimentalWarning', '-e', `import(${JSON.stringify(agent)})`]);
  await esb(root, 'up', '--nodes', '1', '--gateways', '1', '--controllers', '1', '--no-sample');
}

/** The running instance of a home. */
export async function openTakeoverInstance(root: string): Promise<TakeoverInstance> {
  const home = homeAt(root);
  const { ports = {} } = (await readInstanceState(home.stateFile)) ?? {};
  const supervisor = createSupervisorClient(home.supervisorSocket);
  const lambda = new LambdaClient({
    endpoint: `http://127.0.0.1:${ports['gateway-1']}`,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    // Retries would hide what happened.
    maxAttempts: 1,
  });
  const kubectl = (args: readonly string[], input?: string) =>
    run(join(home.root, 'bin/kubectl'), args, {
      env: { KUBECONFIG: home.kubeconfig },
      timeoutMs: 180_000,
      ...(input === undefined ? {} : { input }),
    });
  const health = { kind: 'http', url: `http://127.0.0.1:${ports[`${AGENT}-health`]}/readyz` } as const;
  const untilAgentServes = async (): Promise<void> => {
    await waitFor('a healthy agent', async () => (await probeHealth(health, 2_000)) === 'healthy', {
      timeoutMs: 60_000,
      everyMs: 20,
    });
  };
  const tasks = async (): Promise<readonly (readonly string[])[]> => {
    const { stdout } = await run(join(home.root, 'bin/ctr'), [
      ...['--address', join(home.root, 'nodes/node-1/containerd.sock')],
      ...['--namespace', 'esb', 'tasks', 'ls'],
    ]);
    return stdout.split('\n').map((line) => line.split(/\s+/));
  };
  return {
    lambda,
    untilAgentServes,
    async makeWorkers(workers, images) {
      const items = workers.map((worker) => resourceOf(worker, images.get(worker.name) ?? ''));
      await kubectl(['apply', '-f', '-'], manifestList(items));
      const names = workers.map(({ name }) => `lw/${name}`);
      await kubectl(['wait', ...names, '--for=condition=Ready', '--timeout=170s']);
      // The gateway hears of them a moment later.
      await setTimeout(2_000);
    },
    async push(name, { layout }) {
      const image = `127.0.0.1:${ports.registry}/takeover/${name}:1`;
      await run(join(home.root, 'bin/crane'), ['push', '--insecure', layout, image]);
      return image;
    },
    async killAgent() {
      // By hand: the supervisor itself waits ever longer with a part that ends often.
      await supervisor.stopPart(AGENT, { with: 'SIGKILL' });
      await supervisor.startPart(AGENT);
    },
    async pausedWorkers() {
      const states = await Promise.all((await tasks()).map(([, pid, told = '']) => stateOfTask(told, Number(pid))));
      return states.filter((state) => state === 'PAUSED').length;
    },
    async runs(workers) {
      const { stdout } = await kubectl(['get', 'lw', '-o', 'json']);
      const { items } = JSON.parse(stdout) as { readonly items: readonly StoredWorker[] };
      const running = await tasks();
      const noted = workers.map(async ({ name }) => {
        const id = items.find(({ metadata }) => metadata.name === name)?.status.containerID ?? '';
        const [, pid] = running.find(([task]) => task === id) ?? [];
        return runsIn(name, await readFile(`/proc/${pid}/root/tmp/ran`, 'utf8').catch(() => ''));
      });
      return (await Promise.all(noted)).flat();
    },
    async removeWorkers(workers) {
      await kubectl(['delete', ...workers.map(({ name }) => `lw/${name}`), '--ignore-not-found', '--timeout=170s']);
    },
    async [Symbol.asyncDispose]() {
      lambda.destroy();
    },
  };
}

interface StoredWorker {
  readonly metadata: { readonly name: string };
  readonly status: { readonly containerID?: string };
}

function esb(root: string, ...args: readonly string[]): Promise<unknown> {
  return run(process.execPath, [join(repositoryRoot(), 'local/main.ts'), ...args], {
    env: { ESB_HOME: root },
    timeoutMs: 300_000,
  });
}

function resourceOf({ isPausing, name, places }: LoadedWorker, image: string): object {
  return {
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaWorker',
    metadata: { name },
    spec: {
      image,
      nodeName: 'node-1',
      runtimeInterface: 'Lambda',
      timeoutSeconds: TIMEOUT_SECONDS,
      resources: { limits: { memory: '256Mi' } },
      ...(places > 1 ? { concurrency: { perWorker: places } } : {}),
      ...(isPausing ? { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } } : {}),
    },
  };
}
