import { Agent } from 'node:http';
import { waitFor } from '../support/wait-for.ts';
import type { BareContainer } from './bare-containerd.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { quantile, type Sample } from './distribution.ts';
import { type Bench, type Scenario, times } from './scenario.ts';
import { timedPost } from './timed-call.ts';

/**
 * Some paused workers called at once: when the first, second, … of the answers begins, less when that of the same calls
 * to the running workers does, which share two processors just the same; against as many bare `Tasks.Resume` calls sent
 * at once.
 */
function wakeMany(workers: number, rounds: number, share: number): Scenario {
  return {
    name: `wake-${workers}`,
    run: (bench) => measure(bench, workers, times(bench, rounds), share),
  };
}

async function measure(bench: Bench, workers: number, rounds: number, share: number): Promise<BenchResult> {
  const { instance, bare } = bench;
  const agent = new Agent({ keepAlive: true, maxSockets: workers });
  const names = Array.from({ length: workers }, (_, index) => `many-${index}`);
  const ids: string[] = [];
  for (const name of names) {
    await instance.apply(name, {
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 5 },
      resources: { limits: { memory: '96Mi' } },
      ephemeralStorage: '16Mi',
    });
  }
  for (const name of names) {
    ids.push((await instance.waitForPhase(name, 'Paused')).status?.containerID ?? '');
  }
  const containers: BareContainer[] = [];
  for (const _ of names) {
    containers.push(await bare.create());
  }
  const ours: number[] = [];
  const overMedian: number[] = [];
  const baseline: number[] = [];
  const wave = async (): Promise<number[]> =>
    Promise.all(names.map(async (name) => (await timedPost(agent, instance.functionUrl(name), '{}')).firstByteMs));
  // Not measured.
  await wave();
  for (let round = 0; round < rounds; round += 1) {
    await waitFor(
      'all workers to be frozen',
      async () => (await Promise.all(ids.map((id) => bare.workerTask(id)))).every((state) => state === 'PAUSED'),
      { everyMs: 500, timeoutMs: 60_000 },
    );
    await Promise.all(containers.map((container) => bare.pause(container)));
    const began = performance.now();
    await Promise.all(
      containers.map(async (container) => {
        await bare.resume(container);
        baseline.push(performance.now() - began);
      }),
    );
    const paused = sorted(await wave());
    const running = sorted(await wave());
    const median = quantile(running, 0.5);
    ours.push(...paused.map((firstByte, rank) => firstByte - (running[rank] ?? Number.NaN)));
    overMedian.push(...paused.map((firstByte) => firstByte - median));
  }
  for (const container of containers) {
    await bare.remove(container);
  }
  await Promise.all(names.map((name) => instance.delete(name)));
  agent.destroy();
  return compare({
    name: `wake-${workers}`,
    unit: 'ms',
    ours,
    baseline: { what: `${workers} Tasks.Resume calls at once by a raw stub`, sample: baseline },
    budget: `p99 ≤ ${share} × bare`,
    met: (mine, bareOnes) => mine.p99 <= share * bareOnes.p99,
    note: `less the median of the calls to the running workers: p50 ${quantile(overMedian, 0.5).toFixed(1)} ms, p99 ${quantile(overMedian, 0.99).toFixed(1)} ms`,
  });
}

function sorted(sample: Sample): Sample {
  return sample.toSorted((a, b) => a - b);
}

export const wakeTen = wakeMany(10, 20, 1.5);
export const wakeHundred = wakeMany(100, 10, 0.16);
