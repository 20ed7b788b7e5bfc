import { describe, expect, it } from 'vitest';
import {
  planScale,
  type ScaleGroup,
  type ScaleInput,
  type ScaleState,
} from '../../../../src/controller/functions/scaling.ts';
import { type Load, ScaledFunction } from '../../../support/scaled-function.ts';

const NOW = 1_000_000;

/** Numbers from 0 to 1, the same in each run. */
function randomFrom(seed: number): () => number {
  let last = seed;
  return () => {
    last = (last * 48_271) % 2_147_483_647;
    return last / 2_147_483_647;
  };
}

function group(change: Partial<ScaleGroup> = {}): ScaleGroup {
  const calls = change.calls ?? 0;
  return {
    version: undefined,
    floor: 0,
    isServing: true,
    perWorker: 1,
    present: 0,
    calls,
    peak: calls,
    inherits: [],
    ...change,
  };
}

function plan(groups: readonly ScaleGroup[], change: Partial<ScaleInput> = {}, state?: ScaleState, now = NOW) {
  return planScale(
    state,
    {
      reserved: Number.POSITIVE_INFINITY,
      maxWorkers: 10,
      spareWorkers: 1,
      delayMs: 60_000,
      isHeard: true,
      groups,
      ...change,
    },
    now,
  );
}

function wanted(...given: Parameters<typeof plan>): readonly number[] {
  return [...plan(...given).wanted.values()];
}

describe('workers of a function with the mode Auto', () => {
  it.each<[string, Partial<ScaleGroup>, Partial<ScaleInput>, number]>([
    ['are the spare ones without calls', {}, {}, 1],
    ['are as many spare ones as the function asks for', {}, { spareWorkers: 3 }, 3],
    ['are the least number where that is more', { floor: 4 }, {}, 4],
    ['are one for each call, and a spare one', { calls: 3 }, {}, 4],
    ['count the least number among them', { calls: 3, floor: 4 }, {}, 4],
    ['are fewer where one takes several calls', { calls: 9, perWorker: 4 }, {}, 4],
    ['are no more than the most, waiting calls or not', { calls: 50 }, {}, 10],
    ['are as many as calls were at once since the last look', { calls: 1, peak: 6 }, {}, 7],
    ['are no more than calls may run', { calls: 9, peak: 9 }, { reserved: 3 }, 4],
    ['have no spare ones of a version that nobody can name', { floor: 1, isServing: false }, {}, 1],
    ['stay as many as they are while no gateway is heard', { present: 7, calls: 0 }, { isHeard: false }, 7],
    ['have their least number also while no gateway is heard', { present: 0, floor: 3 }, { isHeard: false }, 3],
    ['obey the most also while no gateway is heard', { present: 9 }, { isHeard: false, maxWorkers: 5 }, 5],
  ])('%s', (_title, change, input, expected) => {
    expect(wanted([group(change)], input)).toEqual([expected]);
  });

  it('stay for the delay after the calls have ended, and leave together then', () => {
    const busy = plan([group({ calls: 5 })]);
    const quiet = plan([group({ present: 6, peak: 5 })], {}, busy.state, NOW + 1_000);
    expect([...quiet.wanted.values()]).toEqual([6]);
    expect(quiet.lookAfterMs).toBe(60_000);
    expect(wanted([group({ present: 6 })], {}, quiet.state, NOW + 60_999)).toEqual([6]);
    expect(wanted([group({ present: 6 })], {}, quiet.state, NOW + 61_000)).toEqual([1]);
  });

  it('leave step by step where the calls went step by step', () => {
    const first = plan([group({ calls: 8 })]);
    const second = plan([group({ calls: 3, peak: 8, present: 9 })], {}, first.state, NOW + 1_000);
    const third = plan([group({ calls: 0, peak: 3, present: 9 })], {}, second.state, NOW + 31_000);
    expect([...third.wanted.values()]).toEqual([9]);
    const fourth = plan([group({ present: 9 })], {}, third.state, NOW + 61_000);
    expect([...fourth.wanted.values()]).toEqual([4]);
    expect(fourth.lookAfterMs).toBe(30_000);
    expect(wanted([group({ present: 4 })], {}, fourth.state, NOW + 91_000)).toEqual([1]);
  });

  it('leave with the calls without a delay, yet not in the first half minute of a controller', () => {
    const first = plan([group({ present: 6 })], { delayMs: 0 });
    expect([...first.wanted.values()]).toEqual([6]);
    expect(first.lookAfterMs).toBe(30_000);
    const second = plan([group({ present: 6 })], { delayMs: 0 }, first.state, NOW + 30_000);
    expect([...second.wanted.values()]).toEqual([1]);
    const busy = plan([group({ present: 1, calls: 4 })], { delayMs: 0 }, second.state, NOW + 31_000);
    const quiet = plan([group({ present: 5, peak: 4 })], { delayMs: 0 }, busy.state, NOW + 32_000);
    expect(wanted([group({ present: 5 })], { delayMs: 0 }, quiet.state, NOW + 32_001)).toEqual([1]);
  });

  it('count all anew from the first word after a silence, however long that was', () => {
    const heard = plan([group({ calls: 5 })]);
    const silent = plan([group({ present: 6 })], { isHeard: false }, heard.state, NOW + 1_000);
    const late = NOW + 900_000;
    const again = plan([group({ present: 6 })], {}, silent.state, late);
    expect([...again.wanted.values()]).toEqual([6]);
    expect(wanted([group({ present: 6 })], {}, again.state, late + 60_000)).toEqual([1]);
  });

  it('grow by a hundred in a second, and by a hundred at once', () => {
    const input = { maxWorkers: 1_000 };
    const first = plan([group({ calls: 900 })], input);
    expect([...first.wanted.values()]).toEqual([100]);
    expect(first.lookAfterMs).toBe(1_000);
    const second = plan([group({ calls: 900, present: 100 })], input, first.state, NOW + 500);
    expect([...second.wanted.values()]).toEqual([150]);
    expect(wanted([group({ calls: 900, present: 150 })], input, second.state, NOW + 1_000)).toEqual([200]);
  });
});

