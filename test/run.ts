/**
 * `npm test`: every check there is, from a clean clone on.
 *
 *   npm test                                   everything
 *   npm test -- unit integration               these stages only
 *   npm test -- test/unit/local/instance/parts.test.ts    tests whose path contains that, in the stages that have some
 *   npm test -- --changed [REF]                checks and tests of the difference to a Git reference (main)
 *   npm test -- --tag P5                       tests of one pitfall, or of one attempt of a tenant
 *   npm test -- --serial                       one stage at a time
 *   npm test -- --record                       writes the duration of each file to test/durations.json
 *
 * A stage that fails stops no other one. At the end, files that failed run once more, each alone; files that pass then
 * are told as flaky. The end of the output has the slowest files, a line for each stage, and `N passed, N failed`:
 * tests, and one for each check that has none. The reasons of every failure come right before.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { programOptions } from '../hack/program-options.ts';
import { formatDuration } from '../src/cli/progress.ts';
import { EsbError, messageOf } from '../src/common/errors.ts';
import { filesOf, type TestStage, testStages } from './runner/files.ts';
import { checkFlaky, type FlakyEntry, filesToRepeat, judgeFlaky } from './runner/flaky.ts';
import { leftovers } from './runner/leftovers.ts';
import { preparePrograms } from './runner/prepare.ts';
import { bin, root, runProgram } from './runner/program.ts';
import { endOf, type FailedFile, nothing, readReport, type StageResult, sum } from './runner/result.ts';
import { type Selection, type StageSelection, select } from './runner/selection.ts';

interface Stage {
  readonly name: string;
  /** Longest duration in minutes; a stage that runs longer hangs. */
  readonly minutes: number;
  run(stage: Stage, write: (text: string) => void): Promise<StageResult>;
}

const durationsFile = join(root, 'test/durations.json');
const checks = ['programs', 'generate', 'lint', 'types', 'simulation'] as const;
const SLOWEST = 15;

const { values: options, positionals } = programOptions(import.meta.filename, {
  args: withReference(process.argv.slice(2)),
  allowPositionals: true,
  options: {
    changed: { type: 'string' },
    tag: { type: 'string' },
    serial: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
  },
});
const selection: Selection = select({ words: positionals, changed: options.changed, tag: options.tag }, checks);

/** Name of this run, and folder for everything that its tests write: `/tmp/esb-1a2b`, as paths of sockets are short. */
const run = randomBytes(2).toString('hex');
const folder = join(tmpdir(), `esb-${run}`);
/** Whether namespaces of its own can be had for a stage. */
const canBeApart =
  process.platform === 'linux' && spawnSync(join(root, 'test/support/apart.sh'), ['true']).status === 0;

const checkStages: readonly Stage[] = [
  { name: 'programs', minutes: 60, run: () => check(() => preparePrograms({ image: isImageTested() })) },
  {
    name: 'generate',
    minutes: 5,
    run: (stage, write) => program(stage, write, process.execPath, ['hack/generate.ts', '--check']),
  },
  { name: 'lint', minutes: 10, run: lint },
  {
    name: 'types',
    minutes: 10,
    run: (stage, write) => program(stage, write, join(bin, 'tsc'), ['--noEmit']),
  },
];
const unit: Stage = { name: 'unit', minutes: 15, run: vitest };
const simulation: Stage = {
  name: 'simulation',
  minutes: 10,
  run: (stage, write) => {
    const seeds = options.changed === undefined ? [] : ['--seeds', '4'];
    return program(stage, write, process.execPath, ['test/simulation/main.ts', ...seeds]);
  },
};
const integration: Stage = { name: 'integration', minutes: 55, run: vitest };
const alone: Stage = { name: 'alone', minutes: 15, run: vitest };
const install: Stage = { name: 'install', minutes: 25, run: vitest };
const e2e: Stage = { name: 'e2e', minutes: 60, run: vitest };

/** Stages in the order in which they run. Inside of a step, rows of stages run side by side. */
const steps: readonly (readonly (readonly Stage[])[])[] = [
  ...checkStages.map((stage) => [[stage]]),
  ...testSteps(),
  [[alone]],
];

function testSteps(): readonly (readonly (readonly Stage[])[])[] {
  if (options.serial || !canBeApart) {
    return [[[unit]], [[simulation]], [[integration, install, e2e]]];
  }
  // Tests on real parts wait more than they compute. Integration tests have namespaces of their own; an instance has
  // those of the machine.
  return options.changed === undefined
    ? [[[unit]], [[simulation]], [[integration], [install, e2e]]]
    : [
        [
          [unit, simulation],
          [integration, install, e2e],
        ],
      ];
}

/** Whether a test of the image is to run. The build takes a minute, and its other users bring their own. */
function isImageTested(): boolean {
  const words = selection.tests.get('integration')?.words;
  const files = filesOf('integration').filter((file) => file.startsWith('test/integration/image/'));
  return words !== undefined && (words.length === 0 || files.some((file) => words.some((word) => file.includes(word))));
}

