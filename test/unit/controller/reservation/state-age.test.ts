import { expect, it } from 'vitest';
import { StateAge } from '../../../../src/controller/reservation/state-age.ts';

it('counts from when a state was first noted', () => {
  const age = new StateAge();
  expect(age.isNew('held', 1_000)).toBe(true);
  expect(age.isNew('held', 3_000)).toBe(false);
  expect(age.ms(4_000)).toBe(3_000);
  expect(age.isNew('evicted', 5_000)).toBe(true);
  expect(age.ms(5_500)).toBe(500);
});