describe('the most workers of a function, for all of its versions together', () => {
  const versions = (...changes: readonly Partial<ScaleGroup>[]) =>
    changes.map((change, at) => group({ version: at === 0 ? undefined : at, ...change }));

  it.each<[string, readonly Partial<ScaleGroup>[], readonly number[]]>([
    ['leave each its calls and a spare one where they suffice', [{ calls: 2 }, { calls: 3 }], [3, 4]],
    ['are for least numbers first', [{ calls: 9 }, { floor: 6 }], [4, 6]],
    ['are for each that has calls before any least number', [{ floor: 5 }, { floor: 5 }, { calls: 50 }], [5, 4, 1]],
    ['are for calls before spare workers', [{ calls: 6 }, { calls: 4 }], [6, 4]],
    ['are for the version that has fewest', [{ calls: 30 }, { calls: 3 }], [7, 3]],
    ['leave no version without one', [{ calls: 30 }, {}, {}], [8, 1, 1]],
    ['are for spare workers before those that are kept', [{ peak: 8 }, { calls: 2 }], [7, 3]],
  ])('%s', (_title, changes, expected) => {
    expect(wanted(versions(...changes))).toEqual(expected);
  });

  it('go over to the version that has the calls, which is looked at again while it is short', () => {
    const first = plan(versions({ calls: 9 }, {}));
    expect([...first.wanted.values()]).toEqual([9, 1]);
    const next = versions({ peak: 9, present: 9 }, { calls: 6, present: 1 });
    const second = plan(next, {}, first.state, NOW + 1_000);
    expect([...second.wanted.values()]).toEqual([9, 1]);
    expect(second.lookAfterMs).toBe(1_000);
    expect(wanted(next, {}, second.state, NOW + 31_000)).toEqual([3, 7]);
  });

  it('stay with a version whose calls are away for a moment', () => {
    const first = plan(versions({ calls: 6 }, { calls: 3 }));
    expect([...first.wanted.values()]).toEqual([6, 4]);
    const turned = versions({ peak: 6, present: 6 }, { calls: 9, present: 4 });
    expect(wanted(turned, {}, first.state, NOW + 500)).toEqual([6, 4]);
  });

  it('give a version one at once that had none, and leave floors untouched', () => {
    const first = plan(versions({ calls: 9, floor: 3 }, { isServing: false }));
    expect([...first.wanted.values()]).toEqual([10, 0]);
    const named = versions({ calls: 9, floor: 3, present: 10 }, { calls: 1 });
    expect(wanted(named, {}, first.state, NOW + 100)).toEqual([9, 1]);
    const provisioned = versions({ calls: 9, floor: 3, present: 10 }, { floor: 6 });
    expect(wanted(provisioned, {}, first.state, NOW + 100)).toEqual([4, 6]);
  });
});

