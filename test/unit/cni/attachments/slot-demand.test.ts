import { describe, expect, it } from 'vitest';
import { SlotDemand } from '../../../../src/cni/attachments/slot-demand.ts';
import { manualClock } from '../../../support/manual-clock.ts';

function demandOf(least: number, most: number) {
  const clock = manualClock();
  const demand = new SlotDemand({ least, most, clock });
  const take = async (count: number, everyMs = 0): Promise<void> => {
    for (let each = 0; each < count; each += 1) {
      demand.note();
      await clock.advance(everyMs);
    }
  };
  return { clock, demand, take };
}

describe('the number of prepared slots', () => {
  it('is the least where nothing is taken', () => {
    const { demand } = demandOf(4, 64);
    expect([demand.wanted, demand.quietInMs]).toEqual([4, 0]);
  });

  it('is the least where that did for a burst', async () => {
    const { demand, take } = demandOf(4, 64);
    await take(4);
    expect(demand.wanted).toBe(4);
    await take(1);
    expect(demand.wanted).toBe(9);
  });

  it('is what a burst took and the least on top, and no more than the most', async () => {
    const { demand, take } = demandOf(4, 64);
    await take(50, 100);
    expect(demand.wanted).toBe(54);
    await take(50, 100);
    expect(demand.wanted).toBe(64);
  });

  it('counts what is taken within thirty seconds as one burst', async () => {
    const { demand, take } = demandOf(4, 64);
    await take(30, 5_000);
    expect(demand.wanted).toBe(10);
  });

  it('forgets half of a burst with each hour, unless another one is as large', async () => {
    const { clock, demand, take } = demandOf(4, 64);
    await take(40);
    await clock.advance(3_600_000 - 1);
    expect(demand.wanted).toBe(44);
    await clock.advance(1);
    expect(demand.wanted).toBe(24);
    await take(20);
    await clock.advance(3_600_000 - 1);
    expect(demand.wanted).toBe(24);
    await clock.advance(5 * 3_600_000);
    expect(demand.wanted).toBe(4);
  });

  it('says how long the burst that goes on is not over', async () => {
    const { clock, demand, take } = demandOf(4, 64);
    await take(3, 500);
    expect(demand.quietInMs).toBe(1_500);
    await clock.advance(1_500);
    expect(demand.quietInMs).toBe(0);
  });

  it('is none where none are to be prepared', async () => {
    const { demand, take } = demandOf(0, 0);
    await take(10);
    expect(demand.wanted).toBe(0);
  });
});
