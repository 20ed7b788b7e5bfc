import { describe, expect, it } from 'vitest';
import { PullMeter } from '../../../../src/runtime/images/pull-progress.ts';

const mebibyte = 2 ** 20;
const piece = (event: string, name: string, done: number, total: number) => ({
  event,
  name,
  done: done * mebibyte,
  total: total * mebibyte,
});

describe('the progress of a pull', () => {
  it('is nothing to tell of before the registry has said how much there is', () => {
    const meter = new PullMeter();
    meter.note(piece('Resolving hello:1', '', 0, 0));
    expect(meter.text()).toBeUndefined();
  });

  it('is the sum of all pieces, whether they were fetched or here before', () => {
    const meter = new PullMeter();
    meter.note(piece('waiting', 'layer-1', 0, 60));
    meter.note(piece('waiting', 'layer-2', 0, 40));
    meter.note(piece('downloading', 'layer-1', 15, 60));
    expect(meter.text()).toBe('15.0 of 100.0 MiB (15 %)');
    meter.note(piece('already exists', 'layer-2', 40, 40));
    expect(meter.text()).toBe('55.0 of 100.0 MiB (55 %)');
    meter.note(piece('complete', 'layer-1', 60, 60));
    expect(meter.text()).toBe('100.0 of 100.0 MiB (100 %)');
    meter.note(piece('extracting', 'layer-1', 0, 60));
    expect(meter.text()).toBe('unpacking 100.0 MiB');
  });

  it('tells bytes that came from being told the same again', () => {
    const meter = new PullMeter();
    expect(meter.note(piece('downloading', 'layer-1', 15, 60))).toBe(true);
    expect(meter.note(piece('downloading', 'layer-1', 15, 60))).toBe(false);
    expect(meter.note(piece('downloading', 'layer-1', 16, 60))).toBe(true);
    expect(meter.note(piece('extracting', 'layer-1', 60, 60))).toBe(true);
    expect(meter.note(piece('extracting', 'layer-1', 60, 60))).toBe(true);
  });
});
