import { describe, expect, it } from 'vitest';
import { decodeReport, encodeReport, type LoadReport } from '../../../src/api/load-report.ts';

describe('a report of load', () => {
  it.each<LoadReport>([
    { kind: 'all', load: [{ functionName: 'hello', version: undefined, calls: 2, peak: 3 }] },
    { kind: 'changes', load: [{ functionName: 'hello', version: 7, calls: 0, peak: 1 }] },
    { kind: 'all', load: [] },
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
    expect(() => decodeReport(line)).toThrow('a report of load cannot be read');
  });
});
