import { expect, it } from 'vitest';
import { SharedTurns } from '../../../../src/gateway/control/shared-turns.ts';

/** Tasks that end when a test says so. */
function tasks() {
  const begun: { readonly end: (value: number) => void; readonly fail: (error: Error) => void }[] = [];
  return {
    begun,
    task: (): Promise<number> => {
      const { promise, reject, resolve } = Promise.withResolvers<number>();
      begun.push({ end: resolve, fail: reject });
      return promise;
    },
  };
}

it('all who come while a turn is under way share the next one, which begins after it', async () => {
  const { begun, task } = tasks();
  const turns = new SharedTurns<number>();
  const first = turns.run('a', task);
  const later = Array.from({ length: 100 }, () => turns.run('a', task));
  const other = turns.run('b', task);
  expect(begun).toHaveLength(2);
  begun[1]?.end(9);
  expect(await other).toBe(9);
  begun[0]?.end(1);
  expect(await first).toBe(1);
  expect(begun).toHaveLength(3);
  const last = turns.run('a', task);
  expect(begun).toHaveLength(3);
  begun[2]?.end(2);
  expect(new Set(await Promise.all(later))).toEqual(new Set([2]));
  begun[3]?.end(3);
  expect(await last).toBe(3);
});

it('a turn that fails fails for those who share it, and not for the next', async () => {
  const { begun, task } = tasks();
  const turns = new SharedTurns<number>();
  const first = turns.run('a', task);
  const second = turns.run('a', task);
  begun[0]?.fail(new Error('no'));
  await expect(first).rejects.toThrow('no');
  begun[1]?.end(2);
  expect(await second).toBe(2);
  const third = turns.run('a', task);
  begun[2]?.end(3);
  expect(await third).toBe(3);
});
