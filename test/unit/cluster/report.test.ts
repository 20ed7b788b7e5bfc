import { describe, expect, it } from 'vitest';
import { expectNoFailure } from '../../cluster/load.ts';
import { createReport } from '../../cluster/report.ts';

describe('the report of the cluster run', () => {
  it('goes on after a check that failed, and has failed', async () => {
    let text = '';
    const report = createReport((part) => {
      text += part;
    });
    report.diagnose = () => Promise.resolve('what the cluster says');
    const first = await report.check('one', () => Promise.reject(new Error('broken', { cause: new Error('a wire') })));
    const second = await report.check('two', () => Promise.resolve('fine'));
    expect([first, second]).toEqual([false, true]);
    expect(report.failed).toEqual(['one']);
    expect(report.passed).toBe(1);
    expect(text).toContain('broken');
    expect(text).toContain('cause: a wire');
    expect(text).toContain('what the cluster says');
    expect(text).toMatch(/✓ two \(\d+\.\d s\): fine/);
  });

  it('is not spared by a diagnosis that fails, too', async () => {
    let text = '';
    const report = createReport((part) => {
      text += part;
    });
    report.diagnose = () => Promise.reject(new Error('no cluster'));
    expect(await report.check('one', () => Promise.reject(new Error('broken')))).toBe(false);
    expect(text).toContain('no cluster');
  });
});

describe('a load', () => {
  const failure = {
    at: '2026-01-01T00:00:00Z',
    functionName: 'hello',
    call: 'one',
    outcome: '',
    afterMs: 5,
    why: 'ECONNREFUSED',
  };

  it('has failed with one call of many', () => {
    const result = { accepted: [], answered: 10_000, failed: 1, longestMs: 9, failures: [failure] };
    expect(() => expectNoFailure(result, 10)).toThrow(/1 of 10001 calls failed:\n.*ECONNREFUSED/);
  });

  it('has failed when there was hardly any', () => {
    const result = { accepted: [], answered: 9, failed: 0, longestMs: 9, failures: [] };
    expect(() => expectNoFailure(result, 10)).toThrow(/only 9 calls/);
  });

  it('tells how much was answered', () => {
    const result = { accepted: [], answered: 10, failed: 0, longestMs: 9, failures: [] };
    expect(expectNoFailure(result, 10)).toBe('10 calls, the longest 9 ms');
  });
});
