import { Agent } from 'node:http';
import { compare } from './bench-result.ts';
import { distributionOf } from './distribution.ts';
import { type Scenario, times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/**
 * A call of a running Python function through gateway, agent and init, against one by a bare Runtime API of one page, in
 * turns. Beside them goes a call by two bare hops, the last of which is that page: no gateway and agent of two processes
 * cost less.
 */
export const runtimeOverhead: Scenario = {
  name: 'runtime-overhead',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true });
    const container = await bare.create();
    const hop = await bare.api.startFrontHop();
    const hops = hop.urlOf(container.url);
    await instance.apply('warm', {});
    await instance.waitForPhase('warm', 'Running');
    const ours: number[] = [];
    const baseline: number[] = [];
    const byHops: number[] = [];
    for (let round = 0; round < times(bench, 3000); round += 1) {
      const bareCall = await timedPost(agent, container.url, '{}');
      const call = await timedPost(agent, instance.functionUrl('warm'), '{}');
      const hopCall = await timedPost(agent, hops, '{}');
      if (round >= 100 || bench.scale < 0.1) {
        baseline.push(bareCall.totalMs);
        ours.push(call.totalMs);
        byHops.push(hopCall.totalMs);
      }
    }
    agent.destroy();
    hop.stop();
    await bare.remove(container);
    await instance.delete('warm');
    const floor = distributionOf(byHops);
    const [mine, bareOnes] = [distributionOf(ours), distributionOf(baseline)];
    return compare({
      name: 'runtime-overhead',
      unit: 'ms',
      ours,
      baseline: { what: 'a bare Runtime API of one page, Python function', sample: baseline },
      budget: 'p50 ≤ bare + 0.3 ms, p99 ≤ bare + 2 ms',
      met: (mine, bareOnes) => mine.p50 - bareOnes.p50 <= 0.3 && mine.p99 - bareOnes.p99 <= 2,
      note: `by two bare hops: p50 ${floor.p50.toFixed(2)}, p99 ${floor.p99.toFixed(2)} ms, so bare + ${(floor.p50 - bareOnes.p50).toFixed(2)} ms, ours is bare + ${(mine.p50 - bareOnes.p50).toFixed(2)} ms`,
    });
  },
};