/** Stages that run third-party programs. */
const onRealParts: ReadonlySet<string> = new Set(['integration', 'alone', 'install', 'e2e']);

function isWanted({ name }: Stage): boolean {
  const { tests } = selection;
  if (name === 'programs') {
    return selection.checks?.has(name) !== false || [...tests.keys()].some((each) => onRealParts.has(each));
  }
  return checks.includes(name as (typeof checks)[number])
    ? selection.checks?.has(name) !== false
    : tests.has(name as TestStage);
}

async function check(work: () => Promise<void>): Promise<StageResult> {
  try {
    await work();
    return { ...nothing, passed: 1 };
  } catch (error) {
    const known = error instanceof EsbError ? messageOf(error) : String((error as Error).stack ?? error);
    return { ...nothing, failed: 1, reasons: [known] };
  }
}

async function program(
  { minutes }: Stage,
  write: (text: string) => void,
  path: string,
  args: readonly string[],
): Promise<StageResult> {
  const { ok, how, output } = await runProgram(path, args, { minutes, write });
  return ok ? { ...nothing, passed: 1 } : { ...nothing, failed: 1, reasons: [`${how}\n${endOf(output)}`] };
}

async function lint(stage: Stage, write: (text: string) => void): Promise<StageResult> {
  const files = selection.lintFiles;
  const linted = files?.filter((file) => /\.(ts|mjs)$/.test(file));
  if (linted?.length === 0) {
    return nothing;
  }
  return sum([
    await program(stage, write, join(bin, 'biome'), ['check', ...(linted ?? ['.'])]),
    await program(stage, write, join(bin, 'oxlint'), ['--type-aware', ...(linted ?? [])]),
  ]);
}

function vitest(stage: Stage, write: (text: string) => void): Promise<StageResult> {
  return runTests(stage, selection.tests.get(stage.name as TestStage) as StageSelection, write);
}

async function runTests(
  stage: Stage,
  { words, args }: StageSelection,
  write: (text: string) => void,
): Promise<StageResult> {
  const report = join(folder, `${stage.name}.json`);
  const durations = join(folder, `${stage.name}-durations.json`);
  rmSync(report, { force: true });
  const command = [
    join(bin, 'vitest'),
    'run',
    `--project=${stage.name}`,
    '--passWithNoTests',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    `--reporter=${join(root, 'test/runner/duration-reporter.ts')}`,
    ...args,
    ...words,
  ];
  const inNamespaces = canBeApart && (stage === integration || stage === alone);
  const prefix = inNamespaces
    ? [join(root, 'test/support/apart.sh'), process.execPath, join(root, 'test/runner/lane.ts')]
    : [];
  const [path = '', ...rest] = [...prefix, ...command];
  const { ok, how, output } = await runProgram(path, rest, {
    minutes: stage.minutes,
    write,
    env: {
      ESB_TEST_RUN: run,
      TMPDIR: join(folder, 't'),
      ESB_DURATIONS: durations,
      NODE_COMPILE_CACHE: join(folder, 'compiled'),
    },
  });
  const result = await readReport(report, {
    stage: stage.name,
    ok,
    how: `${how}\n${endOf(output)}`,
    mayBeEmpty: words.length > 0 || args.length > 0,
    mayLeaveOut: options.tag !== undefined,
  });
  const seconds = JSON.parse(await readFile(durations, 'utf8').catch(() => '{}')) as Record<string, number>;
  return { ...result, seconds };
}

/** Lines of the stages that have ended, in that order. */
const table: string[] = [];
const failures: string[] = [];

async function runStage(stage: Stage, beside: boolean): Promise<StageResult> {
  const label = beside ? `${stage.name.padEnd(11)} | ` : '';
  const write = (text: string): void => {
    process.stdout.write(beside ? text.replaceAll(/^(?=.|\n.)/gm, label) : text);
  };
  process.stdout.write(`\n=== ${stage.name}\n`);
  const began = performance.now();
  const result = await stage.run(stage, write);
  failures.push(...result.reasons.map((reason) => failureOf(stage.name, reason)));
  const verdict = result.failed === 0 ? 'passed' : 'FAILED';
  const line = `${stage.name.padEnd(12)} ${verdict}  ${formatDuration(performance.now() - began)}`;
  table.push(line);
  process.stdout.write(`--- ${line}\n`);
  return result;
}

function failureOf(stage: string, reason: string): string {
  return `✗ ${stage}: ${reason.trim()}`;
}

/** Runs failed files once more, each alone, and returns the files that passed then. */
async function repeatFailed(failed: readonly FailedFile[]): Promise<ReadonlyMap<FailedFile, number>> {
  const passed = new Map<FailedFile, number>();
  const stages = [unit, integration, alone, install, e2e];
  for (const each of filesToRepeat(failed)) {
    const stage = stages.find(({ name }) => name === each.stage) as Stage;
    process.stdout.write(`\n=== ${each.file}, once more and alone\n`);
    const { args } = selection.tests.get(stage.name as TestStage) as StageSelection;
    const again = await runTests(stage, { words: [each.file], args }, (text) => process.stdout.write(text));
    if (again.failed === 0 && again.passed > 0) {
      passed.set(each, again.passed);
    } else {
      failures.push(...again.reasons.map((reason) => failureOf(stage.name, `once more: ${reason}`)));
    }
  }
  return passed;
}

