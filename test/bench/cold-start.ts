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
  run: (bench) => measure(bench, { name: 'cold-start', share: 0.9, functions: 1 }),
};

/** The same where the agent keeps the containers of absent workers made in advance. */
export const coldStartPrepared: Scenario = {
  name: 'cold-start-prepared',
  agentOptions: ['--prepared-workers=4'],
  run: (bench) => measure(bench, { name: 'cold-start-prepared', share: 0.5, functions: 1 }),
};

/** The same agent with more absent workers than it keeps containers for, called at random. */
export const coldStartMany: Scenario = {
  name: 'cold-start-many',
  agentOptions: ['--prepared-workers=4'],
  run: (bench) => measure(bench, { name: 'cold-start-many', share: 0.9, functions: 100 }),
};

interface ColdStart {
  readonly name: string;
  /** Largest p50, as a share of the bare one. */
  readonly share: number;
  readonly functions: number;
}

async function measure(bench: Bench, { name, share, functions }: ColdStart): Promise<BenchResult> {
  const { instance, bare } = bench;
  const agent = new Agent({ keepAlive: true });
  const workers = Array.from({ length: functions }, (_, index) => `cold-${index}`);
  for (const worker of workers) {
    await instance.apply(worker, { desiredState: 'Absent', idlePolicy: { pauseAfterSeconds: 1 } });
  }
  for (const worker of workers) {
    await instance.waitForPhase(worker, 'Absent');
  }
  const ours: number[] = [];
  const baseline: number[] = [];
  for (let round = 0; round < times(bench, 60); round += 1) {
    const worker = workers[Math.floor(Math.random() * functions)] ?? 'cold-0';
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
  await Promise.all(workers.map((worker) => instance.delete(worker)));
  return compare({
    name,
    unit: 'ms',
    ours,
    baseline: {
      what: 'snapshot, container, ip netns, bridge ADD, task create, start, port open by raw stubs',
      sample: baseline,
    },
    budget: `p50 ≤ ${share} × bare`,
    met: (mine, bareOnes) => mine.p50 <= share * bareOnes.p50,
  });
}
