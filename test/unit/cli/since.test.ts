import { describe, expect, it } from 'vitest';
import { parseSince } from '../../../src/cli/since.ts';

describe('a time since which something is shown', () => {
  const now = Date.parse('2026-11-25T12:00:00Z');
  it.each([
    ['90s', now - 90_000],
    ['10m', now - 600_000],
    ['1h30m', now - 5_400_000],
    ['1.5h', now - 5_400_000],
    ['2d', now - 172_800_000],
    ['250ms', now - 250],
    ['2026-11-25T11:00:00Z', now - 3_600_000],
    ['2026-11-25', now - 12 * 3_600_000],
  ])('%s is a duration or a date', (text, expected) => {
    expect(parseSince(text, now)).toBe(expected);
  });

  it.each(['', '10', 'm', '10m5', '-5m', 'yesterday', '2026-13-45'])('%s is neither', (text) => {
    expect(() => parseSince(text, now)).toThrow('neither a duration');
  });
});
