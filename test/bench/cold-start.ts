import { Agent } from 'node:http';
import { setTimeout as elapse } from 'node:timers/promises';
import { waitFor } from '../support/wait-for.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { type Bench, type Scenario, times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/** Milliseconds after a call in which its worker is removed again, and may be prepared again. */
const REST_MS = 3_000;

/** A call of a worker that rests Absent, without what the function itself took, against the bare sequence. */
export const coldStart: Scenario = {
  name: 'cold-start',
  run: (bench) => measure(bench, 'cold-start', 'p50 ≤ 0.9 × bare', 0.9),
};

/** The same where the agent keeps the containers of absent workers made in advance. */
export const coldStartPrepared: Scenario = {
  name: 'cold-start-prepared',
  agentOptions: ['--prepared-workers=4'],
  run: (bench) => measure(bench, 'cold-start-prepared', 'p50 ≤ 0.5 × bare', 0.5),
};

async function measure(bench: Bench, name: string, budget: string, share: number): Promise<BenchResult> {
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
    if (call.start !== 'absent') {
      throw new Error(`a call that was to start its worker found it ${call.start}`);
    }
    ours.push(call.firstByteMs - (call.serverTiming.get('run') ?? Number.NaN));
    // An absence below a second is not reported: the status from before this call stands until then.
    await elapse(REST_MS);
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
    name,
    unit: 'ms',
    ours,
    baseline: {
      what: 'snapshot, container, ip netns, bridge ADD, task create, start, port open by raw stubs',
      sample: baseline,
    },
    budget,
    met: (mine, bareOnes) => mine.p50 <= share * bareOnes.p50,
  });
}
