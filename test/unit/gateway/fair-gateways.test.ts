import { describe, expect, it } from 'vitest';
import { ScaledGateways, type ScaledGatewaysOptions } from '../../support/scaled-gateways.ts';

/** Numbers from 0 to 1, the same in each run. */
function randomFrom(seed: number): () => number {
  let last = seed;
  return () => {
    last = (last * 48_271) % 2_147_483_647;
    return last / 2_147_483_647;
  };
}

type Mode = 'Auto' | 'Fixed' | 'reserved';

function functionOf(mode: Mode, workers: number): Pick<ScaledGatewaysOptions, 'reserved' | 'scaling'> {
  const scaling = { mode: mode === 'Auto' ? mode : 'Fixed', minWorkers: workers, maxWorkers: workers } as const;
  return mode === 'reserved' ? { scaling, reserved: workers } : { scaling };
}

/** The wait that 99 of 100 calls do not exceed, in milliseconds. */
function p99(waits: readonly number[]): number {
  return waits.toSorted((one, other) => one - other)[Math.floor(waits.length * 0.99)] ?? 0;
}

const shapes = [
  { mode: 'Auto', seed: 7, workers: 2, meanMs: 100, seconds: 100 },
  { mode: 'Auto', seed: 7, workers: 4, meanMs: 1_000, seconds: 400 },
  { mode: 'Auto', seed: 11, workers: 10, meanMs: 2_700, seconds: 250 },
  { mode: 'Fixed', seed: 13, workers: 4, meanMs: 1_000, seconds: 400 },
  { mode: 'reserved', seed: 17, workers: 4, meanMs: 1_000, seconds: 400 },
] as const;

const rows = shapes.flatMap((shape) =>
  [0.9, 1.3].flatMap((load) => [2, 3].map((gateways) => ({ ...shape, load, gateways }))),
);

describe('of calls that come at several gateways, nine of ten at the first one,', { timeout: 120_000 }, () => {
  it.each(rows)(
    'each has its turn ($mode, $workers workers, calls of $meanMs ms, $load × capacity, $gateways gateways)',
    async ({ gateways, load, meanMs, mode, seconds, seed, workers }) => {
      const function_ = functionOf(mode, workers);
      const world = new ScaledGateways({ random: randomFrom(seed), gateways, unevenness: 0.9, ...function_ });
      await world.run(5, { perSecond: 0, meanMs: 0 });
      expect(world.workersOf(undefined)).toBe(workers);
      await world.run(seconds, { perSecond: (load * workers * 1_000) / meanMs, meanMs });
      const asked = world.asked.reduce((sum, each) => sum + each, 0);
      const answered = world.ended.filter(({ error }) => error === undefined);
      const waits = world.asked.map((_, at) =>
        answered.filter(({ gateway }) => gateway === at).map(({ ms, ranMs }) => ms - ranMs),
      );
      for (const [at, { length }] of waits.entries()) {
        expect(length / answered.length, `gateway ${at}`).toBeGreaterThan((0.8 * (world.asked[at] ?? 0)) / asked);
      }
      const slowest = waits.map(p99);
      expect(Math.max(...slowest), slowest.join(' ms, ')).toBeLessThan(3 * Math.min(...slowest));
      expect((answered.length * meanMs) / (workers * seconds * 1_000)).toBeGreaterThan(0.9 * Math.min(1, load));
      expect(world.idleMs).toBeLessThan(500);
    },
  );
});
