import { join } from 'node:path';
import { Spawner } from '../../src/common/exec/spawner.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { TmpFiles } from '../../src/runtime/tmp/tmp-files.ts';
import { compare } from './bench-result.ts';
import { type Scenario, times } from './scenario.ts';

const SIZE_MIB = 64;
const BUDGET_MS = 12;

/** Cold starts with a file for `/tmp`, made meanwhile as the agent makes it, against those with a tmpfs, in pairs. */
export const coldStartTmp: Scenario = {
  name: 'cold-start-tmp',
  async run(bench) {
    const { instance, bare } = bench;
    const spawner = new Spawner({ logger: silentLogger() });
    const files = new TmpFiles(join(instance.home, 'bench-tmp'), spawner);
    const sample = async (onDisk: boolean): Promise<number> => {
      const began = performance.now();
      const container = await bare.create(onDisk ? (id) => files.make(id, SIZE_MIB) : undefined);
      const took = performance.now() - began;
      await bare.remove(container);
      await files.remove(container.id);
      return took;
    };
    const ours: number[] = [];
    const baseline: number[] = [];
    try {
      // The first file of a size is made by mke2fs.
      await sample(true);
      for (let round = 0; round < times(bench, 100); round += 1) {
        // Either is the first of its pair as often.
        for (const onDisk of round % 2 === 0 ? [true, false] : [false, true]) {
          (onDisk ? ours : baseline).push(await sample(onDisk));
        }
      }
    } finally {
      await spawner.stop();
    }
    return compare({
      name: 'cold-start-tmp',
      unit: 'ms',
      ours,
      baseline: { what: 'the same by raw stubs, with a tmpfs at /tmp', sample: baseline },
      budget: `p50 ≤ bare + ${BUDGET_MS} ms`,
      met: (mine, bareOnes) => mine.p50 - bareOnes.p50 <= BUDGET_MS,
    });
  },
};