it.each<[number, Partial<ScaleGroup>, Partial<ScaleInput>]>([
  [2, { floor: 2, calls: 7 }, {}],
  [3, { calls: 7 }, { spareWorkers: 3 }],
  [3, { floor: 4 }, { maxWorkers: 3 }],
  [0, { isServing: false }, {}],
])(
  'finds %i workers enough, those of a function at rest, so that load does not show in conditions',
  (expected, change, input) => {
    expect([...plan([group(change)], input).enough.values()]).toEqual([expected]);
  },
);

describe('a version that is to get calls of others', () => {
  const versions = (permille: number, present = 0) => [
    group({ version: 1, calls: 6, present: 7 }),
    group({ version: 2, present, inherits: [{ version: 1, permille }] }),
  ];

  it.each([
    [1_000, 7],
    [500, 4],
    [100, 2],
  ])('has workers for %i of 1,000 of them before, and only then enough', (permille, expected) => {
    const { enough, wanted: found } = plan(versions(permille), { maxWorkers: 20 });
    expect([found.get(2), enough.get(2)]).toEqual([expected, expected]);
  });

  it('keeps them until the calls have come, and the other its own until they have gone for the delay', () => {
    const first = plan(versions(1_000), { maxWorkers: 20 });
    const switched = [group({ version: 1, isServing: false, calls: 1, present: 7 }), group({ version: 2, present: 7 })];
    const second = plan(switched, { maxWorkers: 20 }, first.state, NOW + 1_000);
    expect([...second.wanted.values()]).toEqual([0, 7]);
    expect(second.enough.get(2)).toBe(1);
  });

  it('has no more of them with each look, where it has a part of the calls already', () => {
    const inherits = [1, 2].map((version) => ({ version, permille: 900 }));
    const look = (state?: ScaleState, now = NOW) =>
      plan(
        [group({ version: 1, calls: 2, present: 3 }), group({ version: 2, calls: 1, present: 2, inherits })],
        { maxWorkers: 50 },
        state,
        now,
      );
    let last = look();
    for (let at = 1; at < 20; at += 1) {
      last = look(last.state, NOW + at * 100);
    }
    expect([last.wanted.get(2), last.enough.get(2)]).toEqual([4, 4]);
    // They stay for the delay once the alias has changed.
    const switched = [group({ version: 1, isServing: false, present: 3 }), group({ version: 2, present: 4 })];
    const next = plan(switched, { maxWorkers: 50 }, last.state, NOW + 10_000);
    expect([...next.wanted.values()]).toEqual([0, 4]);
    expect([...plan(switched, { maxWorkers: 50 }, next.state, NOW + 62_000).wanted.values()]).toEqual([0, 1]);
  });

  it('is not as wished without any worker, where the most of all leaves none', () => {
    const { enough, wanted: found } = plan([group(), group({ version: 1 }), group({ version: 2, isServing: false })], {
      maxWorkers: 1,
    });
    expect([...found.values()]).toEqual([1, 0, 0]);
    expect([...enough.values()]).toEqual([1, 1, 0]);
  });

  it('is not looked at for them again and again until the alias has changed', () => {
    expect(plan(versions(1_000), { maxWorkers: 20, delayMs: 0 }).lookAfterMs).toBeUndefined();
    // Workers beyond them leave after the delay all the same.
    const before = plan([group({ version: 1, calls: 6 }), group({ version: 2, calls: 9 })], { maxWorkers: 20 });
    const after = plan(versions(1_000), { maxWorkers: 20 }, before.state, NOW + 1_000);
    expect(after.lookAfterMs).toBe(59_000);
  });

  it('has workers for them before those that the other only keeps', () => {
    const before = plan([group({ version: 1, calls: 9 }), group({ version: 2 })]);
    const rare = [group({ version: 1, calls: 3, present: 9 }), group({ version: 2, present: 1 })];
    const calm = plan(rare, {}, plan(rare, {}, before.state, NOW + 1_000).state, NOW + 50_000);
    expect([...calm.wanted.values()]).toEqual([9, 1]);
    const shared = [rare[0] ?? group(), group({ version: 2, present: 1, inherits: [{ version: 1, permille: 500 }] })];
    expect(wanted(shared, {}, calm.state, NOW + 50_100)).toEqual([5, 5]);
  });

  it('has no more than the most of all allows', () => {
    const { enough, wanted: found } = plan(versions(1_000), { maxWorkers: 10 });
    expect([found.get(1), found.get(2), enough.get(2)]).toEqual([7, 3, 3]);
  });
});

