/**
 * `npm test`: every check there is, from a clean clone on.
 *
 *   npm test                                   everything
 *   npm test -- unit integration               these stages only
 *   npm test -- test/unit/local/instance/parts.test.ts    tests whose path contains that, in the stages that have some
 *
 * A stage that fails stops no other one. The last line is `N passed, N failed`: tests, and one for each check that has
 * none. The reasons of every failure come right before it.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage } from '../hack/image/build-image.ts';
import { createProgress, formatDuration } from '../local/common/progress.ts';
import { repositoryRoot } from '../local/common/repository.ts';
import { ensureSampleImage, sampleImageNames } from '../local/image/sample-image.ts';
import { ensureNeeds, runningNeeds } from '../local/tools/debian-packages.ts';
import { helmFamily } from '../local/tools/tool-catalog.ts';
import { ensureTools } from '../local/tools/tools.ts';
import { EsbError, messageOf } from '../src/common/errors.ts';
import { ensureDockerPackages } from './support/docker-packages.ts';
import { operatorDefinitions } from './support/operator-definitions.ts';
import { ensurePythonClients } from './support/python-clients.ts';

/** What a stage came to. */
interface StageResult {
  readonly passed: number;
  readonly failed: number;
  /** Why, in the order in which things failed. */
  readonly reasons: readonly string[];
}

interface Stage {
  readonly name: string;
  /** The longest that it may take, in minutes; what runs longer hangs. */
  readonly minutes: number;
  run(stage: Stage): Promise<StageResult>;
}

const root = repositoryRoot();
const bin = join(root, 'node_modules', '.bin');
const REASON_LENGTH = 3_000;
const KEPT_OUTPUT = 20_000;

const progress = createProgress({ write: (text) => process.stdout.write(text) });

const stages: readonly Stage[] = [
  { name: 'programs', minutes: 60, run: () => check(preparePrograms) },
  {
    name: 'generate',
    minutes: 5,
    run: (stage) => program(stage, process.execPath, ['hack/generate.ts', '--check']),
  },
  { name: 'lint', minutes: 10, run: lint },
  { name: 'types', minutes: 10, run: (stage) => program(stage, join(bin, 'tsc'), ['--noEmit']) },
  { name: 'unit', minutes: 15, run: vitest },
  { name: 'integration', minutes: 55, run: vitest },
  { name: 'install', minutes: 25, run: vitest },
  { name: 'e2e', minutes: 60, run: vitest },
];

const asked = process.argv.slice(2);
const stageNames = new Set(stages.map((stage) => stage.name));
const filters = asked.filter((word) => !stageNames.has(word));
const chosen = new Set(asked.filter((word) => stageNames.has(word)));

/** Stages that run third-party programs. */
const onRealParts = new Set(['integration', 'install', 'e2e']);

/** Whether the stage has a test file whose path contains one of the words. */
function hasTests({ name }: Stage, words: readonly string[]): boolean {
  const isInstall = (file: string): boolean => /^test\/e2e\/01-/.test(file);
  const folder = name === 'install' ? 'e2e' : name;
  return readdirSync(join(root, 'test', folder), { recursive: true, encoding: 'utf8' })
    .map((file) => join('test', folder, file))
    .filter(
      (file) => file.endsWith('.test.ts') && (folder !== 'e2e' || isInstall(file) === (name === 'install')),
    )
    .some((file) => words.some((word) => join(root, file).includes(word)));
}

function isWanted(stage: Stage): boolean {
  if (stage.name === 'programs' && !chosen.has(stage.name)) {
    return chosen.size > 0
      ? [...chosen].some((name) => onRealParts.has(name))
      : filters.length === 0 || stages.some((each) => onRealParts.has(each.name) && hasTests(each, filters));
  }
  if (chosen.size > 0) {
    return chosen.has(stage.name);
  }
  return filters.length === 0 || (stage.run === vitest && hasTests(stage, filters));
}

/** What integration and end-to-end tests run: programs of the system, third-party programs, images, AWS clients. */
async function preparePrograms(): Promise<void> {
  if (process.platform === 'linux') {
    await ensureNeeds(runningNeeds, progress);
  }
  const tools = await ensureTools({ progress });
  await ensureTools({ progress, families: [helmFamily] });
  for (const name of sampleImageNames) {
    await ensureSampleImage(name, { progress, tools: tools.folder });
  }
  // Keeps what its tests build it from again, without a network.
  await buildImage({ progress });
  await ensurePythonClients(progress);
  await operatorDefinitions();
  if (process.platform === 'linux') {
    await ensureDockerPackages(progress);
  }
}

async function check(work: () => Promise<void>): Promise<StageResult> {
  try {
    await work();
    return { passed: 1, failed: 0, reasons: [] };
  } catch (error) {
    const known = error instanceof EsbError ? messageOf(error) : String((error as Error).stack ?? error);
    return { passed: 0, failed: 1, reasons: [known] };
  }
}

interface ProgramResult {
  readonly ok: boolean;
  readonly how: string;
  /** The end of what it wrote. */
  readonly output: string;
}

