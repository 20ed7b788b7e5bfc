import { type BenchResult, compare } from './bench-result.ts';
import { closedLoop } from './closed-loop.ts';
import { distributionOf } from './distribution.ts';
import { startInstantWorker } from './instant-worker.ts';
import { gatewayProcess, residentMiB } from './processes.ts';
import { type Scenario, times } from './scenario.ts';
import { startTwoHopProxy } from './two-hop-proxy.ts';

const CONNECTIONS = 64;
const CALLS = 100_000;
const SLICES = 20;
/** Calls that are made before anything counts, as a share: at 20,000 the heap was still growing to the size that it then keeps for 500,000. */
const WARM_UP = 0.5;
/** A rise of the resident set that is no leak: what a garbage collector has not got round to. */
const RISE = { share: 1.1, MiB: 8 };

/**
 * A hundred thousand calls over 64 connections to one worker that answers at once, against the bare two-hop proxy of
 * the same transport: how many a second in each slice, how long each took, and the memory of the gateway before and
 * after.
 */
export const gatewayThroughput: Scenario = {
  name: 'gateway-throughput',
  group: 'gateway',
  async run(bench): Promise<readonly BenchResult[]> {
    const { instance } = bench;
    const worker = await startInstantWorker(instance, 'sustained');
    const proxy = await startTwoHopProxy(worker.direct, CONNECTIONS);
    const { pid } = await gatewayProcess(instance);
    const calls = times(bench, CALLS);
    const slice = { calls: Math.ceil(calls / SLICES) };
    const rates: number[] = [];
    const latencies: number[] = [];
    const memory: number[] = [];
    const bareRates: number[] = [];
    const bareLatencies: number[] = [];
    const bareMemory: number[] = [];
    try {
      await closedLoop(worker.url, CONNECTIONS, { calls: Math.ceil(calls * WARM_UP) });
      await closedLoop(proxy.url, CONNECTIONS, { calls: Math.ceil(calls * WARM_UP) });
      for (let done = 0; done < SLICES; done += 1) {
        const ours = await closedLoop(worker.url, CONNECTIONS, slice);
        memory.push(await residentMiB(pid));
        const bare = await closedLoop(proxy.url, CONNECTIONS, slice);
        bareMemory.push(await residentMiB(proxy.frontPid));
        rates.push(ours.callsPerSecond);
        latencies.push(...ours.latencies);
        bareRates.push(bare.callsPerSecond);
        bareLatencies.push(...bare.latencies);
      }
    } finally {
      await proxy.stop();
      await worker.delete();
    }
    const what = 'bare two-hop proxy, HTTP/1.1, gRPC over mutual TLS, HTTP/1.1';
    const [before, after] = [firstFifth(memory), lastFifth(memory)];
    const took = distributionOf(latencies);
    return [
      compare({
        name: 'gateway-throughput',
        unit: 'calls/s',
        ours: rates,
        baseline: { what, sample: bareRates },
        budget: 'p50 ≥ 0.9 × bare',
        met: (mine, bareOnes) => mine.p50 >= 0.9 * bareOnes.p50,
        note: `${latencies.length} calls, all answered, in ${SLICES} slices; each took p50 ${took.p50.toFixed(2)}, p95 ${took.p95.toFixed(2)}, p99 ${took.p99.toFixed(2)} ms; gateway ${before.toFixed(1)} MiB after the warm-up, ${after.toFixed(1)} MiB at the end`,
      }),
      compare({
        name: 'gateway-throughput-latency',
        unit: 'ms',
        ours: latencies,
        baseline: { what, sample: bareLatencies },
        budget: 'p99 ≤ 1.5 × bare',
        met: (mine, bareOnes) => mine.p99 <= 1.5 * bareOnes.p99,
      }),
      compare({
        name: 'gateway-throughput-memory',
        unit: 'MiB',
        ours: memory,
        baseline: { what: 'front hop of the bare two-hop proxy, after as many calls', sample: bareMemory },
        budget: `at the end ≤ ${RISE.share} × after the warm-up + ${RISE.MiB} MiB`,
        met: () => after <= before * RISE.share + RISE.MiB,
        note: `resident set over ${latencies.length} calls: ${before.toFixed(1)} MiB after the warm-up, ${after.toFixed(1)} MiB at the end; the bare front hop: ${firstFifth(bareMemory).toFixed(1)} and ${lastFifth(bareMemory).toFixed(1)} MiB`,
      }),
    ];
  },
};

/** The median of the first fifth: one look alone may fall right before or after a collection of garbage. */
function firstFifth(sample: readonly number[]): number {
  return distributionOf(sample.slice(0, Math.ceil(sample.length / 5))).p50;
}

function lastFifth(sample: readonly number[]): number {
  return distributionOf(sample.slice(-Math.ceil(sample.length / 5))).p50;
}
