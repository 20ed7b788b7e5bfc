import { beforeEach, describe, expect, it } from 'vitest';
import { LoadMeter } from '../../../../src/gateway/admission/load-meter.ts';

describe('the load of a gateway', () => {
  let meter: LoadMeter;
  let told: number;

  beforeEach(() => {
    told = 0;
    const book = {
      scaling: (name: string) => (name === 'fixed' ? undefined : { maxWorkers: 10, spareWorkers: 1, delayMs: 1_000 }),
    };
    meter = new LoadMeter(book);
    meter.onChange = () => {
      told += 1;
    };
  });

  const count = (name = 'hello', version?: number) => meter.count(name, version);
  const rows = (load: ReturnType<LoadMeter['all']>) =>
    load.map(({ calls, functionName, peak, version }) => [functionName, version, calls, peak]);

  it('has nothing of a function with a fixed number of workers', () => {
    const call = count('fixed', 3);
    call.move(9);
    expect(meter.all()).toEqual([]);
    call.end();
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

  it('follows a call to another version', () => {
    const call = count('hello', 3);
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
