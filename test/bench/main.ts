// npm run bench [-- [GROUP] [--json FILE] [--only NAME ...] [--scale N]]
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { Argument, Command } from 'commander';
import { applyToRunning } from './apply-to-running.ts';
import { BareContainerd } from './bare-containerd.ts';
import { BenchInstance } from './bench-instance.ts';
import { type BenchResult, tableOf } from './bench-result.ts';
import { burst, burstCreated, burstRefilled } from './burst.ts';
import { busyWrites } from './busy-writes.ts';
import { coldStart } from './cold-start.ts';
import { coldStartTmp } from './cold-start-tmp.ts';
import { density } from './density.ts';
import { firstCall } from './first-call.ts';
import { functionStorm } from './function-storm.ts';
import { gatewayOverhead } from './gateway-overhead.ts';
import { gatewayStorm } from './gateway-storm.ts';
import { gatewayThroughput } from './gateway-throughput.ts';
import { hostileWords } from './hostile-words.ts';
import { loopHeld } from './loop-held.ts';
import { placement } from './placement.ts';
import { runtimeConcurrent } from './runtime-concurrent.ts';
import { runtimeOverhead } from './runtime-overhead.ts';
import { runtimeThroughput } from './runtime-throughput.ts';
import type { ClusterScenario, Scenario } from './scenario.ts';
import { streamFirstByte, streamThroughput } from './streams.ts';
import { takeover } from './takeover.ts';
import { wake } from './wake.ts';
import { wakeHundred, wakeTen } from './wake-many.ts';
import { warmOverhead } from './warm-overhead.ts';
import { warmThroughput } from './warm-throughput.ts';
import { workerMemory } from './worker-memory.ts';

const scenarios: readonly Scenario[] = [
  coldStart,
  coldStartTmp,
  wake,
  wakeTen,
  wakeHundred,
  firstCall,
  runtimeOverhead,
  runtimeThroughput,
  runtimeConcurrent,
  streamFirstByte,
  streamThroughput,
  warmOverhead,
  warmThroughput,
  applyToRunning,
  workerMemory,
  density,
  gatewayOverhead,
  gatewayThroughput,
  gatewayStorm,
  burst,
  burstRefilled,
  burstCreated,
  functionStorm,
];
const clusterScenarios: readonly ClusterScenario[] = [placement, takeover, busyWrites, hostileWords, loopHeld];
const all = [...scenarios, ...clusterScenarios];
const groups = new Set(all.flatMap(({ group }) => group ?? []));

interface BenchOptions {
  readonly json?: string;
  readonly only?: readonly string[];
  readonly scale: string;
}

function conditions(): Record<string, string | number> {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  return {
    date: new Date().toISOString(),
    commit: git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') === '' ? '' : ' with changes'),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    cgroup: readFileSync('/proc/self/mounts', 'utf8').includes(' /sys/fs/cgroup cgroup2 ') ? 'v2' : 'v1',
    node: process.version,
    loadBefore: (loadavg()[0] ?? 0).toFixed(2),
  };
}

/** Scenarios that can share an instance, by the options of its agent. */
function byAgentOptions(chosen: readonly Scenario[]): Map<string, Scenario[]> {
  return Map.groupBy(chosen, ({ agentOptions = [] }) => agentOptions.join(' '));
}

/** Rejects on SIGINT and SIGTERM, so that the instance or the cluster goes as it does after a scenario that failed. */
function interruption(): Promise<never> {
  const interrupted = Promise.withResolvers<never>();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // A terminal, timeout and npm each send it: a second one ends nothing sooner.
    process.on(signal, () => interrupted.reject(new Error(`interrupted by ${signal}`)));
  }
  interrupted.promise.catch(() => undefined);
  return interrupted.promise;
}

async function measureOn(
  instance: BenchInstance,
  chosen: readonly Scenario[],
  scale: number,
  say: (text: string) => void,
  interrupted: Promise<never>,
): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  const image = instance.image('python-counter');
  await instance.apply('donor', {});
  const donor = await instance.waitForPhase('donor', 'Running');
  const bare = new BareContainerd(instance);
  await bare.start(donor.status?.containerID ?? '', image);
  try {
    for (const scenario of chosen) {
      say(`${scenario.name} ...`);
      results.push(...tell(await Promise.race([scenario.run({ instance, bare, scale, say }), interrupted]), say));
    }
  } finally {
    await bare.stop();
  }
  return results;
}

async function measureAlone(
  scenario: ClusterScenario,
  scale: number,
  say: (text: string) => void,
  interrupted: Promise<never>,
): Promise<readonly BenchResult[]> {
  return tell(await scenario.run({ scale, say, interrupted }), say);
}

function tell(given: BenchResult | readonly BenchResult[], say: (text: string) => void): readonly BenchResult[] {
  const those = 'name' in given ? [given] : given;
  say([tableOf(those), ...those.map(({ note }) => note ?? '')].join('\n').trimEnd());
  return those;
}

/** Scenarios that are named, else those of the group, else those without a group. */
function chosenBy<T extends { readonly name: string; readonly group?: string }>(
  those: readonly T[],
  group: string | undefined,
  names: readonly string[] | undefined,
): readonly T[] {
  return those.filter(({ name, group: own }) => (names === undefined ? own === group : names.includes(name)));
}

async function measure(group: string | undefined, options: BenchOptions): Promise<boolean> {
  const say = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
  const interrupted = interruption();
  const chosen = chosenBy(scenarios, group, options.only);
  const described = conditions();
  const results: BenchResult[] = [];
  for (const [agentOptions, those] of byAgentOptions(chosen)) {
    say(`bringing up an instance of one node ${agentOptions} ...`);
    const instance = await BenchInstance.up(those[0]?.agentOptions ?? []);
    try {
      results.push(...(await measureOn(instance, those, Number(options.scale), say, interrupted)));
    } finally {
      await instance.down();
    }
  }
  for (const scenario of chosenBy(clusterScenarios, group, options.only)) {
    say(`${scenario.name} ...`);
    results.push(...(await measureAlone(scenario, Number(options.scale), say, interrupted)));
  }
  const output = { conditions: described, results };
  if (options.json !== undefined) {
    await writeFile(options.json, `${JSON.stringify(output, undefined, 2)}\n`);
  }
  console.log(
    `${Object.entries(described)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}\n`,
  );
  console.log(tableOf(results));
  for (const { name, note } of results) {
    if (note !== undefined) {
      console.log(`${name}: ${note}`);
    }
  }
  return results.every((result) => result.met);
}

const program = new Command('bench')
  .description('Measures ESB side by side with the bare mechanism, in the same run.')
  .addArgument(new Argument('[group]', 'in place of the usual ones, those of a group').choices([...groups]))
  .option('--json <file>', 'write conditions and results there')
  .option('--only <name...>', `some of: ${all.map((scenario) => scenario.name).join(', ')}`)
  .option('--scale <share>', 'share of the repetitions of a full run', '1')
  .action(async (group: string | undefined, options: BenchOptions) => {
    process.exitCode = (await measure(group, options)) ? 0 : 3;
  });
try {
  await program.parseAsync();
} catch (error) {
  console.error(error);
  // A scenario that was interrupted may still have timers and connections.
  process.exit(1);
}
