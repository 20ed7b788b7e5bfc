import { beforeEach, describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { Scaler } from '../../../../src/controller/functions/scaler.ts';
import { groupsOf } from '../../../../src/controller/functions/worker-groups.ts';
import { LoadBook, type LoadStream } from '../../../../src/controller/load/load-book.ts';
import { functionFixture, ownedFixture, sourceOf, versionFixture } from '../../../support/function-fixture.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';

function scaled(scaling: Partial<LambdaFunction['spec']['scaling']> = {}, more: Partial<LambdaFunction['spec']> = {}) {
  return functionFixture({ spec: { scaling: { mode: 'Auto', minWorkers: 0, ...scaling }, ...more } });
}

describe('the scaling of functions', () => {
  let clock: ManualClock;
  let looks: { readonly key: string; readonly afterMs: number }[];
  let book: LoadBook;
  let scaler: Scaler;
  let stream: LoadStream;

  beforeEach(() => {
    clock = manualClock();
    looks = [];
    book = new LoadBook(clock, (change) => looks.push(...scaler.record(change)));
    scaler = new Scaler({ load: book, clock });
    stream = book.open('default', 'gateway');
  });

  const tell = (calls: number, peak = calls, version?: number): void =>
    stream.take({ kind: 'changes', load: [{ functionName: 'hello', version, calls, peak }] });
  function wanted(owner: LambdaFunction, present = 0, versions: readonly ReturnType<typeof versionFixture>[] = []) {
    const groups = groupsOf({ owner, template: sourceOf(owner).hash, versions, isAwaited: false });
    const living = Array.from({ length: present }, (_, ordinal) => ownedFixture(owner, ordinal));
    const found = scaler.apply(owner, groups, living);
    return { ...found, numbers: found.groups.map((group) => [group.wanted, group.enough]) };
  }

  it('leaves functions with a fixed number of workers as they are', () => {
    tell(5);
    expect(wanted(functionFixture()).numbers).toEqual([[2, undefined]]);
    tell(9);
    expect(looks).toEqual([]);
  });

  it('asks for a look where calls need more workers, and for one after the delay where they have ended', () => {
    tell(0);
    expect(wanted(scaled()).numbers).toEqual([[1, 1]]);
    tell(4);
    expect(looks.splice(0)).toEqual([{ key: 'default/hello', afterMs: 0 }]);
    expect(wanted(scaled(), 1).numbers).toEqual([[5, 1]]);
    // Fewer calls need no look but that one.
    tell(2, 4);
    expect(looks.splice(0)).toEqual([{ key: 'default/hello', afterMs: 300_000 }]);
    expect(wanted(scaled(), 5).numbers).toEqual([[5, 1]]);
  });

  it('has as many as the floor says where no bound is written', () => {
    tell(0);
    expect(wanted(scaled({ minWorkers: 12 })).numbers).toEqual([[12, 12]]);
    tell(20);
    expect(wanted(scaled({ minWorkers: 3 }), 3).numbers).toEqual([[10, 3]]);
  });

  it('counts what was told before the function was', () => {
    tell(3);
    expect(wanted(scaled({ spareWorkers: 2 })).numbers).toEqual([[5, 2]]);
  });

  it('sees calls that began and ended between two looks', () => {
    tell(0);
    wanted(scaled(), 1);
    tell(0, 6);
    expect(wanted(scaled(), 1).numbers).toEqual([[7, 1]]);
  });

  it('spends nothing of its growth on changes before the next plan', async () => {
    tell(0);
    wanted(scaled({ maxWorkers: 1_000 }));
    tell(300);
    await clock.advance(1_000);
    tell(299);
    expect(looks.splice(0)).toContainEqual({ key: 'default/hello', afterMs: 0 });
    expect(wanted(scaled({ maxWorkers: 1_000 }), 1).numbers).toEqual([[101, 1]]);
  });

  it('looks at the functions of a namespace once its gateways are heard', () => {
    expect(wanted(scaled(), 4).numbers).toEqual([[4, 1]]);
    stream.take({ kind: 'all', load: [] });
    expect(looks).toEqual([{ key: 'default/hello', afterMs: 0 }]);
  });

  it('gives a version that an alias names spare workers, and one that was never Active one', () => {
    const owner = scaled({ spareWorkers: 2 }, { aliases: [{ name: 'live', version: 1 }] });
    const versions = [versionFixture(owner, 1), versionFixture(owner, 2, 'Pending'), versionFixture(owner, 3)];
    tell(3, 3, 1);
    expect(wanted(owner, 0, versions).numbers).toEqual([
      [2, 2],
      [5, 2],
      [1, 1],
    ]);
  });

  it('has workers for the calls that an alias is to give to another version, before it changes', () => {
    const aliases = [{ name: 'live', version: 1 }];
    const before = scaled({ maxWorkers: 20 }, { aliases });
    const owner = {
      ...before,
      spec: { ...before.spec, aliases: [{ name: 'live', version: 2 }] },
      status: { observedGeneration: 1, aliases },
    };
    const versions = [versionFixture(owner, 1), versionFixture(owner, 2)];
    tell(4, 4, 1);
    expect(wanted(owner, 0, versions).numbers).toEqual([
      [1, 1],
      [5, 1],
      [5, 5],
    ]);
  });

  it('counts the calls that one worker takes at once', () => {
    const owner = scaled();
    const { template } = owner.spec;
    const several = { ...template, spec: { ...template.spec, concurrency: { perWorker: 4, queueDepth: 100 } } };
    tell(9);
    expect(wanted(scaled({}, { template: several })).numbers).toEqual([[4, 1]]);
  });

  it('counts no calls beyond the reserved concurrency', () => {
    tell(9);
    expect(wanted(scaled({}, { reservedConcurrency: 2 })).numbers).toEqual([[3, 1]]);
  });

  it('keeps nothing for a function that was deleted and made again', () => {
    tell(8);
    expect(wanted(scaled()).numbers).toEqual([[9, 1]]);
    tell(0, 8);
    const again = scaled();
    expect(wanted({ ...again, metadata: { ...again.metadata, uid: 'another' } }).numbers).toEqual([[1, 1]]);
  });

  it('ends with the function', () => {
    tell(4);
    wanted(scaled());
    scaler.forget('default/hello');
    tell(8);
    const going = scaled();
    const { groups } = wanted({ ...going, metadata: { ...going.metadata, deletionTimestamp: '2026-11-01T00:00:00Z' } });
    expect(groups[0]?.wanted).toBe(0);
    expect(looks).toEqual([]);
  });
});
