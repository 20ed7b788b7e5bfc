import { compare } from './bench-result.ts';
import { closedLoop } from './closed-loop.ts';
import { type Scenario, times } from './scenario.ts';

const CONNECTIONS = 64;
const SLICE_MS = 4_000;

/** Calls a second over 64 connections to one Python worker, against a bare Runtime API of one page behind Fastify. */
export const runtimeThroughput: Scenario = {
  name: 'runtime-throughput',
  async run(bench) {
    const { instance, bare } = bench;
    const container = await bare.create();
    await instance.apply('busy', {});
    await instance.waitForPhase('busy', 'Running');
    const rate = async (url: string): Promise<number> =>
      (await closedLoop(url, CONNECTIONS, { ms: SLICE_MS })).callsPerSecond;
    const url = instance.functionUrl('busy');
    const ours: number[] = [];
    const baseline: number[] = [];
    try {
      await rate(container.url);
      await rate(url);
      for (let round = 0; round < times(bench, 12); round += 1) {
        baseline.push(await rate(container.url));
        ours.push(await rate(url));
      }
    } finally {
      await bare.remove(container);
      await instance.delete('busy');
    }
    return compare({
      name: 'runtime-throughput',
      unit: 'calls/s',
      ours,
      baseline: { what: 'a bare Runtime API of one page behind Fastify, Python function', sample: baseline },
      budget: 'p50 ≥ 0.9 × bare',
      met: (mine, bareOnes) => mine.p50 >= 0.9 * bareOnes.p50,
    });
  },
};
