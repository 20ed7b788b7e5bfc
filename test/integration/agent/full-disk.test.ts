import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findCondition } from '../../../src/api/condition.ts';
import type { LambdaNode } from '../../../src/api/lambda-node.ts';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { run } from '../../support/command.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Milliseconds between two looks of the agent at its disk. */
const lookMs = 5_000;

interface Answer {
  readonly boot: string;
}

describe('a full disk cuts workers off from their logs, and when there is room again', () => {
  let lab: AgentLab;
  let logs: string;
  const boots = new Map<string, string>();

  const diskIs =
    (status: string) =>
    (node: LambdaNode): boolean =>
      findCondition(node.status?.conditions, 'DiskReady')?.status === status;
  const call = async (worker: LambdaWorker, text: string): Promise<Answer> => {
    const answer = await lab.invoke(worker, { payload: { print: text } });
    expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    return JSON.parse(answer.body) as Answer;
  };
  const made = async (): Promise<number> =>
    Number(/^esb_agent_output_lost_total (\d+)$/m.exec(await lab.health('/metrics'))?.[1] ?? 0);

  beforeAll(async () => {
    lab = await startAgentLab();
    logs = join(lab.stateDir, 'logs');
    await mkdir(logs, { recursive: true });
    // Taken away with the lab, as all mounts below its folder are.
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', logs]);
    await lab.startAgent();
    await lab.untilServing();
    await lab.apply('silent');
    await lab.apply('awake');
    await lab.apply('asleep', { desiredState: 'Paused' });
    for (const [name, phase] of [
      ['silent', 'Running'],
      ['awake', 'Running'],
      ['asleep', 'Paused'],
    ] as const) {
      boots.set(name, (await call(await lab.waitForPhase(name, phase), 'before')).boot);
    }
    // The disk counts as full since the look before the one that finds it full.
    await delay(lookMs + 1_000);
    const filler = join(logs, 'filler');
    await writeFile(filler, Buffer.alloc(8 * 1024 * 1024)).catch(() => undefined);
    for (const name of ['awake', 'asleep']) {
      await call(await lab.worker(name), 'x'.repeat(6_000));
    }
    await lab.waitForNode('to find the disk full', diskIs('False'));
    expect(await made()).toBe(0);
    await rm(filler);
    await lab.waitForNode('to find room again', diskIs('True'));
  }, 180_000);
  afterAll(() => lab?.close());

  it('they are made anew while they are idle: every later call is answered, and its output kept', async () => {
    await waitFor('both to be made anew', async () => (await made()) === 2, { timeoutMs: 30_000 });
    for (const [name, phase] of [
      ['awake', 'Running'],
      ['asleep', 'Paused'],
    ] as const) {
      const worker = await lab.waitForPhase(name, phase);
      for (let each = 0; each < 12; each += 1) {
        const { boot } = await call(worker, `${each} ${'y'.repeat(8_000)}`);
        expect(boot).not.toBe(boots.get(name));
      }
      const log = join(logs, `${worker.status?.containerID}.log`);
      await waitFor('the output', async () => (await readFile(log, 'utf8')).includes('11 yyyy'));
    }
  });

  it('those that wrote nothing meanwhile go on', async () => {
    const worker = await lab.worker('silent');
    expect((await call(worker, 'after')).boot).toBe(boots.get('silent'));
    expect(await made()).toBe(2);
  });
});
