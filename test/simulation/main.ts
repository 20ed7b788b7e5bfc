/**
 * `npm run test:simulation`: a whole node in memory, under seeds.
 *
 *   npm run test:simulation                               20 seeds of 50,000 steps, in two threads
 *   npm run test:simulation -- --seed 7 --steps 1200      one seed, with the end of its trace
 *   npm run test:simulation -- --from 100 --seeds 500     other seeds
 *   npm run test:simulation -- --planted                  seeds that find each planted fault, the quickest first
 */
import { programOptions } from '../../hack/program-options.ts';
import { runCampaign } from './campaign.ts';
import { mutations } from './mutations.ts';
import type { SimulationResult } from './simulation.ts';

const { values } = programOptions(import.meta.filename, {
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '20' },
    steps: { type: 'string', default: '50000' },
    threads: { type: 'string', default: '2' },
    planted: { type: 'boolean', default: false },
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

async function searchPlanted(): Promise<void> {
  const threads = Number(values.threads);
  for (const { changes, found, inits = false, name, within } of mutations) {
    const results = await runCampaign({ seeds: range(1, 80), steps: within, changes, inits, threads });
    const finders = results
      .filter(({ violation }) => violation !== undefined && found.test(violation))
      .toSorted((one, other) => one.steps - other.steps);
    const best = finders.slice(0, 5).map(({ seed, steps }) => `seed ${seed} after ${steps} steps`);
    process.stdout.write(`${name}: ${best.length === 0 ? `none within ${within} steps` : best.join(', ')}\n`);
  }
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

async function walk(): Promise<void> {
  const began = performance.now();
  const results = await runCampaign({
    seeds: values.seed === undefined ? range(Number(values.from), Number(values.seeds)) : [Number(values.seed)],
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
}

await (values.planted ? searchPlanted() : walk());
