import { Agent } from 'node:http';
import { setTimeout as elapse } from 'node:timers/promises';
import { waitFor } from '../support/wait-for.ts';
import { compare } from './bench-result.ts';
import { quantile } from './distribution.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** Milliseconds without a call before each measured call: an idle process goes cold, paused or not. */
const QUIET_MS = 1_200;

/**
 * First byte from a paused worker minus first byte from a running one that was idle for as long, against a bare
 * `Tasks.Resume`.
 */
export const wake: Scenario = {
  name: 'wake',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true });
    await instance.apply('wake', { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    await instance.apply('idle', {});
    await instance.waitForPhase('idle', 'Running');
    await timedPost(agent, instance.functionUrl('idle'), '{}');
    const { status } = await instance.waitForPhase('wake', 'Paused');
    const containerId = status?.containerID ?? '';
    const url = instance.functionUrl('wake');
    await timedPost(agent, url, '{}');
    const container = await bare.create();
    const ours: number[] = [];
    const afterHot: number[] = [];
    const baseline: number[] = [];
    /** Work right before both kinds of call: the wait for the freeze, and a bare pause and resume. */
    const settle = async (): Promise<void> => {
      await elapse(QUIET_MS);
      await waitFor('the worker to be frozen', async () => (await bare.workerTask(containerId)) === 'PAUSED', {
        everyMs: 50,
      });
      await bare.pause(container);
      const began = performance.now();
      await bare.resume(container);
      baseline.push(performance.now() - began);
    };
    for (let round = 0; round < times(bench, 200); round += 1) {
      await settle();
      const running = await timedPost(agent, instance.functionUrl('idle'), '{}');
      await settle();
      const paused = await timedPost(agent, url, '{}');
      if (paused.start !== 'paused' || running.start !== 'running') {
        throw new Error(`the calls found their workers ${paused.start} and ${running.start}`);
      }
      const hot = await timedPost(agent, url, '{}');
      ours.push(paused.firstByteMs - running.firstByteMs);
      afterHot.push(paused.firstByteMs - hot.firstByteMs);
    }
    await bare.remove(container);
    agent.destroy();
    await instance.delete('wake');
    await instance.delete('idle');
    return compare({
      name: 'wake',
      unit: 'ms',
      ours,
      baseline: { what: 'Tasks.Resume by a raw stub', sample: baseline },
      budget: 'p50 ≤ 0.06 ×, p99 ≤ 0.25 × bare',
      met: (mine, bareOnes) => mine.p50 <= 0.06 * bareOnes.p50 && mine.p99 <= 0.25 * bareOnes.p99,
      note: `less a call of the same worker at once afterwards: p50 ${quantile(afterHot, 0.5).toFixed(2)} ms, p99 ${quantile(afterHot, 0.99).toFixed(2)} ms`,
    });
  },
};
