import { Agent } from 'node:http';
import { waitFor } from '../support/wait-for.ts';
import { compare } from './bench-result.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** A call of a worker that rests Absent, without what the function itself took, against the bare sequence. */
export const coldStart: Scenario = {
  name: 'cold-start',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true });
    await instance.apply('cold', { desiredState: 'Absent', idlePolicy: { pauseAfterSeconds: 1 } });
    await instance.waitForPhase('cold', 'Absent');
    const ours: number[] = [];
    const baseline: number[] = [];
    for (let round = 0; round < times(bench, 60); round += 1) {
      const began = performance.now();
      const container = await bare.create();
      baseline.push(performance.now() - began);
      await bare.remove(container);
      const call = await timedPost(agent, instance.functionUrl('cold'), '{}');
      ours.push(call.firstByteMs - (call.serverTiming.get('run') ?? Number.NaN));
      await waitFor(
        'the worker to be absent again',
        async () => {
          const worker = await instance.worker('cold');
          return worker?.status?.phase === 'Absent' && worker.status.containerID === undefined;
        },
        { everyMs: 100 },
      );
    }
    agent.destroy();
    await instance.delete('cold');
    return compare({
      name: 'cold-start',
      unit: 'ms',
      ours,
      baseline: {
        what: 'snapshot, container, ip netns, bridge ADD, task create, start, port open by raw stubs',
        sample: baseline,
      },
      budget: 'p50 ≤ 0.9 × bare',
      met: (mine, bareOnes) => mine.p50 <= 0.9 * bareOnes.p50,
    });
  },
};
