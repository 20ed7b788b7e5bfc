import { expect, it } from 'vitest';
import type { ActivityKind } from '../../../../src/agent/sync/activity-queue.ts';
import { ActivityQueue } from '../../../../src/agent/sync/activity-queue.ts';
import { manualClock } from '../../../support/manual-clock.ts';

/** Nodes of the cluster, and how many of them are looked at. */
const nodes = 100;
const looked = 10;
/** Seconds that a worker runs after a call, and all that is watched; what comes before the first is not counted. */
const runsFor = 10;
const warmUp = 600;
const end = 1_200;

/** Numbers from 0 to 1, the same each time. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

/**
 * A thousand workers that are called every five seconds in the mean, and a thousand that are called once a minute, on a
 * hundred nodes: ten of each on a node. Leases are 10 writes a second, and that of the controller half of one.
 */
it('leaves 20 writes a second to a cluster of 2,000 workers that are called, with its Leases', () => {
  let writes = 0;
  let longest = 0;
  for (let node = 0; node < looked; node += 1) {
    const random = numbers(node + 1);
    const clock = manualClock();
    let now = clock.monotonic();
    const queue = new ActivityQueue<number>({ ...clock, monotonic: () => now });
    queue.shareAmong(nodes);
    const workers = Array.from({ length: 20 }, (_, index) => ({
      waits: () => (index < 10 ? -Math.log(1 - random()) * 5 : 60),
      calledAt: random() * 60,
      runs: false,
      written: { runs: false, calledAt: 0 },
      lastCall: 0,
      behindSince: Number.NaN,
    }));
    for (let second = 0; second < end; second += 1) {
      now += 1_000;
      for (const [index, worker] of workers.entries()) {
        while (worker.calledAt <= second) {
          worker.lastCall = worker.calledAt;
          worker.calledAt += worker.waits();
        }
        worker.runs = worker.lastCall > 0 && second - worker.lastCall < runsFor;
        const kind: ActivityKind | undefined =
          worker.runs !== worker.written.runs || (!worker.runs && worker.lastCall !== worker.written.calledAt)
            ? 'Phase'
            : worker.lastCall !== worker.written.calledAt
              ? 'Stamps'
              : undefined;
        if (kind === undefined) {
          queue.delete(index);
          worker.behindSince = Number.NaN;
        } else {
          queue.note(index, kind);
          worker.behindSince = Number.isNaN(worker.behindSince) ? second : worker.behindSince;
        }
      }
      for (let index = queue.take(); index !== undefined; index = queue.take()) {
        const worker = workers[index];
        if (worker !== undefined) {
          worker.written = { runs: worker.runs, calledAt: worker.lastCall };
          longest = Math.max(longest, second - worker.behindSince);
          worker.behindSince = Number.NaN;
          writes += second < warmUp ? 0 : 1;
        }
      }
    }
  }
  const perSecond = (writes / (end - warmUp)) * (nodes / looked);
  expect(perSecond).toBeGreaterThan(5);
  expect(perSecond + nodes / 10 + 0.5).toBeLessThanOrEqual(20);
  expect(longest).toBeLessThanOrEqual(301);
});
