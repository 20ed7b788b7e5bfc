import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Seconds for which containerd stands still. 60 says that nothing is given up in that time either. */
const hungSeconds = Number(process.env.ESB_TEST_HUNG_SECONDS ?? 15);
const withinMs = 120_000;
const names = Array.from({ length: 10 }, (_, index) => `w${index}`);

interface Task {
  readonly pid: number;
  readonly shim: number;
}

describe('a shim that hangs', () => {
  let lab: AgentLab;
  const workers = new Map<string, LambdaWorker>();

  const workerOf = (name: string): LambdaWorker => {
    const worker = workers.get(name);
    if (worker === undefined) {
      throw new Error(`there is no ${name}`);
    }
    return worker;
  };
  /** The tasks of a worker, told by the name of their containers. */
  const tasksOf = async (name: string): Promise<readonly string[]> =>
    (await lab.lab.ctr('tasks', 'list')).split('\n').filter((line) => line.startsWith(`${name}-`));
  const taskOf = async (name: string): Promise<Task> => {
    const [task] = await tasksOf(name);
    const pid = Number(task?.trim().split(/\s+/)[1]);
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return { pid, shim: Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) };
  };
  const call = async (name: string): Promise<number> => {
    const answer = await lab.invoke(workerOf(name));
    expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    return (JSON.parse(answer.body) as { readonly counter: number }).counter;
  };
  const isAlive = (pid: number): boolean => {
    try {
      return !/^\S+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    } catch {
      return false;
    }
  };
  /** Calls the other nine until `done`: none is refused, and none gets a new container. */
  const nineServeUntil = async (stuck: string, done: () => Promise<boolean> | boolean): Promise<void> => {
    const others = names.filter((name) => name !== stuck && workers.has(name));
    const counters = new Map<string, number>();
    const end = performance.now() + withinMs;
    do {
      for (const name of others) {
        const counter = await call(name);
        expect(counter).toBe((counters.get(name) ?? counter - 1) + 1);
        counters.set(name, counter);
      }
      expect(performance.now()).toBeLessThan(end);
      // The pace of the calls.
      await delay(500);
    } while (!(await done()));
  };

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
    await lab.untilServing();
    await Promise.all(names.map((name) => lab.apply(name)));
    for (const name of names) {
      workers.set(name, await lab.waitForPhase(name, 'Running'));
    }
  });
  afterAll(() => lab?.close());

  it('costs nobody a call when the agent is started again, and its own worker is made anew', async () => {
    const { pid, shim } = await taskOf('w9');
    await lab.killAgent();
    process.kill(shim, 'SIGSTOP');
    await lab.startAgent();
    await lab.untilServing();
    expect(await call('w9'), 'by what the kernel says').toBeGreaterThan(0);
    await nineServeUntil('w9', async () => !isAlive(pid) && (await tasksOf('w9')).length === 1);
    expect(isAlive(shim)).toBe(false);
    await lab.waitForPhase('w9', 'Running');
    expect(await call('w9')).toBe(1);
  });

  it('does not keep a worker that is deleted', async () => {
    const { pid, shim } = await taskOf('w8');
    process.kill(shim, 'SIGSTOP');
    workers.delete('w8');
    const removed = lab.remove('w8');
    await nineServeUntil('w8', () => !isAlive(pid));
    await removed;
    expect(await tasksOf('w8')).toEqual([]);
  });

  it('does not keep a worker that is reshaped', async () => {
    const { pid, shim } = await taskOf('w7');
    process.kill(shim, 'SIGSTOP');
    await lab.patch('w7', { spec: { env: [{ name: 'SHAPE', value: 'another' }] } });
    await nineServeUntil('w7', () => !isAlive(pid));
    expect(await call('w7')).toBeGreaterThan(0);
    await waitFor('one container', async () => (await tasksOf('w7')).length === 1, { timeoutMs: withinMs });
  });

  it('does not keep a worker that is assigned elsewhere', async () => {
    const { pid, shim } = await taskOf('w6');
    process.kill(shim, 'SIGSTOP');
    workers.delete('w6');
    await lab.patch('w6', { status: { assignment: { nodeName: 'node-2', epoch: 2 } } }, 'status');
    await nineServeUntil('w6', () => !isAlive(pid));
    await waitFor('no container', async () => (await tasksOf('w6')).length === 0, { timeoutMs: withinMs });
  });
});

describe(`a containerd that stands still for ${hungSeconds} s`, () => {
  let lab: AgentLab;
  const many = Array.from({ length: 20 }, (_, index) => `idle${index}`);
  let workers: readonly LambdaWorker[];

  const callAll = async (): Promise<readonly number[]> =>
    await Promise.all(
      workers.map(async (worker) => {
        const answer = await lab.invoke(worker);
        expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
        return (JSON.parse(answer.body) as { readonly counter: number }).counter;
      }),
    );

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
    await lab.untilServing();
    for (const name of many) {
      await lab.apply(name, { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 4 } });
    }
    workers = await Promise.all(many.map((name) => lab.waitForPhase(name, 'Paused')));
  }, 240_000);
  afterAll(async () => {
    lab?.lab.containerd.signal('SIGCONT');
    await lab?.close();
  });

  it('costs no running worker a call, and nothing is destroyed', async () => {
    const containers = (await lab.lab.ctr('containers', 'list', '-q')).split('\n').toSorted();
    let counters = await callAll();
    lab.lab.containerd.signal('SIGSTOP');
    const end = performance.now() + hungSeconds * 1_000;
    while (performance.now() < end) {
      // Each of them has gone idle by then, and is to be paused.
      await delay(Math.min(6_000, Math.max(0, end - performance.now())));
      const next = await callAll();
      expect(next).toEqual(counters.map((counter) => counter + 1));
      counters = next;
    }
    lab.lab.containerd.signal('SIGCONT');
    await Promise.all(many.map((name) => lab.waitForPhase(name, 'Paused')));
    expect((await lab.lab.ctr('containers', 'list', '-q')).split('\n').toSorted()).toEqual(containers);
    expect(await callAll()).toEqual(counters.map((counter) => counter + 1));
  });
});
