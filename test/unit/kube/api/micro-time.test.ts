import { expect, test } from 'vitest';
import { microTime } from '../../../../src/kube/api/micro-time.ts';

test('a MicroTime has six digits', () => {
  expect(microTime(Date.UTC(2026, 0, 2, 3, 4, 5, 67))).toBe('2026-01-02T03:04:05.067000Z');
  expect(microTime(Date.UTC(2026, 0, 2, 3, 4, 5, 67) + 0.25)).toBe('2026-01-02T03:04:05.067250Z');
});
