import { Agent } from 'node:http';
import { waitFor } from '../support/wait-for.ts';
import { compare } from './bench-result.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** First byte from a paused worker minus first byte from the same worker running, against a bare `Tasks.Resume`. */
export const wake: Scenario = {
  name: 'wake',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true });
    await instance.apply('wake', { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    const { status } = await instance.waitForPhase('wake', 'Paused');
    const containerId = status?.containerID ?? '';
    const url = instance.functionUrl('wake');
    await timedPost(agent, url, '{}');
    const container = await bare.create();
    const ours: number[] = [];
    const baseline: number[] = [];
    for (let round = 0; round < times(bench, 200); round += 1) {
      await waitFor(
        'the worker to be frozen',
        async () => (await bare.workerTask(containerId)) === 'PAUSED',
        { everyMs: 50 },
      );
      await bare.pause(container);
      const began = performance.now();
      await bare.resume(container);
      baseline.push(performance.now() - began);
      const paused = await timedPost(agent, url, '{}');
      const running = await timedPost(agent, url, '{}');
      ours.push(paused.firstByteMs - running.firstByteMs);
    }
    await bare.remove(container);
    agent.destroy();
    await instance.delete('wake');
    return compare({
      name: 'wake',
      unit: 'ms',
      ours,
      baseline: { what: 'Tasks.Resume by a raw stub', sample: baseline },
      budget: 'p50 ≤ 1.2 ×, p99 ≤ 2 × bare',
      met: (mine, bareOnes) => mine.p50 <= 1.2 * bareOnes.p50 && mine.p99 <= 2 * bareOnes.p99,
    });
  },
};