describe('a function under load, with a second for each new worker', () => {
  it('answers a storm from one spare worker, and is small again after the delay', () => {
    const world = new ScaledFunction({ maxWorkers: 50, delayMs: 60_000 });
    world.run(60);
    const at = world.now;
    world.run(1, (now) => (now === at ? Array.from({ length: 40 }, () => 2_000) : []));
    expect(world.workers).toBe(41);
    world.run(9);
    expect(world.waits).toHaveLength(40);
    expect(Math.max(...world.waits)).toBeLessThanOrEqual(1_100);
    world.run(50);
    expect(world.workers).toBe(41);
    world.run(10);
    expect(world.workers).toBe(1);
    expect(world.created).toBe(40);
  });

  it('makes no worker twice under a sawtooth that is quicker than the delay', () => {
    const world = new ScaledFunction({ delayMs: 120_000 });
    const teeth = (now: number): readonly number[] =>
      Math.floor(now / 60_000) % 2 === 0 && now % 1_000 === 0 ? Array.from({ length: 6 }, () => 900) : [];
    world.run(60, teeth);
    const { created } = world;
    world.run(600, teeth);
    // Those that were needed for the backlog of the first tooth have left.
    expect([world.created, world.workers]).toEqual([created, 7]);
    world.run(121);
    expect(world.workers).toBe(1);
  });

  it('keeps still under a constant load with noise', () => {
    const random = randomFrom(7);
    const world = new ScaledFunction({ maxWorkers: 30 });
    const noise = (): readonly number[] => Array.from({ length: random() < 0.5 ? 1 : 0 }, () => 500 + random() * 1_000);
    world.run(600, noise);
    const { created } = world;
    world.waits.length = 0;
    world.run(1_200, noise);
    expect(world.created - created).toBeLessThanOrEqual(4);
    expect(world.deleted).toBeLessThanOrEqual(6);
    // A call waits only where a new highest number meets no spare worker.
    expect(world.waits.filter((ms) => ms > 0).length).toBeLessThanOrEqual(5);
  });

  it('keeps its workers for the delay where a gateway goes away in the middle of a storm', () => {
    const world = new ScaledFunction({ maxWorkers: 30, gateways: 2, delayMs: 60_000 });
    const storm = (now: number): readonly number[] => (now % 1_000 === 0 ? Array.from({ length: 16 }, () => 950) : []);
    world.run(30, storm);
    const { workers } = world;
    expect(workers).toBeGreaterThanOrEqual(17);
    world.lose(1);
    world.run(59);
    expect(world.workers).toBe(workers);
    world.run(5);
    expect(world.workers).toBe(1);
    expect(world.callsLeft).toBe(0);
  });

  it('does not shrink under a new leader before its gateways were heard, nor for the delay after that', () => {
    const world = new ScaledFunction({ maxWorkers: 30, delayMs: 10_000 });
    const steady = (now: number): readonly number[] =>
      now % 1_000 === 0 ? Array.from({ length: 12 }, () => 1_000) : [];
    world.run(60, steady);
    const { workers } = world;
    world.changeLeader();
    world.run(45, steady);
    expect(world.workers).toBe(workers);
    world.heard.add(0);
    world.run(29, steady);
    expect(world.workers).toBe(workers);
    world.run(60);
    expect(world.workers).toBe(1);
  });

  it('waits no longer than a creation where a floor is moved meanwhile', () => {
    const world = new ScaledFunction({ floor: 5, maxWorkers: 20 });
    world.run(10);
    expect(world.workers).toBe(5);
    world.run(2, (now) => (now % 1_000 === 0 ? Array.from({ length: 5 }, () => 100) : []));
    expect(Math.max(...world.waits)).toBe(0);
  });
});