/** Result of the files that failed at first: a file that passed alone counts as passed and is told as flaky. */
async function settleFailed(failed: readonly FailedFile[]): Promise<StageResult> {
  const entries = JSON.parse(await readFile(join(root, 'test/flaky.json'), 'utf8')) as readonly FlakyEntry[];
  const flaky = await repeatFailed(failed);
  let result = nothing;
  for (const each of failed) {
    const again = flaky.get(each);
    if (again === undefined) {
      failures.push(...each.reasons.map((reason) => failureOf(each.stage, reason)));
      continue;
    }
    const first = each.reasons.map((reason) => reason.trim()).join('\n');
    process.stdout.write(
      `\n≈ flaky: ${each.file} failed and passed alone (${again} tests); enter it in test/flaky.json\n${first}\n`,
    );
    result = sum([result, { ...nothing, passed: again - each.passed, failed: -each.reasons.length }]);
  }
  const files = [...flaky.keys()].map(({ file }) => file);
  const reasons = [...checkFlaky(entries, testStages.flatMap(filesOf), Date.now()), ...judgeFlaky(files, entries)];
  failures.push(...reasons.map((reason) => `✗ ${reason}`));
  table.push(`${'flaky'.padEnd(12)} ${files.length === 0 ? 'none' : files.join(', ')}`);
  return sum([result, { ...nothing, failed: reasons.length }]);
}

async function inTurn(stages: readonly Stage[], beside: boolean): Promise<StageResult> {
  const results: StageResult[] = [];
  for (const stage of stages) {
    results.push(await runStage(stage, beside));
  }
  return sum(results);
}

async function main(): Promise<void> {
  mkdirSync(join(folder, 't'), { recursive: true });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Ends the programs of the stages, too.
    process.once(signal, () => process.exit(1));
  }
  process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  const began = performance.now();
  const results: StageResult[] = [];
  if (selection.empty !== undefined) {
    results.push({ ...nothing, failed: options.changed === undefined ? 1 : 0, reasons: [selection.empty] });
    failures.push(`✗ ${selection.empty}`);
  }
  for (const step of steps) {
    const rows = step.map((row) => row.filter(isWanted)).filter((row) => row.length > 0);
    results.push(...(await Promise.all(rows.map((row) => inTurn(row, rows.length > 1)))));
  }
  results.push(await settleFailed(sum(results).failedFiles ?? []));
  results.push(tidy());
  const { passed, failed, seconds = {} } = sum(results);
  const slowest = Object.entries(seconds)
    .toSorted(([, one], [, other]) => other - one)
    .slice(0, SLOWEST);
  if (options.record) {
    await record(seconds);
  }
  if (slowest.length > 1) {
    const lines = slowest.map(([file, each]) => `${each.toFixed(1).padStart(7)} s  ${file}`);
    process.stdout.write(`\nSlowest files:\n\n${lines.join('\n')}\n`);
  }
  if (failures.length > 0) {
    process.stdout.write(`\nWhat failed:\n\n${failures.join('\n\n')}\n`);
  }
  table.push(`${'in all'.padEnd(12)} ${' '.repeat(6)}  ${formatDuration(performance.now() - began)}`);
  process.stdout.write(`\n${table.join('\n')}\n\n${passed} passed, ${failed} failed\n`);
  process.exitCode = failed > 0 ? 1 : 0;
}

/** Fails when tests have left something on the machine; removes the folder of the run. */
function tidy(): StageResult {
  const left = leftovers(run, join(folder, 't'));
  if (left.length > 0) {
    failures.push(`✗ the tests left this on the machine:\n${left.join('\n')}`);
  }
  return { ...nothing, passed: left.length === 0 ? 1 : 0, failed: left.length === 0 ? 0 : 1 };
}

async function record(seconds: Readonly<Record<string, number>>): Promise<void> {
  const before = JSON.parse(await readFile(durationsFile, 'utf8')) as Record<string, number>;
  const known = { ...before, ...seconds };
  const long = testStages
    .flatMap(filesOf)
    .map((file) => [file, known[file] ?? 0] as const)
    .filter(([, each]) => each >= 1);
  const text = JSON.stringify(Object.fromEntries(long), undefined, 2);
  await writeFile(durationsFile, `${text}\n`);
}

/** Arguments with the reference that `--changed` has by itself. */
function withReference(args: readonly string[]): string[] {
  return args.flatMap((word, index) => {
    const next = args[index + 1];
    return word === '--changed' && (next === undefined || next.startsWith('-')) ? ['--changed=main'] : [word];
  });
}

await main();
