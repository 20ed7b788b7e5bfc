import { Agent } from 'node:http';
import { compare } from './bench-result.ts';
import { type Scenario, times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/**
 * A call of a running Python function through gateway, agent and init, against one by a bare Runtime API of one page, in
 * turns.
 */
export const runtimeOverhead: Scenario = {
  name: 'runtime-overhead',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true });
    const container = await bare.create();
    await instance.apply('warm', {});
    await instance.waitForPhase('warm', 'Running');
    const ours: number[] = [];
    const baseline: number[] = [];
    for (let round = 0; round < times(bench, 3000); round += 1) {
      const bareCall = await timedPost(agent, container.url, '{}');
      const call = await timedPost(agent, instance.functionUrl('warm'), '{}');
      if (round >= 100 || bench.scale < 0.1) {
        baseline.push(bareCall.totalMs);
        ours.push(call.totalMs);
      }
    }
    agent.destroy();
    await bare.remove(container);
    await instance.delete('warm');
    return compare({
      name: 'runtime-overhead',
      unit: 'ms',
      ours,
      baseline: { what: 'a bare Runtime API of one page, Python function', sample: baseline },
      budget: 'p50 ≤ bare + 0.3 ms, p99 ≤ bare + 2 ms',
      met: (mine, bareOnes) => mine.p50 - bareOnes.p50 <= 0.3 && mine.p99 - bareOnes.p99 <= 2,
    });
  },
};
