import { expect, it } from 'vitest';
import { encodeReport } from '../../../../src/api/load-report.ts';
import { reportEveryMs } from '../../../../src/gateway/load/load-reporter.ts';

/** Bytes of a stream that the leader reads in a second. */
const READ_PER_SECOND = 512 * 1024;

it.each([1, 100, 1_200, 10_000])('reports of %i busy functions are no more than the leader reads', (functions) => {
  const load = Array.from({ length: functions }, (_, at) => ({
    functionName: `a-function-with-a-long-name-${at}`,
    version: undefined,
    calls: 10,
    peak: 12,
  }));
  const { length } = encodeReport({ kind: 'changes', load });
  expect((length * 1_000) / reportEveryMs(length)).toBeLessThan(READ_PER_SECOND);
  expect(reportEveryMs(length)).toBeLessThan(5_000);
  expect(reportEveryMs(100)).toBe(100);
});
