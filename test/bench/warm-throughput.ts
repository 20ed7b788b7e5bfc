import { type BenchResult, compare } from './bench-result.ts';
import { closedLoop } from './closed-loop.ts';
import { distributionOf } from './distribution.ts';
import { startInstantWorker } from './instant-worker.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';
import { startTwoHopProxy } from './two-hop-proxy.ts';

const CONNECTIONS = 64;
const SLICE_MS = 4_000;

/** Calls a second over 64 connections for one slice of time. */
async function rate(url: string): Promise<number> {
  return (await closedLoop(url, CONNECTIONS, { ms: SLICE_MS })).callsPerSecond;
}

/** 64 connections to one worker that answers at once, against the bare two-hop proxy of the same transport. */
export const warmThroughput: Scenario = {
  name: 'warm-throughput',
  async run(bench): Promise<BenchResult> {
    const worker = await startInstantWorker(bench.instance, 'instant');
    const wide = await startTwoHopProxy(worker.direct, CONNECTIONS);
    const narrow = await startTwoHopProxy(worker.direct, 1);
    try {
      const ours: number[] = [];
      const baseline: number[] = [];
      const one: number[] = [];
      await rate(worker.url);
      await rate(wide.url);
      await rate(narrow.url);
      for (let round = 0; round < times(bench, 12); round += 1) {
        baseline.push(await rate(wide.url));
        ours.push(await rate(worker.url));
        one.push(await rate(narrow.url));
      }
      const narrowRate = distributionOf(one).p50;
      return compare({
        name: 'warm-throughput',
        unit: 'calls/s',
        ours,
        baseline: { what: 'bare two-hop proxy, HTTP/1.1, gRPC over mutual TLS, HTTP/1.1', sample: baseline },
        budget: 'p50 ≥ 0.9 × bare',
        met: (mine, bareOnes) => mine.p50 >= 0.9 * bareOnes.p50,
        note: `the same proxy with one connection to the worker: ${narrowRate.toFixed(0)} calls/s, ours is ${(distributionOf(ours).p50 / narrowRate).toFixed(2)} × that`,
      });
    } finally {
      await wide.stop();
      await narrow.stop();
      await worker.delete();
    }
  },
};
