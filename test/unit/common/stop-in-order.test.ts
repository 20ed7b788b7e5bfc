import { describe, expect, it } from 'vitest';
import { type StopStep, stopInOrder, withStops } from '../../../src/common/stop-in-order.ts';

describe('ending the parts of a program', () => {
  const ended: string[] = [];
  const part =
    (name: string, error?: Error): StopStep =>
    async () => {
      await Promise.resolve();
      ended.push(name);
      if (error !== undefined) {
        throw error;
      }
    };

  it('ends one after the other', async () => {
    ended.length = 0;
    await stopInOrder([part('server'), () => undefined, part('store')]);
    expect(ended).toEqual(['server', 'store']);
  });

  it('ends the others where one fails, and throws what that one threw', async () => {
    ended.length = 0;
    const broken = new Error('disk gone');
    await expect(stopInOrder([part('server', broken), part('store')])).rejects.toBe(broken);
    expect(ended).toEqual(['server', 'store']);
  });

  it('tells of every one that failed', async () => {
    await expect(
      stopInOrder([part('server', new Error('no answer')), part('store', new Error('disk gone'))]),
    ).rejects.toMatchObject({
      code: 'StopFailed',
      message: '2 parts did not end as they should: no answer; disk gone',
    });
  });

  it('ends the parts that a start made before it failed, the last one first', async () => {
    ended.length = 0;
    const failed = new Error('port taken');
    const start = withStops(async (stops) => {
      stops.defer(part('store'));
      stops.defer(part('server'));
      throw failed;
    });
    await expect(start).rejects.toBe(failed);
    expect(ended).toEqual(['server', 'store']);
  });
});
