import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { affectedBy, testsOfFolder, unitTestsOf } from '../runner/changed.ts';
import { filesAlone, filesOf, stageOf, testStages } from '../runner/files.ts';
import { checkFlaky, filesToRepeat, isSafetyTest, judgeFlaky } from '../runner/flaky.ts';
import { root } from '../runner/program.ts';
import { readReport } from '../runner/result.ts';
import { select } from '../runner/selection.ts';

const checks = ['programs', 'lint'];
const all = testStages.flatMap(filesOf);
const seconds = JSON.parse(readFileSync(join(root, 'test/durations.json'), 'utf8')) as Record<string, number>;

describe('arguments of npm test', () => {
  it('choose everything, stages, or files in the stages that have them', () => {
    const chosen = (...words: readonly string[]) => {
      const { checks: some, tests } = select({ words }, checks);
      return [some === undefined ? 'all' : [...some].join(), [...tests.keys()].join()];
    };
    expect(chosen()).toEqual(['all', 'unit,integration,alone,install,e2e']);
    expect(chosen('lint', 'unit')).toEqual(['lint', 'unit']);
    expect(chosen('integration')).toEqual(['', 'integration,alone']);
    expect(chosen('test/integration/runtime/thaw')).toEqual(['', 'integration']);
    expect(chosen('agent/fast-path')).toEqual(['', 'alone']);
    expect(chosen('e2e', '05-pause')).toEqual(['', 'e2e']);
    expect(select({ words: ['no-such-file'] }, checks).empty).toContain('no-such-file');
  });

  it('choose the tests of a tag', () => {
    const { tests } = select({ words: [], tag: 'G7' }, checks);
    expect([...tests.keys()]).toEqual(['unit']);
    expect(tests.get('unit')?.args).toEqual(['--tagsFilter=G7']);
    expect(select({ words: [], tag: 'G99' }, checks).empty).toContain('G99');
  });
});

describe('tests of what changed', () => {
  it('are those of the folder, by its longest name, and tests that changed themselves', () => {
    expect(affectedBy(['src/runtime/logs/rotating-log.ts'], all)).toEqual(['test/integration/runtime/logs.test.ts']);
    expect(affectedBy(['test/e2e/05-pause.test.ts', 'docs/README.md'], all)).toEqual(['test/e2e/05-pause.test.ts']);
  });

  it('are unit tests of the folder, those that import a changed file, and those that read the source', () => {
    const texts: Readonly<Record<string, string>> = {
      'test/unit/cni/node-network.test.ts': '',
      'test/unit/runtime/errors.test.ts': "import { createNodeNetwork } from '../../../src/cni/node-network.ts';",
      'test/unit/runtime/fake-runtime.test.ts': "import { readLog } from '../../../src/runtime/logs/log-reader.ts';",
      'test/unit/imports.test.ts': '',
    };
    const of = (...files: string[]): readonly string[] =>
      unitTestsOf(files, Object.keys(texts), (test) => texts[test] ?? '');
    expect(of('src/cni/node-network.ts')).toEqual([
      'test/unit/cni/node-network.test.ts',
      'test/unit/runtime/errors.test.ts',
      'test/unit/imports.test.ts',
    ]);
    expect(of('test/unit/runtime/fake-runtime.test.ts')).toEqual([
      'test/unit/runtime/fake-runtime.test.ts',
      'test/unit/imports.test.ts',
    ]);
  });

  it('are named for folders that are there', () => {
    expect(Object.keys(testsOfFolder).filter((folder) => !existsSync(join(root, folder)))).toEqual([]);
  });

  it('take less than two minutes, three at a time', () => {
    for (const folder of Object.keys(testsOfFolder)) {
      const each = affectedBy([`${folder}/file.ts`], all).map((file) => seconds[file] ?? 1);
      expect(each.length, folder).toBeGreaterThan(0);
      expect(each.reduce((sum, one) => sum + one, 0) / 3, folder).toBeLessThan(60);
      expect(Math.max(...each), folder).toBeLessThan(80);
    }
  });
});

describe('files that run alone', () => {
  it('are there', () => {
    expect(Object.keys(filesAlone).filter((file) => !existsSync(join(root, file)))).toEqual([]);
    expect(Object.keys(filesAlone).map(stageOf)).toEqual(Object.keys(filesAlone).map(() => 'alone'));
  });
});

