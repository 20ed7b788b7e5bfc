import { describe, expect, it } from 'vitest';
import { createProgress, formatDuration } from '../../../src/cli/progress.ts';

describe('progress', () => {
  it('tells of a step when it is over, and of one that failed', async () => {
    const written: string[] = [];
    const progress = createProgress({ write: (text) => written.push(text) });
    expect(await progress.step('good', async () => 7)).toBe(7);
    await expect(progress.step('bad', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(written).toEqual([expect.stringMatching(/^ {2}✓ good \(/), expect.stringMatching(/^ {2}✗ bad \(/)]);
    expect(progress.timings.map((timing) => timing.name)).toEqual(['good']);
  });

  it('says nothing of steps that take no time, where it is told so', async () => {
    const written: string[] = [];
    const progress = createProgress({ write: (text) => written.push(text), quietBelowMs: 60_000 });
    await progress.step('quick', async () => undefined);
    expect(written).toEqual([]);
  });

  it.each([
    [85, '85 ms'],
    [3_200, '3.2 s'],
    [125_000, '2 min 5 s'],
  ])('writes %d ms as %s', (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });
});
