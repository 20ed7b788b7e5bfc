import { compare } from './bench-result.ts';
import { distributionOf } from './distribution.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';

/** Server-side apply of a new worker to the watch event with phase Running, against the bare cold sequence. */
export const applyToRunning: Scenario = {
  name: 'apply-to-running',
  async run(bench) {
    const { instance, bare } = bench;
    const ours: number[] = [];
    const baseline: number[] = [];
    for (let round = 0; round < times(bench, 40); round += 1) {
      const start = performance.now();
      const container = await bare.create();
      baseline.push(performance.now() - start);
      await bare.remove(container);
      const name = `applied-${round}`;
      const watching = Promise.withResolvers<void>();
      const running = instance.watch(
        (worker) => worker.metadata.name === name && worker.status?.phase === 'Running',
        watching.resolve,
      );
      await watching.promise;
      const began = performance.now();
      await instance.apply(name, {});
      await running;
      ours.push(performance.now() - began);
      await instance.delete(name);
    }
    return compare({
      name: 'apply-to-running',
      unit: 'ms',
      ours,
      baseline: { what: 'the bare sequence of cold-start by raw stubs', sample: baseline },
      budget: 'p50 ≤ 0.9 × bare + 100 ms',
      met: (mine, bareOnes) => mine.p50 <= 0.9 * bareOnes.p50 + 100,
      note: `p50 is ${(distributionOf(ours).p50 - distributionOf(baseline).p50).toFixed(0)} ms above the bare sequence`,
    });
  },
};
