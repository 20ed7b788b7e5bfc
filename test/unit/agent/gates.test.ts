import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import { EsbError } from '../../../src/common/errors.ts';
import { desiredFixture, FleetLab, type LabOptions } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const startMs = 150;
const room = { capacity: { memoryMiB: 1_000_000, workers: 1_000 } };

function inNamespace(namespace: string, name: string, change: Partial<DesiredWorker> = {}): DesiredWorker {
  const { identity, ...rest } = desiredFixture({ name, ...change });
  return { ...rest, identity: { ...identity, namespace } };
}

/** A fleet whose operations of one kind take a time that a test says, by container id. */
async function labWith(
  operation: 'ensure' | 'pause' | 'destroy',
  takesMs: (containerId: string) => number,
  options: LabOptions = room,
): Promise<FleetLab> {
  const lab = new FleetLab(options);
  await lab.fleet.adopt();
  lab.runtime.pulls = false;
  lab.emulators.onCall = (call) => call.answer();
  lab.runtime.before = async (each, id) => {
    if (each === operation) {
      await passes(lab, takesMs(id));
    }
  };
  return lab;
}

function passes(lab: FleetLab, ms: number): Promise<void> {
  return new Promise((resolve) => {
    lab.clock.setTimer(() => resolve(), ms);
  });
}

/** Milliseconds until a call to each of those workers is answered, all made now. */
async function waits(lab: FleetLab, names: readonly string[], withinMs: number): Promise<readonly number[]> {
  const begun = lab.clock.monotonic();
  const answered: number[] = [];
  for (const name of names) {
    void lab.invoke({ name }).then(({ kind }) => {
      if (kind === 'Answered') {
        answered.push(lab.clock.monotonic() - begun);
      }
    });
  }
  await lab.clock.advance(withinMs);
  return answered.toSorted((a, b) => a - b);
}