/** Runs a program, shows what it writes, and keeps the end of it. Its whole process group is killed when it hangs. */
async function runProgram(stage: Stage, path: string, args: readonly string[]): Promise<ProgramResult> {
  const child = spawn(path, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, PATH: `${bin}:${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
  });
  let output = '';
  const keep = (chunk: Buffer): void => {
    process.stdout.write(chunk);
    output = (output + chunk.toString()).slice(-KEPT_OUTPUT);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const killGroup = (): void => {
    if (child.pid !== undefined) {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // Gone already.
      }
    }
  };
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    killGroup();
  }, stage.minutes * 60_000);
  process.once('exit', killGroup);
  const done = Promise.withResolvers<ProgramResult>();
  child.on('error', (error) => done.resolve({ ok: false, how: error.message, output }));
  child.on('close', (code, signal) => {
    const how = hung
      ? `still ran after ${stage.minutes} minutes and was killed`
      : signal === null
        ? `exit code ${code ?? 0}`
        : `ended by ${signal}`;
    done.resolve({ ok: code === 0, how, output });
  });
  try {
    return await done.promise;
  } finally {
    clearTimeout(timer);
    process.removeListener('exit', killGroup);
  }
}

async function program(stage: Stage, path: string, args: readonly string[]): Promise<StageResult> {
  const { ok, how, output } = await runProgram(stage, path, args);
  return ok
    ? { passed: 1, failed: 0, reasons: [] }
    : { passed: 0, failed: 1, reasons: [`${how}\n${output.slice(-REASON_LENGTH)}`] };
}

async function lint(stage: Stage): Promise<StageResult> {
  const first = await program(stage, join(bin, 'biome'), ['check', '.']);
  const second = await program(stage, join(bin, 'oxlint'), ['--type-aware']);
  const third = await program(stage, process.execPath, [join(root, 'hack/prose.ts')]);
  return {
    passed: first.passed + second.passed + third.passed,
    failed: first.failed + second.failed + third.failed,
    reasons: [...first.reasons, ...second.reasons, ...third.reasons],
  };
}

/** The part of vitest's JSON report that is read here. */
interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[] | null;
    }[];
  }[];
}

async function vitest(stage: Stage): Promise<StageResult> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-test-'));
  try {
    const report = join(folder, 'report.json');
    const { ok, how, output } = await runProgram(stage, join(bin, 'vitest'), [
      'run',
      `--project=${stage.name}`,
      '--passWithNoTests',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
      ...filters,
    ]);
    return await resultOf(stage, report, ok, `${how}\n${output.slice(-REASON_LENGTH)}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function resultOf(stage: Stage, file: string, ok: boolean, how: string): Promise<StageResult> {
  let report: VitestReport;
  try {
    report = JSON.parse(await readFile(file, 'utf8')) as VitestReport;
  } catch {
    return ok && filters.length > 0
      ? { passed: 0, failed: 0, reasons: [] }
      : { passed: 0, failed: 1, reasons: [`vitest left no report: ${how}`] };
  }
  const reasons: string[] = [];
  for (const suite of report.testResults) {
    const path = suite.name.replace(`${root}/`, '');
    const failed = suite.assertionResults.filter((test) => test.status === 'failed');
    for (const test of failed) {
      const why = (test.failureMessages ?? []).join('\n').slice(0, REASON_LENGTH);
      reasons.push(`${path} > ${test.fullName}\n${why}`);
    }
    if (suite.status === 'failed' && failed.length === 0) {
      reasons.push(`${path}\n${suite.message.slice(0, REASON_LENGTH)}`);
    }
  }
  if (report.numPendingTests > 0) {
    // A skipped test is not a passed one.
    reasons.push(`${report.numPendingTests} tests of ${stage.name} did not run`);
  }
  if (!ok && reasons.length === 0) {
    reasons.push(how);
  }
  const failed = Math.max(report.numFailedTests, reasons.length);
  return { passed: report.numPassedTests, failed, reasons };
}

async function main(): Promise<void> {
  let passed = 0;
  let failed = 0;
  const failures: string[] = [];
  const lines: string[] = [];
  const wanted = stages.filter(isWanted);
  if (wanted.length === 0) {
    failures.push(`✗ no test file has a path that contains ${filters.join(' or ')}`);
    failed += 1;
  }
  for (const stage of wanted) {
    process.stdout.write(`\n=== ${stage.name}\n`);
    const began = performance.now();
    const result = await stage.run(stage);
    passed += result.passed;
    failed += result.failed;
    failures.push(...result.reasons.map((reason) => `✗ ${stage.name}: ${reason.trim()}`));
    const line = `${stage.name.padEnd(12)} ${result.failed === 0 ? 'passed' : 'FAILED'}  ${formatDuration(performance.now() - began)}`;
    lines.push(line);
    process.stdout.write(`--- ${line}\n`);
  }
  if (failures.length > 0) {
    process.stdout.write(`\nWhat failed:\n\n${failures.join('\n\n')}\n`);
  }
  process.stdout.write(`\n${lines.join('\n')}\n\n${passed} passed, ${failed} failed\n`);
  process.exitCode = failed > 0 ? 1 : 0;
}

await main();