describe('test files that fail', () => {
  const failed = (file: string) => ({ stage: 'unit', file, passed: 2, reasons: [`${file} > fails`] });

  it('are run once more, but for tests of safety and but for many at once', () => {
    const some = ['a.test.ts', 'test/e2e/18-chaos.test.ts', 'test/integration/agent/containment.test.ts'];
    expect(filesToRepeat(some.map(failed)).map(({ file }) => file)).toEqual(['a.test.ts']);
    const many = Array.from({ length: 9 }, (_, index) => failed(`${index}.test.ts`));
    expect(filesToRepeat(many)).toEqual([]);
    expect(filesToRepeat(many.slice(1))).toHaveLength(8);
  });

  it('fail a run as flaky ones when there are more than three, or when one was mended before', () => {
    const files = ['a', 'b', 'c', 'd'];
    expect(judgeFlaky(files.slice(1), [])).toEqual([]);
    expect(judgeFlaky(files, [])).toEqual(['4 files are flaky, and 3 are the most']);
    const entries = [{ file: 'a', date: '2026-12-01', cause: 'a deadline', mended: '2026-12-02' }];
    expect(judgeFlaky(['a'], entries)).toEqual([expect.stringContaining('a is flaky again')]);
    expect(judgeFlaky(['b'], entries)).toEqual([]);
  });

  it('stand in the list of flaky files once, for at most 14 days, with a cause', () => {
    const now = Date.parse('2026-12-20');
    const check = (...entries: Parameters<typeof checkFlaky>[0]) => checkFlaky(entries, ['a', 'b'], now).join('; ');
    const a = { file: 'a', date: '2026-12-07', cause: 'a deadline in place of a condition' };
    expect(check(a)).toBe('');
    expect(check({ ...a, date: '2026-12-05' })).toContain('a has stood for more than 14 days');
    expect(check({ ...a, date: '2026-11-01', mended: '2026-11-02' })).toBe('');
    expect(check({ ...a, mended: '2026-12-08' }, a)).toContain('a is entered twice');
    expect(check({ ...a, cause: ' ' })).toContain('a cause');
    expect(check({ ...a, date: 'soon' })).toContain('a date');
    expect(check({ ...a, file: 'gone' })).toContain('there is no gone');
    const chaos = 'test/e2e/18-chaos.test.ts';
    expect(checkFlaky([{ ...a, file: chaos }], [chaos], now).join()).toContain('a test of safety');
  });

  it('are no tests of safety by a misspelt name: each pattern names a file that is there', () => {
    const safe = all.filter(isSafetyTest);
    for (const word of ['chaos/', 'fleet-invariants', 'containment', 'confinement', 'attacks', 'attempts', 'tenant']) {
      expect(
        safe.filter((file) => file.includes(word)),
        word,
      ).not.toEqual([]);
    }
    for (const word of [
      'simulation',
      'event-kill',
      'events-role',
      'takeover',
      'functions-kills',
      'unit/gateway/events',
    ]) {
      expect(
        safe.filter((file) => file.includes(word)),
        word,
      ).not.toEqual([]);
    }
  });
});

describe('the report of a stage', () => {
  const test = (fullName: string, status: string) => ({ fullName, status, failureMessages: ['expected 1 to be 2'] });
  const suite = (name: string, status: string, ...assertionResults: readonly ReturnType<typeof test>[]) => ({
    name: join(root, name),
    status,
    message: 'a hook failed',
    assertionResults,
  });

  async function read(ok: boolean, ...testResults: readonly ReturnType<typeof suite>[]) {
    const folder = mkdtempSync(join(tmpdir(), 'esb-report-'));
    try {
      const file = join(folder, 'report.json');
      const passed = testResults.flatMap((each) => each.assertionResults).filter(({ status }) => status === 'passed');
      writeFileSync(file, JSON.stringify({ numPassedTests: passed.length, testResults }));
      return await readReport(file, { stage: 'unit', ok, how: 'exit code 1', mayBeEmpty: false, mayLeaveOut: false });
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  it('names each file that failed, with its tests that passed and its reasons', async () => {
    const result = await read(
      false,
      suite('a.test.ts', 'failed', test('one', 'passed'), test('two', 'failed'), test('three', 'failed')),
      suite('b.test.ts', 'failed', test('four', 'skipped')),
      suite('c.test.ts', 'passed', test('five', 'passed')),
    );
    expect(result).toMatchObject({ passed: 2, failed: 3, reasons: [] });
    expect(result.failedFiles).toEqual([
      {
        stage: 'unit',
        file: 'a.test.ts',
        passed: 1,
        reasons: ['a.test.ts > two\nexpected 1 to be 2', 'a.test.ts > three\nexpected 1 to be 2'],
      },
      { stage: 'unit', file: 'b.test.ts', passed: 0, reasons: ['b.test.ts\na hook failed'] },
    ]);
  });

  it('counts tests that did not run, and an end without a reason, as failures', async () => {
    const skipped = await read(true, suite('a.test.ts', 'passed', test('one', 'passed'), test('two', 'skipped')));
    expect(skipped).toMatchObject({ passed: 1, failed: 1, reasons: ['1 tests did not run'] });
    const ended = await read(false, suite('a.test.ts', 'passed', test('one', 'passed')));
    expect(ended).toMatchObject({ passed: 1, failed: 1, reasons: ['exit code 1'] });
  });
});
