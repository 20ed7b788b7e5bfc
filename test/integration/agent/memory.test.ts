import { spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { testImage } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Workers that fill the node. With 40 of 200 MiB on a node with 8 GiB it takes as much memory of this machine. */
const workers = Number(process.env.ESB_MEMORY_WORKERS ?? 8);
/** Memory of a worker, half of it in `/tmp`, MiB. */
const takenMiB = Number(process.env.ESB_MEMORY_EACH_MIB ?? 100);
const promisedMiB = Number(process.env.ESB_MEMORY_PROMISED_MIB ?? 800);
/** Memory limit of the agent's container in a cluster, MiB (`agent.resources.limits.memory`). */
const agentLimitMiB = 1_024;
/** Memory of the program of the worker itself, and some room, MiB. */
const ownMiB = 24;
const tmpMiB = takenMiB / 2;
const memoryMiB = takenMiB - tmpMiB;
const mebibyte = 2 ** 20;

let lab: AgentLab;
const names = Array.from({ length: workers }, (_, index) => `worker-${index}`);
const spec = {
  resources: { limits: { memory: `${memoryMiB}Mi` }, pids: 64 },
  ephemeralStorage: `${tmpMiB}Mi`,
  timeoutSeconds: 300,
};

beforeAll(async () => {
  await testImage();
  lab = await startAgentLab();
  await lab.startAgent(['--memory', String(promisedMiB), '--tmp', 'memory']);
  await lab.untilServing();
  for (const name of names) {
    await lab.apply(name, spec);
  }
  await Promise.all(names.map((name) => lab.waitForPhase(name, 'Running')));
});
afterAll(async () => {
  await lab?.close();
});

/** A value of the control group of all workers, of version 1 or 2. */
async function ofAll(version1: string, version2: string): Promise<number> {
  const { cgroupParent } = lab.lab;
  const read = (...path: readonly string[]): Promise<string> => readFile(join('/sys/fs/cgroup', ...path), 'utf8');
  const text = await read('memory', cgroupParent, version1).catch(() => read(cgroupParent, version2));
  return Number(text);
}

async function attempt(name: string, ...lines: readonly string[]): Promise<Record<string, string>> {
  const answer = await lab.invoke(await lab.worker(name), { payload: { try: lines }, deadlineMs: 300_000 });
  expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
  return (JSON.parse(answer.body) as { tried: Record<string, string> }).tried;
}

/** A program of the node that the kernel ends before all others when memory is short. */
async function bystander(): Promise<() => boolean> {
  const child = spawn('sleep', ['3600'], { stdio: 'ignore' });
  let ended = false;
  child.once('exit', () => {
    ended = true;
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  await writeFile(`/proc/${child.pid}/oom_score_adj`, '1000');
  return () => ended;
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}

describe('a node that has promised all of its memory', () => {
  it('says so, and refuses the one worker too many', async () => {
    const { status } = await lab.waitForNode(
      'its workers to be counted',
      (node) => node.status?.allocated?.workers === workers,
    );
    expect(status).toMatchObject({
      capacity: { memoryMiB: promisedMiB },
      allocated: { memoryMiB: workers * takenMiB, workers },
    });
    await lab.apply('too-many', spec);
    const refused = await lab.waitForWorker('too-many', 'to be refused', (worker) =>
      (worker.status?.conditions ?? []).some(({ reason }) => reason === 'NodeFull'),
    );
    expect(refused.status?.containerID).toBeUndefined();
    expect(await lab.invoke(refused)).toMatchObject({ outcome: 'OUTCOME_REFUSED', reason: 'NodeFull' });
    await lab.remove('too-many');
  });

  it('holds its workers together to what it has promised', async () => {
    expect(await ofAll('memory.limit_in_bytes', 'memory.max')).toBe(promisedMiB * mebibyte);
  });

  it('promises more or less from the next moment on as its owner wishes', async () => {
    const wish = (capacity: object | null): Promise<string> =>
      lab.api.kubectl([
        ...['patch', 'lambdanode', lab.nodeName, '--type=merge', '-p'],
        JSON.stringify({ spec: { capacity } }),
      ]);
    await lab.apply('one-more', spec);
    await lab.waitForWorker('one-more', 'to be refused', (worker) =>
      (worker.status?.conditions ?? []).some(({ reason }) => reason === 'NodeFull'),
    );
    await wish({ memoryMiB: promisedMiB + takenMiB });
    await lab.waitForPhase('one-more', 'Running');
    await lab.waitForNode('to promise more', ({ status }) => status?.capacity?.memoryMiB === promisedMiB + takenMiB);
    await waitFor(
      'the common limit to follow',
      async () => (await ofAll('memory.limit_in_bytes', 'memory.max')) === (promisedMiB + takenMiB) * mebibyte,
    );
    await wish(null);
    await lab.waitForNode('to promise less', ({ status }) => status?.capacity?.memoryMiB === promisedMiB);
    expect((await lab.worker('one-more')).status?.phase).toBe('Running');
    await lab.remove('one-more');
  });

  it('hurts nobody else while all of them fill memory and /tmp at once', async () => {
    const hasEnded = await bystander();
    const { pid } = lab.agent;
    const lines = [`fill /tmp/full ${tmpMiB}`, `keep ${memoryMiB - ownMiB}`];
    const tried = await Promise.all(names.map((name) => attempt(name, ...lines)));
    expect(tried).toEqual(names.map(() => ({ [lines[0] ?? '']: 'ok', [lines[1] ?? '']: 'ok' })));
    const used = await ofAll('memory.usage_in_bytes', 'memory.current');
    expect(used).toBeGreaterThan(workers * (takenMiB - ownMiB) * mebibyte);
    expect(used).toBeLessThanOrEqual(promisedMiB * mebibyte);
    for (const name of names) {
      expect((await lab.worker(name)).status?.restartCount ?? 0).toBe(0);
    }
    expect(hasEnded()).toBe(false);
    expect(lab.agent).toMatchObject({ pid });
    expect(lab.agent.ended()).toBe(false);
    expect(await residentMiB(pid)).toBeLessThan(agentLimitMiB);
    console.info(
      `${workers} workers of ${takenMiB} MiB hold ${Math.round(used / mebibyte)} of ${promisedMiB} MiB; the agent had ${Math.round(await residentMiB(pid))} MiB at most`,
    );
  });

  it('hurts nobody else while all of them ask for more than they may have', async () => {
    const hasEnded = await bystander();
    const payload = { try: [`keep ${10 * takenMiB}`] };
    const answers = await Promise.all(
      names.map(async (name) => lab.invoke(await lab.worker(name), { payload, deadlineMs: 300_000 })),
    );
    expect(answers.map(({ outcome }) => outcome)).toEqual(names.map(() => 'FUNCTION_OUTCOME_EXITED'));
    const most = await ofAll('memory.max_usage_in_bytes', 'memory.peak');
    expect(most).toBeLessThanOrEqual(promisedMiB * mebibyte);
    expect(hasEnded()).toBe(false);
    expect(lab.agent.ended()).toBe(false);
    expect(await residentMiB(lab.agent.pid)).toBeLessThan(agentLimitMiB);
    // Files in /tmp are there yet, since the runtimes alone were ended.
    const lines = ['remove /tmp/full', 'create /tmp/fine'];
    const after = await Promise.all(names.map((name) => attempt(name, ...lines)));
    const restarts = await Promise.all(names.map(async (name) => (await lab.worker(name)).status?.restartCount ?? 0));
    expect({ after, restarts }).toEqual({
      after: names.map(() => ({ 'remove /tmp/full': 'ok', 'create /tmp/fine': 'ok' })),
      restarts: names.map(() => 0),
    });
  });
});
