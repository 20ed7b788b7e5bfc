/**
 * `npm run test:simulation`: a whole node in memory, under seeds.
 *
 *   npm run test:simulation                               20 seeds of 50,000 steps, in two threads
 *   npm run test:simulation -- --seed 7 --steps 1200      one seed, with the end of its trace
 *   npm run test:simulation -- --from 100 --seeds 500     other seeds
 */
import { programOptions } from '../../hack/program-options.ts';
import { runCampaign } from './campaign.ts';
import type { SimulationResult } from './simulation.ts';

const { values } = programOptions(import.meta.filename, {
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '20' },
    steps: { type: 'string', default: '50000' },
    threads: { type: 'string', default: '2' },
  },
});

function report(result: SimulationResult): void {
  const { calls, hash, seed, simulatedSeconds, steps, trace, violation } = result;
  if (violation === undefined && values.seed === undefined) {
    process.stdout.write(`seed ${seed}: ${steps} steps, ${calls} calls, ${simulatedSeconds} s, ${hash.slice(0, 12)}\n`);
    return;
  }
  process.stdout.write(`${trace.join('\n')}\n\n`);
  process.stdout.write(
    violation === undefined
      ? `seed ${seed}: ${steps} steps, ${calls} calls, ${simulatedSeconds} s, hash ${hash}\n`
      : `seed ${seed} fails at step ${steps}: ${violation}\n  npm run test:simulation -- --seed ${seed} --steps ${values.steps}\n`,
  );
}

const seeds =
  values.seed === undefined
    ? Array.from({ length: Number(values.seeds) }, (_, index) => Number(values.from) + index)
    : [Number(values.seed)];
const began = performance.now();
const results = await runCampaign({
  seeds,
  steps: Number(values.steps),
  threads: Number(values.threads),
  onResult: report,
});
const failed = results.filter(({ violation }) => violation !== undefined);
const steps = results.reduce((sum, result) => sum + result.steps, 0);
const seconds = ((performance.now() - began) / 1_000).toFixed(1);
process.stdout.write(
  `${results.length - failed.length} passed, ${failed.length} failed: ${steps} steps in ${seconds} s\n`,
);
process.exitCode = failed.length > 0 ? 1 : 0;
