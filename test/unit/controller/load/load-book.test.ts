import { beforeEach, describe, expect, it } from 'vitest';
import type { FunctionLoad } from '../../../../src/api/load-report.ts';
import { LoadBook, type LoadChange } from '../../../../src/controller/load/load-book.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';

const hello = (calls: number, peak = calls, version?: number): FunctionLoad => ({
  functionName: 'hello',
  version,
  calls,
  peak,
});

describe('the calls of all gateways', () => {
  let clock: ManualClock;
  let news: LoadChange[];
  let book: LoadBook;

  beforeEach(() => {
    clock = manualClock();
    news = [];
    book = new LoadBook(clock, (change) => news.push(change));
  });

  const calls = (version?: number): number => book.calls('default', 'hello', version);
  const peaks = (): readonly number[] => news.flatMap((change) => (change.kind === 'calls' ? [change.peak] : []));

  it('are those of each gateway together, by version and namespace', () => {
    const [one, other] = [book.open('default', 'one'), book.open('default', 'other')];
    one.take({ kind: 'all', load: [hello(3), hello(2, 2, 7)] });
    other.take({ kind: 'all', load: [hello(4)] });
    book.open('shop', 'third').take({ kind: 'all', load: [hello(50)] });
    expect([calls(), calls(7), book.calls('shop', 'hello', undefined)]).toEqual([7, 2, 50]);
  });

  it('are heard of from the first report on', () => {
    const stream = book.open('default', 'one');
    expect(book.isHeard('default')).toBe(false);
    stream.take({ kind: 'all', load: [] });
    expect(book.isHeard('default')).toBe(true);
    expect(book.isHeard('shop')).toBe(false);
    expect(news).toEqual([{ kind: 'heard', namespace: 'default' }]);
  });

  it('are told with the most at once, over all gateways', () => {
    const [one, other] = [book.open('default', 'one'), book.open('default', 'other')];
    one.take({ kind: 'all', load: [hello(3)] });
    other.take({ kind: 'all', load: [hello(1, 9)] });
    one.take({ kind: 'changes', load: [hello(0, 3)] });
    expect(peaks()).toEqual([3, 12, 4]);
    expect(calls()).toBe(1);
  });

  it('leave out those of a gateway that says goodbye, at once', () => {
    const stream = book.open('default', 'one');
    stream.take({ kind: 'all', load: [hello(2)] });
    stream.take({ kind: 'bye' });
    stream.end();
    expect([calls(), book.isHeard('default')]).toEqual([0, false]);
  });

  it('count for a minute where the stream of a gateway breaks off', async () => {
    const stream = book.open('default', 'one');
    stream.take({ kind: 'all', load: [hello(2)] });
    stream.end();
    await clock.advance(59_999);
    expect([calls(), book.isHeard('default')]).toEqual([2, true]);
    await clock.advance(1);
    expect([calls(), book.isHeard('default')]).toEqual([0, false]);
    expect(peaks().at(-1)).toBe(2);
  });

  it('are of no more functions than a gateway can tell of', () => {
    const many = (from: number) =>
      Array.from({ length: 10_000 }, (_, at) => ({ ...hello(1), functionName: `f${from + at}` }));
    const stream = book.open('default', 'one');
    stream.take({ kind: 'changes', load: many(0) });
    stream.take({ kind: 'changes', load: many(10_000) });
    expect(book.calls('default', 'f9999', undefined)).toBe(1);
    expect(book.calls('default', 'f10000', undefined)).toBe(0);
  });

  it('count once for a gateway that comes back, also before its former stream is known to be over', async () => {
    const former = book.open('default', 'one');
    former.take({ kind: 'all', load: [hello(2), hello(5, 5, 1)] });
    const next = book.open('default', 'one');
    next.take({ kind: 'all', load: [hello(3)] });
    former.end();
    former.take({ kind: 'changes', load: [hello(100)] });
    await clock.advance(120_000);
    expect([calls(), calls(1), book.size]).toEqual([3, 0, 1]);
  });

  it('come from the later of two streams of a gateway, whichever is heard first', async () => {
    const [former, next] = [book.open('default', 'one'), book.open('default', 'one')];
    former.take({ kind: 'all', load: [hello(2)] });
    next.take({ kind: 'all', load: [hello(3)] });
    former.take({ kind: 'all', load: [hello(4)] });
    former.end();
    await clock.advance(120_000);
    expect([calls(), book.size]).toEqual([3, 1]);
  });

  it('are no news while they stay as they are', () => {
    const stream = book.open('default', 'one');
    for (const kind of ['all', 'all', 'changes'] as const) {
      stream.take({ kind, load: [hello(2), hello(0, 0, 5)] });
    }
    expect(peaks()).toEqual([2]);
    stream.take({ kind: 'changes', load: [hello(2, 3)] });
    expect(peaks()).toEqual([2, 3]);
  });

  it('count once for a function that a report names again and again', () => {
    book.open('default', 'one').take({ kind: 'all', load: [hello(2), hello(3), hello(4)] });
    expect([calls(), ...peaks()]).toEqual([2, 2]);
  });

  it('are bounded in a namespace, those of gateways that went away included', async () => {
    const many = (from: number) =>
      Array.from({ length: 10_000 }, (_, at) => ({ ...hello(1), functionName: `f${from + at}` }));
    for (let round = 0; round < 7; round += 1) {
      const stream = book.open('shop', `made-up-${round}`);
      stream.take({ kind: 'all', load: many(round * 10_000) });
      stream.end();
    }
    expect(book.calls('shop', 'f49999', undefined)).toBe(1);
    expect(book.calls('shop', 'f50000', undefined)).toBe(0);
    book.open('default', 'one').take({ kind: 'all', load: [hello(1)] });
    expect(calls()).toBe(1);
    await clock.advance(60_000);
    book.open('shop', 'one').take({ kind: 'all', load: many(50_000) });
    expect(book.calls('shop', 'f50000', undefined)).toBe(1);
  });

  it('are those of a bounded number of gateways of a namespace', async () => {
    for (let round = 0; round < 300; round += 1) {
      const stream = book.open('shop', `made-up-${round}`);
      stream.take({ kind: 'all', load: [] });
      stream.end();
    }
    expect(book.size).toBe(256);
    book.open('default', 'one').take({ kind: 'all', load: [] });
    expect(book.isHeard('default')).toBe(true);
    await clock.advance(60_000);
    expect(book.size).toBe(1);
  });

  it('hold no timer once the term is over', () => {
    const streams = ['one', 'other'].map((id) => book.open('default', id));
    for (const stream of streams) {
      stream.take({ kind: 'all', load: [hello(1)] });
    }
    streams[0]?.end();
    book.close();
    streams[1]?.end();
    expect(clock.pending()).toBe(0);
  });
});