describe('versions that share the most workers under load', () => {
  type Calls = ReturnType<Load>;
  /** About seven calls at once, of the versions from 1 on by their weights. */
  const noiseOf = (seed: number, weights: readonly number[]): Load => {
    const random = randomFrom(seed);
    const drawn = weights.flatMap((weight, at) => Array.from({ length: weight }, () => at + 1));
    return () =>
      Array.from({ length: Math.floor(random() * 4) }, () => ({
        ms: 100 + random() * 700,
        version: drawn[Math.floor(random() * drawn.length)] ?? 1,
      }));
  };
  const storm = (version: number, now: number): Calls =>
    now % 1_000 === 0 ? Array.from({ length: 9 }, () => ({ ms: 900, version })) : [];

  it('keep still where their calls alternate', () => {
    const world = new ScaledFunction({ versions: 2, maxWorkers: 10 });
    const turns = (now: number): Calls =>
      now % 500 === 0 ? Array.from({ length: 9 }, () => ({ ms: 400, version: 1 + ((now / 500) % 2) })) : [];
    world.run(60, turns);
    expect([world.workersOf(undefined), world.workers]).toEqual([1, 10]);
    const { created, deleted } = world;
    world.run(600, turns);
    expect([world.created - created, world.deleted - deleted]).toEqual([0, 0]);
  });

  it.each([
    ['two versions, one with a tenth', [9, 1]],
    ['two versions, one with a third', [2, 1]],
    ['three versions', [5, 3, 2]],
  ])('move few workers under noise: %s', (_title, weights) => {
    const world = new ScaledFunction({ versions: weights.length, maxWorkers: 10 });
    const noise = noiseOf(11, weights);
    world.run(60, noise);
    const { created, deleted } = world;
    world.run(600, noise);
    // Five in a minute; by the calls of the moment there were over a hundred.
    expect(world.created - created).toBeLessThanOrEqual(50);
    expect(world.deleted - deleted).toBe(world.created - created);
  });

  it('are divided by their calls where one has most of them, so that none waits without an end', () => {
    const world = new ScaledFunction({ versions: 2, maxWorkers: 10 });
    world.run(600, noiseOf(5, [9, 1]));
    expect([1, 2].map((version) => world.workersOf(version))).toEqual([7, 2]);
    expect(world.callsLeft).toBeLessThan(50);
  });

  it('leave workers that are not called to one that is short, in about half a minute', () => {
    const world = new ScaledFunction({ versions: 2, maxWorkers: 10 });
    world.run(10, (now) => storm(1, now));
    expect(world.workersOf(1)).toBe(8);
    world.run(5, (now) => storm(2, now));
    // Not all at once: the calls may be back in a moment.
    expect([1, 2].map((version) => world.workersOf(version))).toEqual([5, 4]);
    world.run(30, (now) => storm(2, now));
    expect([1, 2].map((version) => world.workersOf(version))).toEqual([1, 8]);
  });
});
