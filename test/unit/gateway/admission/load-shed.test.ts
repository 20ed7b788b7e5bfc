import { describe, expect, it } from 'vitest';
import { type LoadLimits, overloadOf, ProcessPressure, Room } from '../../../../src/gateway/admission/room.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const limits: LoadLimits = { maxRequests: 1_000, maxBytes: 10_000, maxLoopDelayMs: 500, maxHeapUse: 0.8 };
const calm = { loopDelayMs: 0, heapUse: 0.1 };

describe('one more request', () => {
  it.each([
    ['fits', { requests: 999, bytes: 9_999 }, calm, undefined],
    ['is too much by number', { requests: 1_000, bytes: 0 }, calm, 'Requests'],
    ['is too much by bytes', { requests: 1, bytes: 10_000 }, calm, 'Bytes'],
    ['is too much for a late loop', { requests: 64, bytes: 0 }, { ...calm, loopDelayMs: 501 }, 'LoopDelay'],
    ['is too much for a full heap', { requests: 64, bytes: 0 }, { ...calm, heapUse: 0.81 }, 'Heap'],
    [
      'is no reason of either when there are few',
      { requests: 63, bytes: 0 },
      { loopDelayMs: 9_000, heapUse: 0.99 },
      undefined,
    ],
  ])('%s', (_what, load, pressure, expected) => {
    expect(overloadOf(load, pressure, limits)).toBe(expected);
  });
});

describe('the room of a gateway', () => {
  it('is taken by requests and the bytes that have come of them, and given back at their end', () => {
    const room = new Room(limits, calm);
    const one = room.open();
    const other = room.open();
    expect(one.take(4_000)).toBe(true);
    expect(other.take(6_001)).toBe(false);
    expect(other.take(6_000)).toBe(true);
    expect(room).toMatchObject({ requests: 2, bytes: 10_000, freeRequests: 998, freeBytes: 0 });
    expect(room.overload()).toBe('Bytes');
    one.close();
    one.close();
    expect(room).toMatchObject({ requests: 1, bytes: 6_000 });
    other.drop();
    other.close();
    expect(room).toMatchObject({ requests: 0, bytes: 0 });
  });

  it('has place for small bodies when it has none for large ones any more', () => {
    const room = new Room(limits, calm);
    const large = room.open();
    expect(large.take(4_000)).toBe(true);
    expect(large.take(4_000)).toBe(false);
    expect(room.open().take(3_000)).toBe(true);
    expect(room.open().take(1_000)).toBe(true);
  });

  it('is not taken by what still comes of a request that is over', () => {
    const room = new Room(limits, calm);
    const hold = room.open();
    hold.close();
    expect(hold.take(1)).toBe(false);
    hold.add(5);
    expect(room.bytes).toBe(0);
  });

  it('has place for answers however full it is: they are there already', () => {
    const room = new Room(limits, calm);
    const hold = room.open();
    hold.add(50_000);
    expect(room.bytes).toBe(50_000);
    hold.close();
    expect(room.bytes).toBe(0);
  });
});

describe('the pressure on the process', () => {
  it('is told when the loop is late twice, since one long turn is no load', async () => {
    const clock = manualClock();
    let stall = 0;
    const late = { ...clock, monotonic: () => clock.monotonic() + stall };
    const pressure = new ProcessPressure(late, () => 0.5);
    pressure.start();
    await clock.advance(200);
    expect(pressure).toMatchObject({ loopDelayMs: 0, heapUse: 0.5 });
    stall = 700;
    await clock.advance(200);
    expect(pressure.loopDelayMs).toBe(0);
    stall = 1_300;
    await clock.advance(200);
    expect(pressure.loopDelayMs).toBe(600);
    await clock.advance(200);
    expect(pressure.loopDelayMs).toBe(0);
    pressure.stop();
    expect(clock.pending()).toBe(0);
  });
});
