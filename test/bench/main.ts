// npm run bench [-- --json FILE] [--only NAME ...] [--scale N]
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { Command } from 'commander';
import { applyToRunning } from './apply-to-running.ts';
import { BareContainerd } from './bare-containerd.ts';
import { BenchInstance } from './bench-instance.ts';
import { type BenchResult, tableOf } from './bench-result.ts';
import { coldStart } from './cold-start.ts';
import type { Scenario } from './scenario.ts';
import { wake } from './wake.ts';
import { wakeMany } from './wake-many.ts';
import { warmOverhead } from './warm-overhead.ts';
import { warmThroughput } from './warm-throughput.ts';

const scenarios: readonly Scenario[] = [
  coldStart,
  wake,
  wakeMany,
  warmOverhead,
  warmThroughput,
  applyToRunning,
];

interface BenchOptions {
  readonly json?: string;
  readonly only?: readonly string[];
  readonly scale: string;
}

function conditions(): Record<string, string | number> {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  return {
    date: new Date().toISOString(),
    commit:
      git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') === '' ? '' : ' with changes'),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    cgroup: readFileSync('/proc/self/mounts', 'utf8').includes(' /sys/fs/cgroup cgroup2 ') ? 'v2' : 'v1',
    node: process.version,
    loadBefore: (loadavg()[0] ?? 0).toFixed(2),
  };
}

async function measure(options: BenchOptions): Promise<boolean> {
  const say = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
  const chosen = scenarios.filter((scenario) => options.only?.includes(scenario.name) ?? true);
  const described = conditions();
  say('bringing up an instance of one node ...');
  const instance = await BenchInstance.up();
  const results: BenchResult[] = [];
  try {
    const image = instance.image('python-counter');
    await instance.apply('donor', {});
    const donor = await instance.waitForPhase('donor', 'Running');
    const bare = new BareContainerd(instance);
    await bare.start(donor.status?.containerID ?? '', image);
    try {
      for (const scenario of chosen) {
        say(`${scenario.name} ...`);
        const result = await scenario.run({ instance, bare, scale: Number(options.scale), say });
        results.push(result);
        say(`${tableOf([result])}${result.note === undefined ? '' : `\n${result.note}`}`);
      }
    } finally {
      await bare.stop();
    }
  } finally {
    await instance.down();
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
  .option('--json <file>', 'write conditions and results there')
  .option('--only <name...>', `some of: ${scenarios.map((scenario) => scenario.name).join(', ')}`)
  .option('--scale <share>', 'share of the repetitions of a full run', '1')
  .action(async (options: BenchOptions) => {
    process.exitCode = (await measure(options)) ? 0 : 3;
  });
await program.parseAsync();
