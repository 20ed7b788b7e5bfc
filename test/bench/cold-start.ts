import { Agent } from 'node:http';
import { setTimeout as elapse } from 'node:timers/promises';
import { waitFor } from '../support/wait-for.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { type Bench, type Scenario, times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** Milliseconds after a call in which its worker is removed again. */
const REST_MS = 3_000;
/** Largest p50, as a share of the bare one. */
const SHARE = 0.9;

/** A call of a worker that rests Absent, without what the function itself took, against the bare sequence. */
export const coldStart: Scenario = { name: 'cold-start', run: measure };

async function measure(bench: Bench): Promise<BenchResult> {
  const { instance, bare } = bench;
  const agent = new Agent({ keepAlive: true });
  const worker = 'cold-0';
  await instance.apply(worker, { desiredState: 'Absent', idlePolicy: { pauseAfterSeconds: 1 } });
  await instance.waitForPhase(worker, 'Absent');
  const ours: number[] = [];
  const baseline: number[] = [];
  for (let round = 0; round < times(bench, 60); round += 1) {
    const began = performance.now();
    const container = await bare.create();
    baseline.push(performance.now() - began);
    await bare.remove(container);
    const call = await timedPost(agent, instance.functionUrl(worker), '{}');
    if (call.start !== 'absent') {
      throw new Error(`a call that was to start its worker found it ${call.start}`);
    }
    ours.push(call.firstByteMs - (call.serverTiming.get('run') ?? Number.NaN));
    // An absence below a second is not reported: the status from before this call stands until then.
    await elapse(REST_MS);
    await waitFor(
      'the worker to be absent again',
      async () => {
        const status = (await instance.worker(worker))?.status;
        return status?.phase === 'Absent' && status.containerID === undefined;
      },
      { everyMs: 100 },
    );
  }
  agent.destroy();
  await instance.delete(worker);
  return compare({
    name: 'cold-start',
    unit: 'ms',
    ours,
    baseline: {
      what: 'snapshot, container, ip netns, bridge ADD, task create, start, port open by raw stubs',
      sample: baseline,
    },
    budget: `p50 ≤ ${SHARE} × bare`,
    met: (mine, bareOnes) => mine.p50 <= SHARE * bareOnes.p50,
  });
}
