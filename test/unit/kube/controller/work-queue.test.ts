import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createWorkQueue } from '../../../../src/kube/controller/work-queue.ts';
import { manualClock } from '../../../support/manual-clock.ts';

function queueOf() {
  const clock = manualClock();
  const depths: number[] = [];
  const queue = createWorkQueue({
    name: 'test',
    clock,
    random: () => 1,
    backoffFirstMs: 10,
    backoffMaxMs: 100,
    metrics: { depth: (_, depth) => depths.push(depth) },
  });
  return { clock, queue, depths };
}

test('a key waits once, in the order in which it came', async () => {
  const { queue, depths } = queueOf();
  queue.add('a');
  queue.add('b');
  queue.add('a');
  expect(queue.length()).toBe(2);
  expect([await queue.take(), await queue.take()]).toEqual(['a', 'b']);
  expect(depths).toEqual([1, 2, 1, 0]);
});

test('a key that is worked on is given out again only when that is done', async () => {
  const { queue } = queueOf();
  queue.add('a');
  await queue.take();
  queue.add('a');
  queue.add('a');
  expect(queue.length()).toBe(0);
  queue.done('a');
  expect(await queue.take()).toBe('a');
  queue.done('a');
  expect(queue.length()).toBe(0);
});

test('a delay is waited for, and of several the shortest counts', async () => {
  const { queue, clock } = queueOf();
  queue.addAfter('a', 100);
  queue.addAfter('a', 30);
  queue.addAfter('a', 200);
  await clock.advance(29);
  expect(queue.length()).toBe(0);
  await clock.advance(1);
  expect(queue.length()).toBe(1);
  expect(clock.pending()).toBe(0);
});

test('a key that is added at once does not wait for an earlier delay of it', () => {
  const { queue } = queueOf();
  queue.addAfter('a', 1000);
  queue.add('a');
  expect(queue.length()).toBe(1);
});

test('failures of a key are counted, and make it wait longer up to a bound', async () => {
  const { queue, clock } = queueOf();
  const waits: number[] = [];
  for (let failure = 1; failure <= 6; failure++) {
    queue.addRateLimited('a');
    const from = clock.monotonic();
    const taken = queue.take();
    while (queue.failures('a') === failure && clock.pending() > 0) {
      await clock.advance(1);
    }
    waits.push(clock.monotonic() - from);
    queue.done((await taken) ?? '');
  }
  expect(waits).toEqual([10, 20, 40, 80, 100, 100]);
  queue.forget('a');
  expect(queue.failures('a')).toBe(0);
  queue.addRateLimited('a', 500);
  await clock.advance(499);
  expect(queue.length()).toBe(0);
});

test('a taker waits for a key, its signal or the end', async () => {
  const { queue } = queueOf();
  const given = queue.take();
  const caller = new AbortController();
  const impatient = queue.take(caller.signal);
  const last = queue.take();
  caller.abort();
  await expect(impatient).rejects.toMatchObject({ code: 'Aborted' });
  queue.add('a');
  expect(await given).toBe('a');
  queue.shutDown();
  expect(await last).toBeUndefined();
  expect(await queue.take()).toBeUndefined();
});

test('what waits at a shutdown is still given out, and nothing new is taken in', async () => {
  const { queue, clock } = queueOf();
  queue.add('a');
  queue.addAfter('b', 10);
  queue.shutDown();
  queue.add('c');
  queue.addAfter('d', 0);
  queue.addRateLimited('e');
  await clock.advance(1000);
  expect([await queue.take(), await queue.take()]).toEqual(['a', undefined]);
  expect(clock.pending()).toBe(0);
});

type Step =
  | { readonly kind: 'add' | 'limited' | 'done' | 'forget'; readonly key: string }
  | { readonly kind: 'after'; readonly key: string; readonly ms: number }
  | { readonly kind: 'take' | 'give up' }
  | { readonly kind: 'time'; readonly ms: number };

const key = fc.constantFrom('a', 'b', 'c', 'd');
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom('add', 'limited', 'done', 'forget'), key }),
  fc.record({ kind: fc.constant('after'), key, ms: fc.nat(50) }),
  fc.record({ kind: fc.constantFrom('take', 'give up') }),
  fc.record({ kind: fc.constant('time'), ms: fc.nat(60) }),
) as fc.Arbitrary<Step>;

test('no key is ever lost or worked on twice at a time', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { queue, clock } = queueOf();
      const working = new Set<string>();
      /** Asked for, and not begun since. */
      const owed = new Set<string>();
      let callers: AbortController[] = [];
      const take = (signal?: AbortSignal): Promise<void> =>
        queue.take(signal).then(
          (taken) => {
            expect(taken).toBeDefined();
            expect(working.has(taken ?? '')).toBe(false);
            working.add(taken ?? '');
            owed.delete(taken ?? '');
          },
          () => undefined,
        );
      const done = (one: string): void => {
        working.delete(one);
        queue.done(one);
      };
      const taking: Promise<void>[] = [];
      for (const one of steps) {
        switch (one.kind) {
          case 'add':
            owed.add(one.key);
            queue.add(one.key);
            break;
          case 'limited':
            owed.add(one.key);
            queue.addRateLimited(one.key);
            break;
          case 'after':
            owed.add(one.key);
            queue.addAfter(one.key, one.ms);
            break;
          case 'done':
            if (working.has(one.key)) {
              done(one.key);
            }
            break;
          case 'forget':
            queue.forget(one.key);
            break;
          case 'take': {
            const caller = new AbortController();
            callers.push(caller);
            taking.push(take(caller.signal));
            break;
          }
          case 'give up':
            callers.shift()?.abort();
            break;
          case 'time':
            await clock.advance(one.ms);
            break;
        }
        await Promise.resolve();
      }
      for (const caller of callers) {
        caller.abort();
      }
      callers = [];
      await Promise.all(taking);
      await clock.advance(1000);
      while (queue.length() > 0 || working.size > 0) {
        for (const one of working) {
          done(one);
        }
        if (queue.length() > 0) {
          await take();
        }
      }
      expect([...owed]).toEqual([]);
    }),
    { numRuns: 200 },
  );
});
