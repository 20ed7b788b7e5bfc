import { describe, expect, it } from 'vitest';
import { IssuedStamps, StampSource } from '../../../src/agent/activity-stamp.ts';
import { manualClock } from '../../support/manual-clock.ts';

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
    const issued = new IssuedStamps(own);
    expect(own.every((stamp) => issued.has(stamp))).toBe(true);
    expect(issued.has(source.next())).toBe(false);
    expect(issued.has('2026-11-01T00:00:00Z')).toBe(false);
    expect(issued.has('yesterday')).toBe(false);
    expect(issued.latest(2)).toEqual(own.slice(1));
  });

  it('are forgotten only after thousands', () => {
    const source = new StampSource(manualClock());
    const issued = new IssuedStamps();
    const first = source.next();
    issued.add(first);
    let last = '';
    for (let each = 0; each < 10_000; each += 1) {
      last = source.next();
      issued.add(last);
    }
    expect(issued.has(first)).toBe(false);
    expect(issued.has(last)).toBe(true);
  });
});
