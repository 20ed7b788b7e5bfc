import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ActivityQueue } from '../../../../src/agent/sync/activity-queue.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const minute = 60_000;

function lab(nodes = 100) {
  const clock = manualClock();
  const queue = new ActivityQueue<string>(clock);
  queue.shareAmong(nodes);
  const began = clock.monotonic();
  /** Takes all that may be taken until then; gives what, and when. */
  const until = async (endMs: number): Promise<string[]> => {
    const taken: string[] = [];
    for (;;) {
      for (let item = queue.take(); item !== undefined; item = queue.take()) {
        taken.push(`${item} ${Math.round((clock.monotonic() - began) / 1_000)}`);
      }
      const next = Math.min(queue.nextAt, began + endMs);
      if (clock.monotonic() >= began + endMs) {
        return taken;
      }
      await clock.advance(next - clock.monotonic());
    }
  };
  return { clock, queue, until };
}

describe('the queue of activity', () => {
  it('lets a change of phase through at once while there are few', async () => {
    const { queue, until } = lab();
    for (let each = 0; each < 10; each += 1) {
      queue.note(`w${each}`, 'Phase');
    }
    expect(await until(0)).toHaveLength(10);
    queue.note('late', 'Phase');
    expect(await until(0)).toEqual([]);
    // 8 writes a second for 100 nodes.
    expect(await until(minute)).toEqual(['late 13']);
    expect(queue.nextAt).toBe(Number.POSITIVE_INFINITY);
  });

  it('gives a node of a small cluster more, and one of a large cluster less', async () => {
    for (const [nodes, seconds] of [
      [1, 0],
      [10, 1],
      [1_000, 125],
    ] as const) {
      const { queue, until } = lab(nodes);
      for (let each = 0; each < 11; each += 1) {
        queue.note(`w${each}`, 'Phase');
      }
      expect((await until(10 * minute)).at(-1)).toBe(`w10 ${seconds}`);
    }
  });

  it('lets stamps alone wait for half of the longest time', async () => {
    const { queue, until } = lab();
    queue.note('busy', 'Stamps');
    expect(await until(149_000)).toEqual([]);
    expect(await until(151_000)).toEqual(['busy 150']);
  });

  it('lets none wait for more than five minutes, however often it changed meanwhile', async () => {
    const { queue, until } = lab(100_000);
    for (let each = 0; each < 10; each += 1) {
      queue.note(`first${each}`, 'Phase');
    }
    expect(await until(0)).toHaveLength(10);
    for (let each = 0; each < 30; each += 1) {
      queue.note(`w${each}`, 'Stamps');
    }
    await until(minute);
    queue.note('w29', 'Phase');
    await until(2 * minute);
    for (let each = 0; each < 30; each += 1) {
      queue.note(`w${each}`, each % 2 === 0 ? 'Phase' : 'Stamps');
    }
    const taken = await until(5 * minute);
    expect(new Set(taken.map((each) => each.split(' ')[0]))).toHaveLength(30);
    expect(queue.size).toBe(0);
  });

  it('keeps to its rate, or to one write of each in five minutes where that is more', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 5, max: 60 }),
        async (nodes, workers, everySeconds) => {
          const { queue, until } = lab(nodes);
          const longestSeconds = 1_800;
          let writes = 0;
          for (let second = 0; second < longestSeconds; second += everySeconds) {
            for (let each = 0; each < workers; each += 1) {
              queue.note(`w${each}`, each % 3 === 0 ? 'Stamps' : 'Phase');
            }
            writes += (await until(second * 1_000)).length;
          }
          const ahead = 10 + 300 * (8 / nodes);
          expect(writes).toBeLessThanOrEqual(ahead + longestSeconds * Math.max(8 / nodes, workers / 300));
        },
      ),
      { numRuns: 10 },
    );
  });

  it('takes a token back that was not used, and forgets what differs no more', async () => {
    const { queue, until } = lab();
    for (let each = 0; each < 12; each += 1) {
      queue.note(`w${each}`, 'Phase');
    }
    expect(await until(0)).toHaveLength(10);
    queue.delete('w10');
    queue.giveBack();
    expect(await until(0)).toEqual(['w11 0']);
    expect(queue.size).toBe(0);
  });
});
