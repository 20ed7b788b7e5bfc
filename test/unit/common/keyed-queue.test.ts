import { describe, expect, it } from 'vitest';
import { KeyedQueue } from '../../../src/common/keyed-queue.ts';
import { settle } from '../../support/manual-clock.ts';

const call = { what: 'work', deadlineMs: 10_000 };

function aborted(signal: AbortSignal): Promise<void> {
  const done = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => done.resolve(), { once: true });
  return done.promise;
}

describe('KeyedQueue', () => {
  it('does the same work once for all who ask while it is done', async () => {
    const lanes = new KeyedQueue();
    let times = 0;
    const work = async (): Promise<number> => {
      times += 1;
      await Promise.resolve();
      return times;
    };
    expect(await Promise.all([1, 2, 3].map(() => lanes.run('a', 'make', call, work)))).toEqual([1, 1, 1]);
    expect(await lanes.run('a', 'make', call, work)).toBe(2);
  });

  it('does different work on one key in order, and on two keys at once', async () => {
    const lanes = new KeyedQueue();
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    const first = lanes.run('a', 'make', call, async () => {
      await gate.promise;
      order.push('a made');
    });
    const second = lanes.run('a', 'remove', call, () => Promise.resolve(order.push('a removed')));
    await lanes.run('b', 'make', call, () => Promise.resolve(order.push('b made')));
    gate.resolve();
    await Promise.all([first, second]);
    expect(order).toEqual(['b made', 'a made', 'a removed']);
  });

  it('does not take work that comes before other work for work that comes after it', async () => {
    const lanes = new KeyedQueue();
    const order: string[] = [];
    const add = (what: string) => () => Promise.resolve(void order.push(what));
    await Promise.all([
      lanes.run('a', 'make', call, add('made')),
      lanes.run('a', 'remove', call, add('removed')),
      lanes.run('a', 'make', call, add('made')),
    ]);
    expect(order).toEqual(['made', 'removed', 'made']);
  });

  it('tells work to end only when its last caller has left, and starts the next after its end', async () => {
    const lanes = new KeyedQueue();
    const [one, two] = [new AbortController(), new AbortController()];
    const order: string[] = [];
    const undone = Promise.withResolvers<void>();
    const work = async (signal: AbortSignal): Promise<void> => {
      await aborted(signal);
      order.push('told');
      await undone.promise;
      order.push('undone');
    };
    const first = lanes.run('a', 'make', { ...call, signal: one.signal }, work);
    const second = lanes.run('a', 'make', { ...call, signal: two.signal }, work);
    one.abort();
    await expect(first).rejects.toMatchObject({ code: 'Aborted' });
    expect(order).toEqual([]);
    two.abort();
    await expect(second).rejects.toMatchObject({ code: 'Aborted' });
    const third = lanes.run('a', 'make', call, () => Promise.resolve(void order.push('made')));
    undone.resolve();
    await third;
    expect(order).toEqual(['told', 'undone', 'made']);
  });

  it('lets a caller leave at its deadline', { tags: ['P10'] }, async () => {
    const lanes = new KeyedQueue();
    const late = lanes.run('a', 'make', { what: 'making', deadlineMs: 10 }, aborted);
    await expect(late).rejects.toMatchObject({
      code: 'DeadlineExceeded',
      message: 'making took longer than 10 ms',
    });
    await lanes.idle();
  });

  it('cancels work by its kind, whoever waits for it', async () => {
    const lanes = new KeyedQueue();
    const made = lanes.run('a', 'make', call, async (signal) => {
      await aborted(signal);
      throw new Error('ended');
    });
    const outcome = expect(made).rejects.toThrow('ended');
    await settle();
    lanes.cancel('a', (kind) => kind === 'remove', 'nothing');
    lanes.cancel('a', (kind) => kind === 'make', 'removal');
    await outcome;
  });

  it('does not begin work that was cancelled while it waited for its turn', async () => {
    const lanes = new KeyedQueue();
    const gate = Promise.withResolvers<void>();
    const first = lanes.run('a', 'remove', call, () => gate.promise);
    let begun = false;
    const second = lanes.run('a', 'make', call, async () => {
      begun = true;
    });
    const outcome = expect(second).rejects.toMatchObject({ code: 'Aborted' });
    await settle();
    lanes.cancelAll('the end');
    gate.resolve();
    await first;
    await outcome;
    await lanes.idle();
    expect(begun).toBe(false);
  });
});