const named = (prefix: string, count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}`);

describe('workers that never open their port', () => {
  async function silent(count: number): Promise<FleetLab> {
    const lab = await labWith('ensure', () => startMs);
    lab.runtime.listens = async (id) => {
      if (id.startsWith('broken')) {
        await passes(lab, 60_000);
        throw new EsbError('nothing listens', { code: 'NotListening', retryable: true });
      }
    };
    for (const name of named('broken', count)) {
      lab.fleet.apply(inNamespace('mallory', name));
    }
    return lab;
  }

  it('keep nobody else from starting, however many they are', async () => {
    const lab = await silent(64);
    lab.fleet.apply(desiredFixture({ name: 'fine', restingState: 'Absent' }));
    await lab.clock.advance(1_000);
    for (let second = 0; second < 120; second += 20) {
      const [waited] = await waits(lab, ['fine'], 20_000);
      expect(waited).toBeLessThanOrEqual(2 * startMs);
    }
  });

  it('are tried ever less often, up to every five minutes', async () => {
    const lab = await silent(1);
    await lab.clock.advance(3_600_000);
    // A minute of waiting each, and pauses of 10, 20, 40, 80, 160, 300, 300… seconds between them.
    expect(lab.runtime.count('ensure')).toBeLessThanOrEqual(14);
    expect(lab.runtime.count('ensure')).toBeGreaterThanOrEqual(12);
  });
});

describe('starts', () => {
  it('that a call waits for have places of their own', async () => {
    const lab = await labWith('ensure', (id) => (id.startsWith('slow') ? 60_000 : startMs));
    for (const name of named('slow', 40)) {
      lab.fleet.apply(inNamespace('mallory', name));
    }
    lab.fleet.apply(desiredFixture({ name: 'fine', restingState: 'Absent' }));
    await settle();
    expect(await waits(lab, ['fine'], 1_000)).toEqual([startMs]);
  });

  it('that wait already take such a place when a call comes', async () => {
    const lab = await labWith('ensure', (id) => (id.startsWith('slow') ? 60_000 : startMs));
    for (const name of named('slow', 40)) {
      lab.fleet.apply(inNamespace('mallory', name));
    }
    lab.fleet.apply(desiredFixture({ name: 'fine' }));
    await lab.clock.advance(1_000);
    expect(lab.task('fine')).toBeUndefined();
    expect(await waits(lab, ['fine'], 1_000)).toEqual([startMs]);
  });

  it('of one namespace do not wait behind all those of another', async () => {
    const lab = await labWith('ensure', () => 1_000);
    for (const name of named('many', 200)) {
      lab.fleet.apply(inNamespace('mallory', name));
    }
    await settle();
    lab.fleet.apply(desiredFixture({ name: 'one' }));
    await lab.clock.advance(2_000);
    expect(lab.task('one')).toBe('Running');
  });
});

/** How many operations of a kind are under way, and were at most. */
function counted(lab: FleetLab, operation: 'pause' | 'destroy', takesMs: number): { most: number } {
  const seen = { most: 0 };
  let now = 0;
  lab.runtime.before = async (each) => {
    if (each === operation) {
      now += 1;
      seen.most = Math.max(seen.most, now);
      await passes(lab, takesMs);
      now -= 1;
    }
  };
  return seen;
}

/** Workers that run, of the namespace `mallory`. */
async function many(count: number, change: Partial<DesiredWorker>): Promise<FleetLab> {
  const lab = await labWith('ensure', () => 1);
  for (const name of named('many', count)) {
    lab.fleet.apply(inNamespace('mallory', name, change));
  }
  await lab.clock.advance(5_000);
  expect(lab.runtime.count('ensure')).toBe(count);
  return lab;
}

describe('pauses', () => {
  const idle = { pauseAfterSeconds: 10, restingState: 'Running' } as const;

  it('of many workers that fall idle together are a few at a time', async () => {
    const lab = await many(100, idle);
    const seen = counted(lab, 'pause', 100);
    await lab.clock.advance(20_000);
    expect(lab.runtime.count('pause')).toBe(100);
    expect(seen.most).toBeLessThanOrEqual(8);
  });

  it('that have not begun are given up for a call', async () => {
    const lab = await many(100, idle);
    counted(lab, 'pause', 1_500);
    await lab.clock.advance(6_000);
    const begun = lab.runtime.count('pause');
    expect(begun).toBeLessThan(100);
    const awake = named('many', 100).filter(
      (name) => !lab.runtime.operations.some((each) => each.startsWith(`pause ${name}-`)),
    );
    expect(await waits(lab, awake.slice(-10), 100)).toEqual(Array.from({ length: 10 }, () => 0));
  });

  it('that hang keep others from theirs for two seconds', async () => {
    const lab = await many(8, idle);
    lab.fleet.apply(desiredFixture({ name: 'fine', ...idle }));
    lab.runtime.before = async (each, id) => {
      if (each === 'pause' && id.startsWith('many')) {
        await passes(lab, 14_000);
      }
    };
    await lab.clock.advance(13_000);
    expect(lab.phase('fine')).toBe('Paused');
  });
});

describe('removals', () => {
  it('of a whole namespace are sixteen at a time, and those of others are not behind them', async () => {
    const lab = await many(200, {});
    lab.fleet.apply(desiredFixture({ name: 'one' }));
    await lab.clock.advance(1_000);
    const seen = counted(lab, 'destroy', 500);
    for (const name of named('many', 200)) {
      lab.fleet.release(`uid-of-${name}`);
    }
    lab.fleet.release('uid-of-one');
    await lab.clock.advance(1_100);
    expect(lab.task('one')).toBeUndefined();
    await lab.clock.advance(30_000);
    expect(lab.runtime.containers.size).toBe(0);
    expect(seen.most).toBeLessThanOrEqual(16);
  });

  it('that a call waits for go first', async () => {
    const lab = await many(100, {});
    lab.fleet.apply(desiredFixture({ name: 'one', networkMode: 'Host' }));
    await lab.clock.advance(1_000);
    counted(lab, 'destroy', 500);
    for (const name of named('many', 100)) {
      lab.fleet.release(`uid-of-${name}`);
    }
    lab.fleet.apply(desiredFixture({ name: 'one', networkMode: 'Host', generation: 2, shapeHash: 'v1-b' }));
    const [waited] = await waits(lab, ['one'], 2_000);
    expect(waited).toBeLessThanOrEqual(600);
  });

  it('that have not begun are given up for a call', async () => {
    const lab = await many(100, {});
    lab.fleet.apply(desiredFixture({ name: 'one' }));
    await lab.clock.advance(1_000);
    counted(lab, 'destroy', 1_500);
    for (const name of named('many', 100)) {
      lab.fleet.release(`uid-of-${name}`);
    }
    lab.fleet.apply(desiredFixture({ name: 'one', generation: 2, restingState: 'Absent' }));
    await settle();
    expect(await waits(lab, ['one'], 100)).toEqual([0]);
    await lab.clock.advance(60_000);
    expect(lab.task('one')).toBeUndefined();
  });
});

describe('replacements of workers that rest', () => {
  const resting = { restingState: 'Paused' } as const;
  const fresh = { generation: 2, shapeHash: 'v1-b' } as const;

  /** Ten resting workers of one namespace, and one of another, all of them of another shape from here on. */
  async function replaced(change: (lab: FleetLab) => void): Promise<FleetLab> {
    const lab = await many(10, resting);
    lab.fleet.apply(desiredFixture({ name: 'one', ...resting }));
    await lab.clock.advance(1_000);
    change(lab);
    for (const name of named('many', 10)) {
      lab.fleet.apply(inNamespace('mallory', name, { ...resting, ...fresh }));
    }
    await lab.clock.advance(3_000);
    lab.fleet.apply(desiredFixture({ name: 'one', ...resting, ...fresh }));
    await lab.clock.advance(3_000);
    return lab;
  }

  const hangs = (id: string): Promise<void> =>
    id.startsWith('many') ? new Promise<void>(() => undefined) : Promise.resolve();

  it.each([
    ['whose images come slowly', (lab: FleetLab) => (lab.runtime.pull = hangs)],
    ['that do not listen', (lab: FleetLab) => (lab.runtime.listens = hangs)],
  ])('keep nobody else from theirs, and few hold memory for two: %s', async (_, change) => {
    const lab = await replaced((each) => void change(each));
    await lab.clock.advance(3_000);
    expect(lab.runtime.taskOf(lab.container('one', 'v1-b'))).toBe('Paused');
    // Four that wait, and four that were begun before the first four had to.
    expect(lab.fleet.allocation().workers).toBeLessThanOrEqual(11 + 8);
  });

  it('are all made once their image is there', async () => {
    const there = Promise.withResolvers<void>();
    const lab = await replaced((each) => {
      each.runtime.pull = () => there.promise;
    });
    expect(lab.runtime.taskOf(lab.container('one', 'v1-b'))).toBeUndefined();
    there.resolve();
    await waitFor('all to be replaced', async () => {
      await lab.clock.advance(1_000);
      const made = [...lab.runtime.containers.values()];
      return made.length === 11 && made.every(({ shapeHash }) => shapeHash === 'v1-b');
    });
  });
});
