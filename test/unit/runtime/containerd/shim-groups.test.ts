import { describe, expect, it } from 'vitest';
import { ShimGroups } from '../../../../src/runtime/containerd/shim-groups.ts';

const join = (groups: ShimGroups, ...ids: string[]): (string | undefined)[] => ids.map((id) => groups.join(id));

describe('ShimGroups', () => {
  it('gives each its own shim where none are shared', () => {
    expect(new ShimGroups(1).join('a')).toBeUndefined();
  });

  it('fills one group before it begins another', () => {
    const groups = new ShimGroups(2);
    expect(join(groups, 'a', 'b', 'c', 'd', 'e')).toEqual(['esb-1', 'esb-1', 'esb-2', 'esb-2', 'esb-3']);
  });

  it('takes a place again once nothing is left of who had it', () => {
    const groups = new ShimGroups(2);
    join(groups, 'a', 'b', 'c');
    groups.leave('a');
    expect(groups.join('d')).toBe('esb-2');
    groups.left('a');
    expect(groups.join('e')).toBe('esb-1');
  });

  it('joins no group that everybody is about to leave, since its shim ends with the last', () => {
    const groups = new ShimGroups(3);
    join(groups, 'a', 'b');
    groups.leave('a');
    groups.leave('b');
    expect(groups.join('c')).toBe('esb-2');
    groups.left('a');
    groups.left('b');
    expect(join(groups, 'd', 'e', 'f')).toEqual(['esb-2', 'esb-2', 'esb-1']);
  });

  it('goes on with what an earlier run of the agent has made', () => {
    const groups = new ShimGroups(2);
    groups.adopt([
      { containerId: 'a', group: 'esb-1' },
      { containerId: 'b', group: '' },
      { containerId: 'c', group: 'esb-4' },
      { containerId: 'd', group: 'esb-4' },
    ]);
    expect(join(groups, 'e', 'f')).toEqual(['esb-1', 'esb-2']);
  });

  it('forgets nobody who has not been removed', () => {
    const groups = new ShimGroups(2);
    join(groups, 'a', 'b');
    groups.left('a');
    expect(groups.join('c')).toBe('esb-2');
  });

  it('have their tasks made and deleted one after the other, also when one fails, and others are not held up', async () => {
    const groups = new ShimGroups(2);
    join(groups, 'one', 'two', 'three');
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const one = groups.inTurn('one', async () => {
      order.push('one');
      await first.promise;
      throw new Error('no');
    });
    groups.leave('two');
    const two = groups.inTurn('two', async () => {
      order.push('two');
    });
    await groups.inTurn('three', async () => {
      order.push('of another group');
    });
    await groups.inTurn('four', async () => {
      order.push('of no group');
    });
    expect(order).toEqual(['one', 'of another group', 'of no group']);
    first.resolve();
    await expect(one).rejects.toThrow('no');
    await two;
    expect(order.at(-1)).toBe('two');
  });
});
