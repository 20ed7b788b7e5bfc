import { Agent } from 'node:http';
import { compare } from './bench-result.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** A call through gateway and agent to a running worker with the emulator against a POST straight to its emulator, in turns. */
export const warmOverhead: Scenario = {
  name: 'warm-overhead',
  async run(bench) {
    const { instance } = bench;
    const through = new Agent({ keepAlive: true });
    const straight = new Agent({ keepAlive: true });
    await instance.apply('warm', {
      image: `${instance.registry}/python-emulator:latest`,
      runtimeInterface: 'Emulator',
    });
    const { status } = await instance.waitForPhase('warm', 'Running');
    const direct = `http://${status?.address?.ip}:${status?.address?.port}/2015-03-31/functions/function/invocations`;
    const ours: number[] = [];
    const baseline: number[] = [];
    for (let round = 0; round < times(bench, 3000); round += 1) {
      const bareCall = await timedPost(straight, direct, '{}');
      const call = await timedPost(through, instance.functionUrl('warm'), '{}');
      if (round >= 100 || bench.scale < 0.1) {
        baseline.push(bareCall.totalMs);
        ours.push(call.totalMs);
      }
    }
    through.destroy();
    straight.destroy();
    await instance.delete('warm');
    return compare({
      name: 'warm-overhead',
      unit: 'ms',
      ours,
      baseline: { what: 'POST straight to the emulator', sample: baseline },
      budget: 'p50 ≤ bare + 1 ms, p99 ≤ bare + 5 ms',
      met: (mine, bareOnes) => mine.p50 - bareOnes.p50 <= 1 && mine.p99 - bareOnes.p99 <= 5,
    });
  },
};
