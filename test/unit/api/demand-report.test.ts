import { describe, expect, it } from 'vitest';
import { type DemandReport, decodeReport, encodeReport } from '../../../src/api/demand-report.ts';

describe('a report of demand', () => {
  it.each<DemandReport>([
    { kind: 'all', demand: [{ functionName: 'hello', version: undefined, calls: 2, peak: 3 }] },
    { kind: 'changes', demand: [{ functionName: 'hello', version: 7, calls: 0, peak: 1 }] },
    { kind: 'all', demand: [] },
    { kind: 'bye' },
  ])('is one line that says the same on both sides: %o', (report) => {
    const line = encodeReport(report);
    expect(line.indexOf('\n')).toBe(line.length - 1);
    expect(decodeReport(line)).toEqual(report);
  });

  it.each([
    '',
    'null',
    '[]',
    '{"kind":"all"}',
    '{"kind":"some","demand":[]}',
    '{"kind":"all","demand":[["a/b",0,1,1]]}',
    '{"kind":"all","demand":[["hello",0,-1,1]]}',
    '{"kind":"all","demand":[["hello",0,1,1e9]]}',
    '{"kind":"all","demand":[["hello",0.5,1,1]]}',
    '{"kind":"all","demand":[{}]}',
    `{"kind":"all","demand":[${Array.from({ length: 10_001 }, () => '["a",0,1,1]').join()}]}`,
  ])('is refused where it is none: %.60s', (line) => {
    expect(() => decodeReport(line)).toThrow('a report of demand cannot be read');
  });
});
