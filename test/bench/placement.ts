import { setTimeout as delay } from 'node:timers/promises';
import { writesBetween } from '../support/scale/api-requests.ts';
import { expectAlive, type ScaleCluster, workerPath } from '../support/scale/scale-cluster.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { bareNodeMiB, peakResidentMiB, residentMiB, sampleMemory } from './processes.ts';
import { type ClusterBench, type ClusterScenario, onFleet } from './scenario.ts';
import { ofResources, told } from './writes.ts';

/** Assignments, and raw patches, of one slice. */
const SLICE = 500;
/** Raw slices before and after. */
const RAW_SLICES = 5;
/** Budgets of placement. */
const BUDGET = { rate: 0.7, memoryMiB: 200, writes: 2, converge: 4 } as const;
/**
 * Milliseconds after which nothing more is to be written: a reservation becomes smaller after a minute, by memory and
 * then by CPU, and a node tells of what it has promised every ten seconds.
 */
const QUIET_AFTER_MS = 120_000;
const STEADY_MS = 60_000;

/**
 * Ten thousand workers that wait for a controller, on a hundred nodes. While they are assigned, the agents are held, as
 * they are during the raw patches, so that both have the API server alone, but for Leases; then everybody goes on until
 * all workers rest.
 */
export const placement: ClusterScenario = {
  name: 'placement',
  group: 'scale',
  async run(bench): Promise<readonly BenchResult[]> {
    return await onFleet(bench, (cluster, { workers }) => measure(bench, cluster, workers));
  },
};

async function measure({ say }: ClusterBench, cluster: ScaleCluster, workers: number): Promise<readonly BenchResult[]> {
  const follower = await cluster.follow();
  say(`creating ${workers} workers ...`);
  await cluster.createWorkers(0, workers);
  cluster.holdAgents();
  const raw = await rawPatches(cluster, workers);

  const before = await cluster.requests();
  const timesBefore = await cluster.processorTimes();
  const began = performance.now();
  const controller = await cluster.startController('first');
  const check = (): void => expectAlive(controller);
  const memory = sampleMemory(controller);
  say(`assigning ${workers} workers ...`);
  await follower.untilAssigned(workers, { check });
  const times = follower.assignmentTimes();
  const timesAfter = await cluster.processorTimes();
  await cluster.releaseAgents();
  say(`bringing ${workers} workers to rest ...`);
  await follower.untilRested(workers, { check });
  const converged = (follower.lastRestedAt() - began) / 1_000;

  await delay(QUIET_AFTER_MS);
  const settled = await cluster.requests();
  await delay(STEADY_MS);
  const steady = writesBetween(settled, await cluster.requests());
  await memory.stop();
  const peak = await peakResidentMiB(controller.pid);
  const resting = await residentMiB(controller.pid);
  await cluster.stopController(controller);
  cluster.holdAgents();
  raw.push(...(await rawPatches(cluster, workers)));
  await cluster.releaseAgents();

  const written = writesBetween(before, settled);
  const ofWorkers = ofResources(written, (what) => what.startsWith('lambdaworkers')) / workers;
  const others = ofResources(steady, (what) => what !== 'leases');
  const span = (times.at(-1) ?? 0) - (times[0] ?? 0);
  const each = (part: keyof typeof timesAfter): string => ((timesAfter[part] - timesBefore[part]) / workers).toFixed(2);
  const median = raw.toSorted((left, right) => left - right)[Math.floor(raw.length / 2)] ?? Number.NaN;
  return [
    compare({
      name: 'placement',
      unit: 'assignments/s',
      ours: ratesOf(times),
      baseline: {
        what: 'merge patches of an annotation of the same workers over 32 connections, nothing else at work',
        sample: raw,
      },
      budget: `p50 ≥ ${BUDGET.rate} × bare`,
      met: (mine, bareOnes) => mine.p50 >= BUDGET.rate * bareOnes.p50,
      failures: follower.reassigned().length,
      note: `${workers} workers assigned in ${(span / 1_000).toFixed(1)} s, ${spreadOf(follower.byNode())} on a node; processor time of an assignment ${each('controllers')} ms in the controller (its start included), ${each('apiServer')} ms in etcd and API server`,
    }),
    compare({
      name: 'placement-converge',
      unit: 's',
      ours: [converged],
      baseline: {
        what: 'as many raw patches as ours were writes, at their median rate',
        sample: [(workers * ofWorkers) / median],
      },
      budget: `≤ ${BUDGET.converge} × bare`,
      met: (mine, bareOne) => mine.p50 <= BUDGET.converge * bareOne.p50,
      note: `from the start of the controller until every worker rests, the agents held until all were assigned`,
    }),
    compare({
      name: 'placement-memory',
      unit: 'MiB',
      ours: memory.samples,
      baseline: { what: 'Node.js with nothing to do', sample: [await bareNodeMiB()] },
      budget: `at most ${BUDGET.memoryMiB} MiB at any time`,
      met: () => peak <= BUDGET.memoryMiB,
      note: `resident set of the controller: at most ${peak.toFixed(0)} MiB, ${resting.toFixed(0)} MiB at rest`,
    }),
    compare({
      name: 'placement-writes',
      unit: 'writes',
      ours: [ofWorkers],
      baseline: { what: 'one for the assignment and one for the resting state', sample: [BUDGET.writes] },
      budget: '≤ 1.1 × bare',
      // Far fewer would say that they were not counted. Some, on a busy machine, are carried out and answered with a
      // timeout.
      met: (mine, bareOne) => mine.p50 >= 0.9 * bareOne.p50 && mine.p50 <= 1.1 * bareOne.p50,
      note: `after their creation, by the API server's own count, of all resources: ${told(written)}`,
    }),
    compare({
      name: 'placement-steady',
      unit: 'writes',
      ours: [others],
      baseline: { what: 'nothing changes', sample: [0] },
      budget: 'none in 60 s but Leases',
      met: () => others === 0 && (steady.get('leases') ?? 0) > 0,
      note: `in ${STEADY_MS / 1_000} s: ${told(steady)}`,
    }),
  ];
}

/** Patches a second of each slice. */
async function rawPatches(cluster: ScaleCluster, workers: number): Promise<number[]> {
  const rates: number[] = [];
  for (let slice = 0; slice < RAW_SLICES; slice += 1) {
    const first = slice * SLICE;
    const tookMs = await cluster.send(SLICE, (index) => ({
      method: 'PATCH',
      path: workerPath((first + index) % workers),
      contentType: 'application/merge-patch+json',
      body: { metadata: { annotations: { 'example.com/bench': `${performance.now()}` } } },
    }));
    rates.push((SLICE * 1_000) / tookMs);
  }
  return rates;
}

/** Assignments a second of each slice. */
function ratesOf(times: readonly number[]): readonly number[] {
  const size = Math.min(SLICE, times.length);
  return Array.from({ length: Math.floor(times.length / size) }, (_, slice) => {
    const [first = 0, last = 0] = [times[slice * size], times[(slice + 1) * size - 1]];
    return ((size - 1) * 1_000) / (last - first);
  });
}

function spreadOf(byNode: ReadonlyMap<string, number>): string {
  return `${Math.min(...byNode.values())} to ${Math.max(...byNode.values())}`;
}
