import { describe, expect, it } from 'vitest';
import { type Report, tally } from '../../cgroup2/tally.ts';

const files = ['test/e2e/04-invoke.test.ts', 'test/e2e/05-pause.test.ts'];
const report = (...statuses: readonly (readonly string[])[]): Report => ({
  testResults: statuses.map((each, index) => ({
    name: `/repository/${files[index]}`,
    assertionResults: each.map((status) => ({ status })),
  })),
});

describe('the tally of the tests in the guest', () => {
  it('is whole when every test of every file passed', () => {
    expect(tally(files, report(['passed', 'passed'], ['passed']), 0)).toEqual({
      passed: 3,
      failed: 0,
      total: 3,
    });
  });

  it.each<[string, Report, number]>([
    ['a test failed', report(['passed', 'failed'], ['passed']), 1],
    ['a test was skipped', report(['passed', 'skipped'], ['passed']), 0],
    ['a file could not be loaded', report(['passed'], []), 1],
    ['a file was not found', report(['passed']), 0],
    ['all tests of a file were skipped', report(['passed'], ['skipped']), 0],
    ['a hook failed after its tests', report(['passed'], ['passed']), 1],
  ])('is not whole when %s', (_what, result, exitCode) => {
    const { passed, total } = tally(files, result, exitCode);
    expect(passed).toBeLessThan(total);
  });
});
