import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

/** All 10,000 with `ESB_PAUSE_RACES=10000`. */
const races = Number(process.env.ESB_PAUSE_RACES ?? 1_000);
/** Raced side by side: one worker alone leaves a machine with two processors half idle. */
const workers = 4;
/** A worker that is left frozen under a call answers when its time is over, or never. */
const ANSWER_WITHIN_MS = 8_000;

describe('calls that race with the pause of their worker', () => {
  let lab: AgentLab;
  let raced: readonly LambdaWorker[];

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent(['--log-level', 'info']);
    await lab.untilServing();
    const names = Array.from({ length: workers }, (_, number) => `raced-${number}`);
    await Promise.all(names.map((name) => lab.apply(name, { timeoutSeconds: 10, desiredState: 'Paused' })));
    raced = await Promise.all(names.map((name) => lab.waitForPhase(name, 'Paused')));
  });
  afterAll(() => lab?.close());

  it('are all answered, none of them by a frozen worker and none of them twice', {
    tags: ['P9', 'P11', 'P17', 'M21'],
    timeout: 60_000 + races * 200,
  }, async () => {
    const began = performance.now();
    const slow: string[] = [];
    const unanswered: string[] = [];
    const starts = new Map<string, number>();
    const refusals = new Set<string>();
    const ids: string[] = [];
    let pauses = 0;

    const pause = async (worker: LambdaWorker, afterMs: number): Promise<void> => {
      const { namespace, name, uid } = worker.metadata;
      // Faults and calls come at any moment.
      await delay(afterMs);
      try {
        await lab.unary('pause', { worker: { namespace, name, uid }, epoch: 1 });
        pauses += 1;
      } catch (error) {
        refusals.add(String(error));
      }
    };
    const race = async (worker: LambdaWorker, number: number): Promise<void> => {
      const id = `call-${worker.metadata.name}-${number}`;
      ids.push(id);
      // From five milliseconds before the call, so that it meets the freeze and what follows, to some after it began.
      const pauseAfterMs = (number % 12) - 5;
      const pausing = pause(worker, Math.max(0, pauseAfterMs));
      // Faults and calls come at any moment.
      await delay(Math.max(0, -pauseAfterMs));
      const sent = performance.now();
      const answer = await lab.invoke(worker, {
        payload: { id, sleepMs: number % 4 },
        deadlineMs: 30_000,
      });
      const took = performance.now() - sent;
      if (took > ANSWER_WITHIN_MS) {
        slow.push(`${id} after ${took} ms`);
      }
      starts.set(answer.start, (starts.get(answer.start) ?? 0) + 1);
      const given = answer.body === '' ? undefined : (JSON.parse(answer.body) as { id: string }).id;
      if (answer.outcome !== 'OUTCOME_ANSWERED' || given !== id) {
        unanswered.push(`${id}: ${JSON.stringify(answer)}`);
      }
      await pausing;
    };

    await Promise.all(
      raced.map(async (worker) => {
        for (let number = 0; number < races / workers; number += 1) {
          await race(worker, number);
        }
      }),
    );
    const seconds = (performance.now() - began) / 1_000;
    process.stdout.write(
      `${ids.length} races in ${seconds.toFixed(1)} s; ${pauses} pauses taken; calls found ${JSON.stringify(Object.fromEntries(starts))}\n`,
    );
    expect(unanswered).toEqual([]);
    expect(slow).toEqual([]);
    // A pause that a call is in the way of is refused or waits; nothing else may be wrong with it.
    expect([...refusals].filter((text) => !/FAILED_PRECONDITION|ABORTED|UNAVAILABLE/.test(text))).toEqual([]);
    // The race was one: some calls came before the freeze and some after it.
    expect(starts.get('running') ?? 0).toBeGreaterThan(0);
    expect(starts.get('paused') ?? 0).toBeGreaterThan(0);
    await expectEachOnce(ids);
  });

  /** Notes of the workers themselves: each call began once, and was not stopped in its middle. */
  async function expectEachOnce(ids: readonly string[]): Promise<void> {
    // An answer may overtake the notes of its worker, which come by its shim. Lost notes are reported below.
    await waitFor('what was written', async () => {
      const { ended } = await written();
      return ids.every((id) => ended.has(id));
    }).catch(() => undefined);
    const { began, stalled } = await written();
    expect(ids.filter((id) => began.get(id) !== 1).map((id) => `${id} ran ${began.get(id) ?? 0} times`)).toEqual([]);
    expect(stalled).toEqual([]);
  }

  async function written() {
    const folder = join(lab.stateDir, 'logs');
    const began = new Map<string, number>();
    const ended = new Set<string>();
    const stalled: string[] = [];
    for (const name of await readdir(folder, { recursive: true })) {
      const text = await readFile(join(folder, name), 'utf8').catch(() => '');
      for (const [line, what, id, stall] of text.matchAll(/\b(began|ended) (call-\S+)(?: (\d+))?/g)) {
        if (what === 'began') {
          began.set(id ?? '', (began.get(id ?? '') ?? 0) + 1);
          continue;
        }
        ended.add(id ?? '');
        if (Number(stall) > ANSWER_WITHIN_MS / 4) {
          stalled.push(line);
        }
      }
    }
    return { began, ended, stalled };
  }
});
