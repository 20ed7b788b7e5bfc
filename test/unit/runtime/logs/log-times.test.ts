import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  beginsOf,
  formatLogPoint,
  joinedPoints,
  type LogPoint,
  LogTimes,
  offsetAtTime,
  parseLogPoints,
  thinned,
  writerOf,
} from '../../../../src/runtime/logs/log-times.ts';

function looked(time: number, offset: number): LogPoint {
  return { kind: 'Looked', time, offset };
}

function began(time: number, offset: number, uid = 'u'): LogPoint {
  return { kind: 'Began', time, offset, uid };
}

describe('the times of a log', () => {
  it('leave out nothing that was written since, and only what was written before the last look', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ waitMs: fc.nat(5_000), bytes: fc.nat(100), look: fc.boolean() }), {
          maxLength: 600,
        }),
        fc.nat(1_000_000),
        (steps, since) => {
          const times = new LogTimes();
          const kept: LogPoint[] = [];
          const writes: { time: number; offset: number }[] = [];
          let now = 0;
          let end = 0;
          for (const { waitMs, bytes, look } of steps) {
            now += waitMs;
            if (bytes > 0) {
              writes.push({ time: now, offset: end });
              end += bytes;
            }
            if (look && times.add(looked(now + 1, end))) {
              kept.push(looked(now + 1, end));
            }
          }
          for (const points of [
            times.points,
            kept,
            joinedPoints(parseLogPoints(kept.map(formatLogPoint).join('')), times.points),
          ]) {
            const offset = offsetAtTime(points, since);
            for (const write of writes) {
              expect(write.time < since || write.offset >= offset).toBe(true);
            }
          }
          expect(times.points.length).toBeLessThanOrEqual(145);
        },
      ),
    );
  });

  it('are as exact as the looks were, of late', () => {
    const times = new LogTimes();
    for (let second = 0; second < 10_000; second += 1) {
      times.add(looked(second * 1_000, second * 10));
    }
    expect(offsetAtTime(times.points, 9_990_500)).toBe(99_900);
    expect(offsetAtTime(times.points, 5_000_000)).toBeGreaterThan(45_000);
  });

  it('go to the file every ten seconds while the log grows, and when it falls silent', () => {
    const times = new LogTimes();
    expect(times.add(began(0, 0))).toBe(true);
    const due: number[] = [];
    for (let second = 1; second <= 25; second += 1) {
      if (times.add(looked(second * 1_000, second))) {
        due.push(second);
      }
    }
    expect(due).toEqual([10, 20]);
    expect(times.add(looked(26_000, 25))).toBe(false);
    expect(times.add(looked(27_000, 25))).toBe(true);
    expect(times.add(looked(28_000, 25))).toBe(false);
    expect(times.add(looked(90_000, 25))).toBe(false);
  });

  it('know where each container began, and who wrote last', () => {
    const points = [began(1, 0, 'a'), looked(2, 5), began(3, 9, 'b'), looked(4, 12)];
    expect(beginsOf(points)).toEqual([0, 9]);
    expect(writerOf(points)).toEqual({ uid: 'b', since: 3 });
    expect(writerOf([looked(1, 1)])).toBeUndefined();
    const many = Array.from({ length: 500 }, (_, index) => [began(index, index * 2), looked(index, index * 2 + 1)]);
    expect(beginsOf(thinned(many.flat())).at(-1)).toBe(998);
    expect(beginsOf(thinned(many.flat()))).toHaveLength(16);
  });

  it('are read back from their file, without the lines that make no sense', () => {
    const points = [began(1_700_000_000_000, 0, 'uid-1'), looked(1_700_000_000_500, 42)];
    expect(parseLogPoints(points.map(formatLogPoint).join(''))).toEqual(points);
    expect(parseLogPoints('p 1 2\np 1\nb 5 6\nx 1 2\n\0\0\0p 9 9\np 3 4 u\np 7 8')).toEqual([
      looked(1, 2),
      looked(7, 8),
    ]);
  });

  it('are the same points whether from the file or from memory', () => {
    expect(joinedPoints([began(1, 0), looked(2, 5)], [looked(2, 5), looked(3, 9)])).toEqual([
      began(1, 0),
      looked(2, 5),
      looked(3, 9),
    ]);
  });
});
