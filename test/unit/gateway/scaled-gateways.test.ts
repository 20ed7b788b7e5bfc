import { describe, expect, it } from 'vitest';
import { ScaledGateways } from '../../support/scaled-gateways.ts';

/** Numbers from 0 to 1, the same in each run. */
function randomFrom(seed: number): () => number {
  let last = seed;
  return () => {
    last = (last * 48_271) % 2_147_483_647;
    return last / 2_147_483_647;
  };
}

const IDLE = { perSecond: 0, meanMs: 0 };
const live = { name: 'live', version: 1 };
const tenth = { version: 1, routing: [{ version: 2, permille: 100 }] };

describe('calls of a function that grows, where the most workers hardly suffice', { timeout: 60_000 }, () => {
  it.each([7, 8])('pass no call of their version while workers change to another (seed %i)', async (seed) => {
    const scaling = { minWorkers: 2 };
    const world = new ScaledGateways({ random: randomFrom(seed), aliases: [live], startMs: 5_000, scaling });
    const load = { perSecond: 20, meanMs: 350, qualifier: 'live' };
    await world.run(15, IDLE);
    await world.run(30, load);
    for (const alias of [tenth, { version: 2 }, { version: 1 }]) {
      world.wish(alias);
      world.ended = [];
      await world.run(60, load);
      expect(world.aliases).toEqual([{ name: 'live', ...alias }]);
      // Calls that held places of other versions made 20 seconds of it, and more than a minute for some.
      expect(world.p99).toBeLessThan(10_000);
      expect(Math.max(...world.ended.map(({ ms }) => ms))).toBeLessThan(15_000);
    }
    await world.run(30, IDLE);
    expect([world.open, world.errors]).toEqual([0, []]);
  });

  it.each([7, 8])('go to each worker that is free, at whichever gateway they are (seed %i)', async (seed) => {
    const world = new ScaledGateways({ random: randomFrom(seed), gateways: 2 });
    const load = { perSecond: 27, meanMs: 300 };
    await world.run(15, IDLE);
    await world.run(20, load);
    expect(world.workersOf(undefined)).toBe(10);
    world.ended = [];
    await world.run(120, load);
    // Places that were counted twice made 15 seconds of it.
    expect(world.p99).toBeLessThan(2_000);
    expect(world.errors).toEqual([]);
  });

  it.each([7, 8])(
    'have turns at the only worker of a version, at whichever gateway they are (seed %i)',
    async (seed) => {
      const scaling = { maxWorkers: 3 };
      const world = new ScaledGateways({ random: randomFrom(seed), aliases: [live], gateways: 2, scaling });
      world.wish(tenth);
      await world.run(15, IDLE);
      await world.run(120, { perSecond: 9, meanMs: 100, qualifier: 'live' });
      expect([undefined, 1, 2].map((version) => world.workersOf(version))).toEqual([1, 1, 1]);
      expect(world.errors).toEqual([]);
      expect(world.p99).toBeLessThan(1_500);
    },
  );

  it.each([7, 8])('go to whichever worker is free first, while others are being started (seed %i)', async (seed) => {
    const world = new ScaledGateways({ random: randomFrom(seed), gateways: 2, startMs: 5_000 });
    await world.run(15, IDLE);
    await world.run(20, { perSecond: 10, meanMs: 100 });
    // Calls that stayed with a worker until its start was over made 7 seconds of it, and 9 calls at once.
    expect(world.p99).toBeLessThan(1_000);
    // Of 300 loads of this kind, all but one have at most 8; how many there are is up to the load, which has no bound.
    expect(world.mostOpen).toBeLessThan(8);
    // A worker for each call at once, and a spare one.
    expect(world.workersOf(undefined)).toBeLessThanOrEqual(world.mostOpen + 1);
    await world.run(10, IDLE);
    expect([world.open, world.errors]).toEqual([0, []]);
  });

  it.each([
    { seed: 7, gateways: 1, maxWorkers: 4, longCalls: 5, perSecond: 5 },
    { seed: 9, gateways: 2, maxWorkers: 8, longCalls: 8, perSecond: 12 },
  ])('leave no worker idle, though long calls go on at workers that are gone ($maxWorkers workers)', async (given) => {
    const { gateways, longCalls, maxWorkers, perSecond, seed } = given;
    const scaling = { maxWorkers, spareWorkers: 0 };
    const world = new ScaledGateways({ random: randomFrom(seed), aliases: [live], gateways, scaling });
    await world.run(15, IDLE);
    for (const version of [2, 1, 2]) {
      await world.run(1, { perSecond: longCalls, meanMs: 30_000, qualifier: 'live' });
      world.wish({ version, routing: [{ version: 3 - version, permille: 300 }] });
      await world.run(30, { perSecond, meanMs: 300, qualifier: 'live' });
    }
    // Such calls took the places of workers, for as long as they went on: 29 and 14 seconds.
    expect(world.idleMs).toBeLessThan(1_000);
    expect(world.errors).toEqual([]);
  });

  it('fail by no news that come late', async () => {
    const world = new ScaledGateways({ random: randomFrom(7), aliases: [live], gateways: 2, lagMs: 8_000 });
    const load = { perSecond: 20, meanMs: 200, qualifier: 'live' };
    await world.run(15, IDLE);
    for (const alias of [tenth, { version: 2 }, { version: 1 }]) {
      world.wish(alias);
      await world.run(40, load);
    }
    await world.run(20, IDLE);
    expect([world.open, world.errors]).toEqual([0, []]);
  });
});
