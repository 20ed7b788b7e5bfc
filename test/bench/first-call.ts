import { Agent } from 'node:http';
import { setTimeout as elapse } from 'node:timers/promises';
import { waitFor } from '../support/wait-for.ts';
import { compare } from './bench-result.ts';
import { type Scenario, times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** Milliseconds without a call before each measured call. */
const QUIET_MS = 1_200;

/** The first call ever of a worker that rests Paused, against a later call of the same worker once it rests again. */
export const firstCall: Scenario = {
  name: 'first-call',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true });
    const ours: number[] = [];
    const baseline: number[] = [];
    for (let round = 0; round < times(bench, 40); round += 1) {
      const name = `first-${round}`;
      await instance.apply(name, { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
      const { status } = await instance.waitForPhase(name, 'Paused');
      for (const sample of [ours, baseline]) {
        await elapse(QUIET_MS);
        await waitFor(
          'the worker to be frozen',
          async () => (await bare.workerTask(status?.containerID ?? '')) === 'PAUSED',
          { everyMs: 50 },
        );
        const call = await timedPost(agent, instance.functionUrl(name), '{}');
        if (call.start !== 'paused') {
          throw new Error(`the call found its worker ${call.start}`);
        }
        sample.push(call.firstByteMs);
      }
      await instance.delete(name);
    }
    agent.destroy();
    return compare({
      name: 'first-call',
      unit: 'ms',
      ours,
      baseline: { what: 'the second call of the same worker, paused again', sample: baseline },
      budget: 'p50 ≤ bare + 1 ms, p99 ≤ bare + 5 ms: no init in any call',
      met: (mine, bareOnes) => mine.p50 - bareOnes.p50 <= 1 && mine.p99 - bareOnes.p99 <= 5,
    });
  },
};
