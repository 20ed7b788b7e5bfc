import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { affectedBy, testsOfFolder, unitTestsOf } from '../runner/changed.ts';
import { filesAlone, filesOf, stageOf, testStages } from '../runner/files.ts';
import { root } from '../runner/program.ts';
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
