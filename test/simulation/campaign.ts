import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { SourceChange } from './hooks.ts';
import type { SimulationResult } from './simulation.ts';

export interface CampaignOptions {
  readonly seeds: readonly number[];
  /** Of each seed. */
  readonly steps: number;
  /** Default 2: runners of continuous integration have two processors. */
  readonly threads?: number;
  /** Changes of the source. Default none. */
  readonly changes?: readonly SourceChange[];
  /** Whether there are workers of interface `Lambda`. Default by the seed. */
  readonly inits?: boolean | undefined;
  /** Steps after each of which the agent is killed, in a run of its own of each seed. Default one run without that. */
  readonly killAfter?: readonly number[];
  /** Whether the first violation ends it all. Default false. */
  readonly untilViolation?: boolean;
  readonly onResult?: (result: SimulationResult) => void;
}

/** Runs seeds in threads of their own, each with the agent's files in memory. Results are in the order of their end. */
export async function runCampaign(options: CampaignOptions): Promise<readonly SimulationResult[]> {
  const { changes = [], inits, killAfter = [], onResult, seeds, steps, threads = 2, untilViolation = false } = options;
  const kills = killAfter.length === 0 ? [undefined] : killAfter;
  const left = seeds.flatMap((seed) => kills.map((kill) => ({ seed, steps, killAfter: kill })));
  const count = left.length;
  const results: SimulationResult[] = [];
  const runThread = async (): Promise<void> => {
    const worker = new Worker(join(import.meta.dirname, 'run-worker.ts'), {
      workerData: { changes, inits },
      resourceLimits: { maxYoungGenerationSizeMb: 64 },
    });
    const failed = new Promise<never>((_resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', () => reject(new Error('a thread of the simulation has ended')));
    });
    failed.catch(() => undefined);
    try {
      for (let run = left.shift(); run !== undefined; run = left.shift()) {
        const answered = new Promise<SimulationResult>((resolve) => {
          worker.once('message', resolve);
        });
        worker.postMessage(run);
        const result = await Promise.race([answered, failed]);
        results.push(result);
        onResult?.(result);
        if (untilViolation && result.violation !== undefined) {
          left.length = 0;
        }
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(threads, count) }, runThread));
  return results;
}
