import { describe, expect, it } from 'vitest';
import { ShareLease } from '../../../../src/agent/sync/share-lease.ts';
import { SHARE_LAPSE_MS } from '../../../../src/api/share.ts';
import { manualClock } from '../../../support/manual-clock.ts';

function scene() {
  const clock = manualClock();
  const known = new Map([['a', 1]]);
  const lease = new ShareLease({ clock, known: () => known });
  const renew = () => lease.renewed(clock.monotonic());
  const read = (listed: ReadonlyMap<string, number> = known) => lease.reading()(listed);
  return { clock, known, lease, renew, read };
}

describe('the shares of a node', () => {
  it('are held once its Lease was renewed and the assignments were read after that', async () => {
    const { clock, lease, read, renew } = scene();
    read();
    expect(lease.holds('a', 1)).toBe(false);
    const early = lease.reading();
    await clock.advance(10);
    expect(renew()).toBe(true);
    early(new Map([['a', 1]]));
    expect(lease.holds('a', 1)).toBe(false);
    read();
    expect(lease.holds('a', 1)).toBe(true);
    expect(renew()).toBe(false);
  });

  it('lapse without a renewal, and are held again only after another reading', async () => {
    const { clock, lease, read, renew } = scene();
    renew();
    read();
    await clock.advance(SHARE_LAPSE_MS - 1);
    expect(lease.holds('a', 1)).toBe(true);
    await clock.advance(1);
    expect(lease.holds('a', 1)).toBe(false);
    expect(renew()).toBe(true);
    expect(lease.holds('a', 1)).toBe(false);
    read();
    expect(lease.holds('a', 1)).toBe(true);
  });

  it('count from the beginning of a renewal', async () => {
    const { clock, lease, read } = scene();
    const beganAt = clock.monotonic();
    await clock.advance(5_000);
    lease.renewed(beganAt);
    read();
    await clock.advance(SHARE_LAPSE_MS - 5_000);
    expect(lease.holds('a', 1)).toBe(false);
  });

  it.each([
    ['is no longer here', new Map<string, number>()],
    ['has another assignment that the agent could not take', new Map([['a', 2]])],
  ])('are not held for a worker that %s', (_what, listed) => {
    const { lease, read, renew } = scene();
    renew();
    read(listed);
    expect(lease.holds('a', 1)).toBe(false);
    expect(lease.holds('a', 2)).toBe(true);
    expect(lease.holds('b', 1)).toBe(true);
  });
});
