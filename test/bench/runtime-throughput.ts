import { type BenchResult, compare } from './bench-result.ts';
import { closedLoop } from './closed-loop.ts';
import { distributionOf } from './distribution.ts';
import { agentProcess, containerProcesses, gatewayProcess, processorSeconds } from './processes.ts';
import { type Bench, type Scenario, times } from './scenario.ts';

const CONNECTIONS = 64;
const SLICE_MS = 4_000;

/** Slices of one way to a function, and the processor time that its parts took in them. */
class Slices {
  readonly #url: string;
  readonly #parts: ReadonlyMap<string, readonly number[]>;
  readonly rates: number[] = [];
  #calls = 0;
  readonly #seconds = new Map<string, number>();

  /** @param parts process ids by name */
  constructor(url: string, parts: Readonly<Record<string, readonly number[]>>) {
    this.#url = url;
    this.#parts = new Map(Object.entries(parts));
  }

  async warmUp(): Promise<void> {
    await closedLoop(this.#url, CONNECTIONS, { ms: SLICE_MS });
  }

  async measure(): Promise<void> {
    const before = await this.#taken();
    const { callsPerSecond, latencies } = await closedLoop(this.#url, CONNECTIONS, { ms: SLICE_MS });
    for (const [name, seconds] of await this.#taken()) {
      this.#seconds.set(name, (this.#seconds.get(name) ?? 0) + seconds - (before.get(name) ?? 0));
    }
    this.#calls += latencies.length;
    this.rates.push(callsPerSecond);
  }

  /** Microseconds of processor of a call, part by part. */
  get costs(): string {
    return [...this.#seconds]
      .map(([name, seconds]) => `${name} ${((seconds / this.#calls) * 1e6).toFixed(0)}`)
      .join(', ');
  }

  async #taken(): Promise<Map<string, number>> {
    const parts = [...this.#parts].map(async ([name, pids]) => [name, await processorSeconds(pids)] as const);
    return new Map(await Promise.all(parts));
  }
}

/**
 * Calls a second over 64 connections to one Python worker, against a bare Runtime API of one page behind Fastify. Beside
 * them go two bare hops, the last of which is that page.
 */
export const runtimeThroughput: Scenario = {
  name: 'runtime-throughput',
  async run(bench) {
    const { instance, bare } = bench;
    const container = await bare.create();
    const hop = await bare.api.startFrontHop();
    await instance.apply('busy', {});
    const { status } = await instance.waitForPhase('busy', 'Running');
    try {
      const inside = await containerProcesses(status?.containerID ?? '');
      const init = inside.filter(({ commandLine }) => commandLine.startsWith('/run/esb/init '));
      const pidsOf = (those: typeof inside): number[] => those.map(({ pid }) => pid);
      const ours = new Slices(instance.functionUrl('busy'), {
        gateway: [(await gatewayProcess(instance)).pid],
        agent: [(await agentProcess(instance)).pid],
        init: pidsOf(init),
        Python: pidsOf(inside.filter((each) => !init.includes(each))),
      });
      const python = pidsOf(await containerProcesses(container.id));
      const straight = new Slices(container.url, { page: [bare.api.pid], Python: python });
      const hops = new Slices(hop.urlOf(container.url), {
        'front hop': [hop.pid],
        'hop with the page': [bare.api.pid],
        Python: python,
      });
      return await inTurns(bench, ours, straight, hops);
    } finally {
      hop.stop();
      await bare.remove(container);
      await instance.delete('busy');
    }
  },
};

async function inTurns(bench: Bench, ours: Slices, straight: Slices, hops: Slices): Promise<BenchResult> {
  const ways = [straight, ours, hops];
  for (const way of ways) {
    await way.warmUp();
  }
  for (let round = 0; round < times(bench, 12); round += 1) {
    for (const way of ways) {
      await way.measure();
    }
  }
  const rate = distributionOf(hops.rates).p50;
  return compare({
    name: 'runtime-throughput',
    unit: 'calls/s',
    ours: ours.rates,
    baseline: { what: 'a bare Runtime API of one page behind Fastify, Python function', sample: straight.rates },
    budget: 'p50 ≥ 0.9 × bare',
    met: (mine, bareOnes) => mine.p50 >= 0.9 * bareOnes.p50,
    note: [
      `by two bare hops: ${rate.toFixed(0)} calls/s, ${(rate / distributionOf(straight.rates).p50).toFixed(2)} × bare, ours is ${(distributionOf(ours.rates).p50 / rate).toFixed(2)} × that`,
      `µs of processor of a call: ours ${ours.costs}; bare ${straight.costs}; two bare hops ${hops.costs}`,
    ].join('\n'),
  });
}
