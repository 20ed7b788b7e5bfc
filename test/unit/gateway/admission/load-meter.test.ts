import { beforeEach, describe, expect, it } from 'vitest';
import { LoadMeter } from '../../../../src/gateway/admission/load-meter.ts';
import { type Resolution, versionFor } from '../../../../src/gateway/agents/version-book.ts';

const live = { name: 'live', version: 3, routing: [{ version: 4, permille: 100 }] };

const versionAs = (version: number): Resolution => ({ kind: 'Version', version, isNamed: true, isPublished: true });

describe('the load of a gateway', () => {
  let meter: LoadMeter;
  let random: number;
  let told: number;
  /** Meaning of the alias; undefined for its versions. */
  let meaning: Resolution | undefined;

  beforeEach(() => {
    random = 0.5;
    told = 0;
    meaning = undefined;
    const book = {
      scaling: (name: string) => (name === 'fixed' ? undefined : { maxWorkers: 10, spareWorkers: 1, delayMs: 1_000 }),
      resolve: (_name: string, qualifier: string | undefined, draw: () => number): Resolution =>
        qualifier === undefined ? { kind: 'Latest' } : (meaning ?? versionAs(versionFor(live, draw()))),
    };
    meter = new LoadMeter(book, () => random);
    meter.onChange = () => {
      told += 1;
    };
  });

  const count = (name = 'hello', qualifier?: string) =>
    meter.expect({ name, ...(qualifier === undefined ? {} : { qualifier }) }).count();
  const rows = (load: ReturnType<LoadMeter['all']>) =>
    load.map(({ calls, functionName, peak, version }) => [functionName, version, calls, peak]);

  it('has nothing of a function with a fixed number of workers', () => {
    const call = count('fixed', 'live');
    call.move(9);
    expect(meter.all()).toEqual([]);
    call.end();
    expect([meter.all(), told]).toEqual([[], 0]);
    expect(versionFor(live, call.draw())).toBe(3);
  });

  it('has no call that is not let in', () => {
    expect(meter.expect({ name: 'hello', qualifier: 'live' }).version).toBe(3);
    expect([meter.all(), told]).toEqual([[], 0]);
  });

  it('tells what has changed since it was told, with the most at once', () => {
    const [first, second] = [count(), count()];
    second.end();
    expect(rows(meter.changes())).toEqual([['hello', undefined, 1, 2]]);
    expect(meter.changes()).toEqual([]);
    first.end();
    expect(rows(meter.changes())).toEqual([['hello', undefined, 0, 1]]);
    expect(meter.all()).toEqual([]);
  });

  it('has the call of an alias with the version that was drawn for it, and draws once', () => {
    const main = count('hello', 'live');
    random = 0.05;
    const tenth = count('hello', 'live');
    random = 0.99;
    expect([versionFor(live, main.draw()), versionFor(live, tenth.draw())]).toEqual([3, 4]);
    expect(rows(meter.all())).toEqual([
      ['hello', 3, 1, 1],
      ['hello', 4, 1, 1],
    ]);
  });

  it('has a call know the version that its alias names next, and the last one where the alias is gone', () => {
    const call = count('hello', 'live');
    meaning = versionAs(9);
    expect(call.version()).toBe(9);
    meaning = { kind: 'Unknown' };
    expect(call.version()).toBe(9);
  });

  it('follows a call to another version', () => {
    const call = count('hello', 'live');
    meter.changes();
    call.move(9);
    call.move(9);
    expect(rows(meter.changes())).toEqual([
      ['hello', 3, 0, 1],
      ['hello', 9, 1, 1],
    ]);
    call.end();
    expect(rows(meter.changes())).toEqual([['hello', 9, 0, 1]]);
  });

  it('asks to be told with the first change, and then only after it was told', () => {
    count();
    count();
    expect(told).toBe(1);
    meter.changes();
    count();
    expect(told).toBe(2);
  });
});
