import { join } from 'node:path';
import { testsByTag } from '../support/test-tags.ts';
import { affectedBy, changedFiles, unitTestsOf } from './changed.ts';
import { filesOf, stageOf, type TestStage, testStages } from './files.ts';
import { root } from './program.ts';

/** Tests of one stage to run: all of them, or those whose path contains one of the words. */
export interface StageSelection {
  readonly words: readonly string[];
  /** More arguments for vitest. */
  readonly args: readonly string[];
}

/** Stages and tests that the arguments of `npm test` name. */
export interface Selection {
  /** Names of the checks to run beside tests; undefined for all. */
  readonly checks: ReadonlySet<string> | undefined;
  /** Files to lint; undefined for all. */
  readonly lintFiles: readonly string[] | undefined;
  readonly tests: ReadonlyMap<TestStage, StageSelection>;
  /** Reason why there is nothing to run. */
  readonly empty?: string;
}

export interface Arguments {
  readonly words: readonly string[];
  /** Git reference that changes are counted from. */
  readonly changed?: string | undefined;
  readonly tag?: string | undefined;
}

export function select({ words, changed, tag }: Arguments, checks: readonly string[]): Selection {
  if (changed !== undefined) {
    return changes(changed);
  }
  if (tag !== undefined) {
    const files = (testsByTag(root).get(tag) ?? []).map(({ file }) => file);
    return {
      checks: new Set(),
      lintFiles: undefined,
      tests: byStage(files, [`--tagsFilter=${tag}`]),
      ...(files.length === 0 ? { empty: `no test has the tag ${tag}` } : {}),
    };
  }
  const names = words.filter((word) => checks.includes(word) || (testStages as readonly string[]).includes(word));
  const filters = words.filter((word) => !names.includes(word));
  if (names.includes('integration') && !names.includes('alone')) {
    names.push('alone');
  }
  const all = words.length === 0;
  const tests = new Map(
    testStages
      .filter((stage) => all || names.includes(stage) || names.length === 0)
      .filter((stage) => filters.length === 0 || hasTests(stage, filters))
      .map((stage) => [stage, { words: filters, args: [] }]),
  );
  const chosen = new Set(names.filter((name) => checks.includes(name)));
  return {
    checks: all ? undefined : chosen,
    lintFiles: undefined,
    tests,
    ...(tests.size === 0 && chosen.size === 0 && !all
      ? { empty: `no test file has a path that contains ${filters.join(' or ')}` }
      : {}),
  };
}

/** Sources that the simulation of a node consists of or runs. */
const simulated = /^(src\/(agent|common|gateway\/agents)\/|test\/(simulation|support)\/)/;

function changes(ref: string): Selection {
  const files = changedFiles(ref);
  const code = files.filter((file) => /\.(ts|mjs|js|json)$/.test(file));
  const unit = files.length === 0 ? [] : unitTestsOf(files, filesOf('unit'));
  const tests = byStage([...affectedBy(files, testStages.flatMap(filesOf)), ...unit], []);
  return {
    checks: new Set([
      ...(files.length === 0 ? [] : ['generate', 'lint']),
      ...(code.length > 0 ? ['types'] : []),
      ...(code.some((file) => simulated.test(file)) ? ['simulation'] : []),
    ]),
    lintFiles: files,
    tests,
    ...(files.length === 0 ? { empty: `nothing has changed since ${ref}` } : {}),
  };
}

function byStage(files: readonly string[], args: readonly string[]): ReadonlyMap<TestStage, StageSelection> {
  const unique = [...new Set(files)];
  return new Map(
    testStages
      .map((stage) => [stage, { words: unique.filter((file) => stageOf(file) === stage), args }] as const)
      .filter(([, { words }]) => words.length > 0),
  );
}

function hasTests(stage: TestStage, words: readonly string[]): boolean {
  return filesOf(stage).some((file) => words.some((word) => join(root, file).includes(word)));
}
