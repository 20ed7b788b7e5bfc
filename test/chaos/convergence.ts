import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { run } from '../support/command.ts';
import type { CallBook } from './call-book.ts';
import { type ChaosInstance, nodes } from './chaos-instance.ts';
import { restingPhase, type Wishes } from './wishes.ts';

interface Task {
  readonly node: string;
  readonly container: string;
  readonly state: string;
}

/** Whether nothing differs within `timeoutMs` milliseconds; gives what still does. */
export async function untilNothingDiffers(
  timeoutMs: number,
  differences: () => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    let left: readonly string[];
    try {
      left = await differences();
    } catch (error) {
      left = [`it cannot be told: ${String(error)}`];
    }
    if (left.length === 0 || performance.now() > end) {
      return left;
    }
    await delay(1_000);
  }
}

/** Where workers are not as they are wanted, by their resources and by containerd itself. */
export async function differencesFromWishes(instance: ChaosInstance, wishes: Wishes): Promise<readonly string[]> {
  const workers = new Map((await wishes.list()).map((worker) => [worker.metadata.name, worker]));
  const wrong: string[] = [];
  const tasks = new Map((await tasksOf(instance)).map((task) => [`${task.node}/${task.container}`, task]));
  for (const [name, worker] of workers) {
    if (!wishes.wanted.has(name)) {
      wrong.push(`${name} is not gone: ${statusText(worker)}`);
    }
  }
  for (const [name, wish] of wishes.wanted) {
    const worker = workers.get(name);
    if (worker === undefined) {
      wrong.push(`${name} is not there`);
      continue;
    }
    const phase = restingPhase(wish);
    const { status, metadata } = worker;
    if (status?.phase !== phase || status.observedGeneration !== metadata.generation) {
      wrong.push(`${name} is to be ${phase}: ${statusText(worker)}`);
    }
    const container = `${status?.assignment?.nodeName}/${status?.containerID}`;
    const task = tasks.get(container);
    tasks.delete(container);
    const state = { Running: 'RUNNING', Paused: 'PAUSED' }[phase as string];
    if (task?.state !== state) {
      wrong.push(`the task of ${name} is to be ${state ?? 'gone'} and is ${task?.state ?? 'gone'}`);
    }
  }
  for (const task of tasks.values()) {
    wrong.push(`a task that no worker has: ${JSON.stringify(task)}`);
  }
  return wrong;
}

/**
 * Calls every worker that takes calls; gives what did not answer. A process that was killed while frozen dies only once
 * it is thawed (cgroup v1), which the call that wakes it cannot know: such a worker is called once more.
 */
export async function callEveryWorker(
  book: CallBook,
  wishes: Wishes,
  killed: ReadonlySet<string>,
): Promise<readonly string[]> {
  const wrong: string[] = [];
  await Promise.all(
    [...wishes.wanted].map(async ([name, wish], index) => {
      const takesCalls = wish.wakePolicy === 'OnInvoke' || restingPhase(wish) === 'Running';
      const gateway = (index % 2) + 1;
      await book.untilKnown(name, gateway);
      const first = await book.call(0, name, gateway, {});
      const { end } = first.end.kind === 'unknown' && killed.has(name) ? await book.call(0, name, gateway, {}) : first;
      const right = takesCalls ? end.kind === 'answered' : end.kind === 'refused' && end.status === 409;
      if (!right) {
        wrong.push(`${name} after all: ${JSON.stringify(end)}`);
      }
    }),
  );
  return wrong;
}

function statusText({ metadata, status }: LambdaWorker): string {
  const conditions = (status?.conditions ?? [])
    .map(({ type, status: is, reason, message }) => `${type}=${is} ${reason} ${message}`)
    .join('; ');
  return `${status?.phase} on ${status?.assignment?.nodeName} (generation ${metadata.generation}, observed ${status?.observedGeneration}, container ${status?.containerID}) ${conditions}`.slice(
    0,
    700,
  );
}

/** Tasks of containerd on each node. */
export async function tasksOf(instance: ChaosInstance): Promise<readonly Task[]> {
  const found: Task[] = [];
  for (const node of nodes) {
    const { stdout } = await run(join(instance.home.bin, 'ctr'), [
      '--address',
      instance.home.node(node).containerdSocket,
      '--namespace',
      'esb',
      'tasks',
      'ls',
    ]);
    for (const line of stdout.split('\n').slice(1)) {
      const [container, , state] = line.trim().split(/\s+/);
      if (container !== undefined && state !== undefined) {
        found.push({ node, container, state });
      }
    }
  }
  return found;
}
