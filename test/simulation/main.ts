/**
 * `npm run test:simulation`: a whole node in memory, under seeds.
 *
 *   npm run test:simulation                               20 seeds of 50,000 steps, in two threads
 *   npm run test:simulation -- --seed 7 --steps 1200      one seed, with the end of its trace
 *   npm run test:simulation -- --from 100 --seeds 500     other seeds
 *   npm run test:simulation -- --takeover                 the agent is killed after each single step of two seeds
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
    takeover: { type: 'boolean', default: false },
    'kill-after': { type: 'string' },
  },
});

/** Steps of a run in which the agent is killed after one of them. */
const TAKEOVER_STEPS = 150;
/** One with workers of interface `Emulator` alone, and one with workers of both interfaces. */
const TAKEOVER_SEEDS = [2, 3];

function report(result: SimulationResult): void {
  const { calls, hash, killAfter, seed, simulatedSeconds, steps, trace, violation } = result;
  const kill = killAfter === undefined ? '' : ` --kill-after ${killAfter}`;
  if (violation !== undefined) {
    write(`${trace.join('\n')}\n\nseed ${seed} fails at step ${steps}: ${violation}\n`);
    write(`  npm run test:simulation -- --seed ${seed} --steps ${stepsOfRun(killAfter)}${kill}\n`);
  } else if (values.seed !== undefined) {
    write(`${trace.join('\n')}\n\nseed ${seed}: ${steps} steps, ${calls} calls, ${simulatedSeconds} s, hash ${hash}\n`);
  } else if (killAfter === undefined) {
    write(`seed ${seed}: ${steps} steps, ${calls} calls, ${simulatedSeconds} s, ${hash.slice(0, 12)}\n`);
  }
}

function write(text: string): void {
  process.stdout.write(text);
}

function stepsOfRun(killAfter: number | undefined): number {
  return killAfter === undefined || values.seed !== undefined ? Number(values.steps) : TAKEOVER_STEPS;
}

async function searchPlanted(): Promise<void> {
  const threads = Number(values.threads);
  for (const { changes, found, inits = false, name, within } of mutations) {
    const results = await runCampaign({ seeds: range(1, 80), steps: within, changes, inits, threads });
    const finders = results
      .filter(({ violation }) => violation !== undefined && found.test(violation))
      .toSorted((one, other) => one.steps - other.steps);
    const best = finders.slice(0, 5).map(({ seed, steps }) => `seed ${seed} after ${steps} steps`);
    write(`${name}: ${best.length === 0 ? `none within ${within} steps` : best.join(', ')}\n`);
  }
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

async function walk(): Promise<readonly SimulationResult[]> {
  const kill = values['kill-after'];
  return await runCampaign({
    seeds: values.seed === undefined ? range(Number(values.from), Number(values.seeds)) : [Number(values.seed)],
    steps: Number(values.steps),
    killAfter: kill === undefined ? [] : [Number(kill)],
    threads: Number(values.threads),
    onResult: report,
  });
}

/** Kills the agent after each single step. */
async function takeOver(): Promise<readonly SimulationResult[]> {
  const results = await runCampaign({
    seeds: TAKEOVER_SEEDS,
    steps: TAKEOVER_STEPS,
    killAfter: range(1, TAKEOVER_STEPS),
    threads: Number(values.threads),
    onResult: report,
  });
  write(`the agent was killed after each of ${TAKEOVER_STEPS} steps of the seeds ${TAKEOVER_SEEDS.join(' and ')}\n`);
  return results;
}

async function judge(run: () => Promise<readonly SimulationResult[]>): Promise<void> {
  const began = performance.now();
  const results = await run();
  const failed = results.filter(({ violation }) => violation !== undefined);
  const steps = results.reduce((sum, result) => sum + result.steps, 0);
  const seconds = ((performance.now() - began) / 1_000).toFixed(1);
  write(`${results.length - failed.length} passed, ${failed.length} failed: ${steps} steps in ${seconds} s\n`);
  process.exitCode = failed.length > 0 ? 1 : 0;
}

if (values.planted) {
  await searchPlanted();
} else {
  const isWhole = values.seed === undefined && !values.takeover;
  await judge(async () => [
    ...(values.takeover ? [] : await walk()),
    ...(values.takeover || isWhole ? await takeOver() : []),
  ]);
}
