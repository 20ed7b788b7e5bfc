import { setTimeout as delay } from 'node:timers/promises';
import { writesBetween } from '../support/scale/api-requests.ts';
import { expectAlive, type ScaleCluster, workerName } from '../support/scale/scale-cluster.ts';
import type { WorkerFollower } from '../support/scale/worker-follower.ts';
import { waitFor } from '../support/wait-for.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { peakResidentMiB, sampleMemory } from './processes.ts';
import { type ClusterBench, type ClusterScenario, onFleet } from './scenario.ts';
import { ofResources, told } from './writes.ts';

/** Budget: writes a second of everybody, Leases included; seconds until the status is true; MiB of the controller. */
const BUDGET = { writes: 20, truth: 330, memoryMiB: 200 } as const;
/** Milliseconds of calls before the measurement: longer than a change may wait. */
const WARM_UP_MS = 330_000;
const MEASURED_MS = 300_000;

/**
 * Ten thousand workers on a hundred nodes, a tenth of them called every five seconds in the mean, another tenth once a
 * minute; both are paused ten seconds after a call. Reservations are on. Counts what is written.
 */
export const busyWrites: ClusterScenario = {
  name: 'busy-writes',
  group: 'scale',
  async run(bench): Promise<readonly BenchResult[]> {
    return await onFleet(bench, (cluster, { workers }) => measure(bench, cluster, workers));
  },
};

async function measure({ say }: ClusterBench, cluster: ScaleCluster, workers: number): Promise<readonly BenchResult[]> {
  const tenth = workers / 10;
  const follower = await cluster.follow();
  const controller = await cluster.startController('first');
  const memory = sampleMemory(controller);
  say(`bringing ${workers} workers to rest ...`);
  await cluster.createWorkers(0, 2 * tenth, (index) => ({
    functionName: `${index < tenth ? 'busy' : 'minutely'}-${index % tenth}`,
    desiredState: 'Paused',
  }));
  await cluster.createWorkers(2 * tenth, workers - 2 * tenth);
  await follower.untilRested(workers, { check: () => expectAlive(controller) });

  say(`calling ${2 * tenth} of them, for ${WARM_UP_MS / 60_000} minutes before the measurement ...`);
  cluster.toggleCalls();
  await delay(WARM_UP_MS);
  const before = await cluster.requests();
  const began = performance.now();
  await delay(MEASURED_MS);
  const written = writesBetween(before, await cluster.requests());
  const seconds = (performance.now() - began) / 1_000;

  say('waiting for the truth after the last call ...');
  cluster.toggleCalls();
  const truth = await secondsUntilPaused(follower, 2 * tenth);
  const unanswered = cluster.outputOfAgents().match(/was not answered/g)?.length ?? 0;
  await memory.stop();
  const peak = await peakResidentMiB(controller.pid);
  const all = ofResources(written, () => true) / seconds;
  const activity = ofResources(written, (what) => what === 'lambdaworkers/status') / seconds;
  return [
    compare({
      name: 'busy-writes',
      unit: 'writes/s',
      ours: [all],
      baseline: {
        what: 'the budget of 20 writes a second',
        sample: [BUDGET.writes],
      },
      budget: `≤ ${BUDGET.writes}, Leases included`,
      met: (mine) => mine.p50 <= BUDGET.writes,
      failures: unanswered,
      note: `${tenth} workers called every 5 s and ${tenth} once a minute, with reservations; ${activity.toFixed(1)} writes/s of the status of workers; in ${seconds.toFixed(0)} s: ${told(written)}`,
    }),
    compare({
      name: 'busy-truth',
      unit: 's',
      ours: [truth],
      baseline: { what: 'the longest time that a change may wait', sample: [300] },
      budget: `≤ ${BUDGET.truth} s`,
      met: (mine) => mine.p50 <= BUDGET.truth,
      note: 'from the last call until the status of each says Paused, ten seconds of idle time included',
    }),
    compare({
      name: 'busy-memory',
      unit: 'MiB',
      ours: memory.samples,
      baseline: { what: 'the budget', sample: [BUDGET.memoryMiB] },
      budget: `at most ${BUDGET.memoryMiB} MiB at any time`,
      met: () => peak <= BUDGET.memoryMiB,
      note: `resident set of the controller, from its start: at most ${peak.toFixed(0)} MiB`,
    }),
  ];
}

async function secondsUntilPaused(follower: WorkerFollower, count: number): Promise<number> {
  const began = performance.now();
  const names = Array.from({ length: count }, (_, index) => workerName(index));
  await waitFor('every worker to be told as paused', () => follower.inPhase('Paused', names) === count, {
    timeoutMs: 900_000,
    everyMs: 250,
  });
  return (performance.now() - began) / 1_000;
}
