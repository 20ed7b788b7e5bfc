import { describe, expect, it } from 'vitest';
import { IssuedStamps, StampSource } from '../../../../src/agent/invoke/in-flight-marker.ts';
import { manualClock } from '../../../support/manual-clock.ts';

describe('activity stamps', () => {
  it('are RFC 3339 with microseconds and rise strictly, also when the clock steps back', () => {
    const clock = manualClock(Date.parse('2026-11-25T15:00:00.123Z'));
    const source = new StampSource(clock);
    expect(source.next()).toBe('2026-11-25T15:00:00.123000Z');
    expect(source.next()).toBe('2026-11-25T15:00:00.123001Z');
    clock.step(-60_000);
    expect(source.next()).toBe('2026-11-25T15:00:00.123002Z');
    source.notBefore('2026-11-25T16:00:00.000009Z');
    expect(source.next()).toBe('2026-11-25T16:00:00.000010Z');
  });

  it('are told from those of others', () => {
    const source = new StampSource(manualClock());
    const own = [source.next(), source.next(), source.next()];
    const issued = new IssuedStamps(source, own);
    expect(own.every((stamp) => issued.has(stamp))).toBe(true);
    expect(issued.has(source.next())).toBe(false);
    expect(issued.has('2026-11-01T00:00:00Z')).toBe(false);
    expect(issued.has('yesterday')).toBe(false);
    expect(issued.latest(2)).toEqual(own.slice(1));
  });

  it('are told from those of others however many there were, the latest by their value', () => {
    const clock = manualClock(Date.parse('2026-11-01T00:00:00Z'));
    const source = new StampSource(clock);
    const issued = new IssuedStamps(source);
    const early = '2026-10-31T23:59:59.000001Z';
    const own: string[] = [];
    const issue = (count: number): void => {
      for (let each = 0; each < count; each += 1) {
        clock.step(1_000);
        own.push(issued.next());
      }
    };
    issue(200);
    expect(issued.has(early)).toBe(false);
    expect(issued.has('2026-11-01T00:00:01.000001Z')).toBe(false);
    issue(10_000);
    expect(own.every((stamp) => issued.has(stamp))).toBe(true);
    expect(issued.has('2026-11-01T02:49:59.000001Z'), 'of somebody else, among the latest').toBe(false);
    expect(issued.has(early), 'nobody knows any more').toBe(true);
    expect(issued.has('2026-11-01T00:00:00Z'), 'not of our form').toBe(false);
    expect(issued.latest(10_000)).toHaveLength(256);
  });

  it('of an earlier run are told from those of others, though few are kept', () => {
    const source = new StampSource(manualClock());
    const issued = new IssuedStamps(source, ['2026-11-01T00:00:01.000000Z', '2026-11-01T00:00:02.000000Z'], 2);
    issued.found('2026-11-01T00:00:09.000000Z');
    expect(issued.has('2026-11-01T00:00:00.500000Z'), 'more were issued than are kept').toBe(true);
    expect(issued.has('2026-11-01T00:00:01.500000Z')).toBe(false);
    expect(issued.has('2026-11-01T00:00:05.000000Z'), 'issued after the last were kept, maybe').toBe(true);
    expect(issued.has('2026-11-01T00:00:09.000001Z')).toBe(false);
  });
});
