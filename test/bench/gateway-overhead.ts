import { type BenchResult, compare } from './bench-result.ts';
import { closedLoop } from './closed-loop.ts';
import { distributionOf } from './distribution.ts';
import { type InstantWorker, startInstantWorker } from './instant-worker.ts';
import { type Bench, type Scenario, times } from './scenario.ts';
import { startTwoHopProxy, type TwoHopProxy } from './two-hop-proxy.ts';

const ROUNDS = 8;
/** Calls of one slice. */
const SLICE = 1_000;

/**
 * Whole calls over 1, 16 and 64 connections, each of which calls again once it is answered, to a worker that answers at
 * once: through gateway and agent against a POST straight to the worker, in turns. The bare two-hop proxy of the same
 * transport goes in turns with them, to tell what any way over two processes adds.
 */
export const gatewayOverhead: Scenario = {
  name: 'gateway-overhead',
  group: 'gateway',
  async run(bench): Promise<readonly BenchResult[]> {
    const worker = await startInstantWorker(bench.instance, 'overhead');
    const proxy = await startTwoHopProxy(worker.direct, 64);
    try {
      const results: BenchResult[] = [];
      for (const connections of [1, 16, 64]) {
        results.push(await measure(bench, connections, worker, proxy));
      }
      return results;
    } finally {
      await proxy.stop();
      await worker.delete();
    }
  },
};

async function measure(
  bench: Bench,
  connections: number,
  worker: InstantWorker,
  proxy: TwoHopProxy,
): Promise<BenchResult> {
  const slice = async (url: string): Promise<readonly number[]> =>
    (await closedLoop(url, connections, { calls: SLICE })).latencies;
  const ours: number[] = [];
  const baseline: number[] = [];
  const proxied: number[] = [];
  // The first slice of each is to warm up.
  for (let round = 0; round <= times(bench, ROUNDS); round += 1) {
    const these = [await slice(worker.direct), await slice(worker.url), await slice(proxy.url)] as const;
    if (round > 0) {
      baseline.push(...these[0]);
      ours.push(...these[1]);
      proxied.push(...these[2]);
    }
  }
  const proxyOnes = distributionOf(proxied);
  const told = `the bare two-hop proxy: p50 ${proxyOnes.p50.toFixed(2)} ms, p99 ${proxyOnes.p99.toFixed(2)} ms`;
  const comparison = {
    unit: 'ms',
    ours,
    baseline: { what: `POST straight to the worker, ${connections} at a time`, sample: baseline },
    note: `${connections} at a time; ${told}`,
  };
  return connections === 1
    ? compare({
        ...comparison,
        name: 'gateway-overhead',
        budget: 'p50 ≤ bare + 1 ms, p99 ≤ bare + 5 ms',
        met: (mine, bareOnes) => mine.p50 - bareOnes.p50 <= 1 && mine.p99 - bareOnes.p99 <= 5,
      })
    : compare({
        ...comparison,
        name: `gateway-overhead-${connections}`,
        // Callers that wait for each other are as slow as all of them are: what counts is what any two hops cost.
        budget: 'p50 ≤ 1.1 ×, p99 ≤ 1.5 × the bare two-hop proxy',
        met: (mine) => mine.p50 <= 1.1 * proxyOnes.p50 && mine.p99 <= 1.5 * proxyOnes.p99,
      });
}
