import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideShares, type ShareHolder } from '../../../../src/controller/workers/decide-shares.ts';

function holder(change: Partial<ShareHolder> = {}): ShareHolder {
  const share = change.share ?? 0;
  const base = {
    uid: 'a',
    version: undefined,
    perWorker: 1,
    isSettled: true,
    isCallable: true,
    isPassing: false,
    rank: 0,
  } as const;
  return { ...base, share, inForce: share, ...change };
}

/** The shares of workers `w0` and so on. */
function shares(reserved: number, ...changes: readonly Partial<ShareHolder>[]): readonly (number | undefined)[] {
  const holders = changes.map((change, index) => holder({ uid: `w${index}`, ...change }));
  const decided = decideShares(reserved, holders);
  return holders.map(({ uid }) => decided.get(uid));
}

const wide = { perWorker: 10 } as const;

describe('decideShares', () => {
  it('gives what is reserved as evenly as workers can have it', () => {
    expect(shares(2, {}, {}, {})).toEqual([1, 1, 0]);
    expect(shares(12, wide, wide, { perWorker: 1 })).toEqual([6, 5, 1]);
    expect(shares(50, wide, { perWorker: 2 })).toEqual([10, 2]);
    expect(shares(4, wide, wide, wide)).toEqual([2, 1, 1]);
    expect(shares(5, { ...wide, share: 3 }, { ...wide, share: 3 }, { ...wide, share: 3 })).toEqual([2, 2, 1]);
  });

  it('prefers workers that run', () => {
    expect(shares(1, { rank: 2 }, { rank: 1 }, { rank: 0 })).toEqual([0, 0, 1]);
  });

  it('changes nothing that is given, though it could be spread better', () => {
    expect(shares(12, { ...wide, share: 10 }, { ...wide, share: 2 })).toEqual([10, 2]);
  });

  it('takes away what is above the reserved number, from the largest shares, first where no call comes', () => {
    expect(shares(2, { perWorker: 8, share: 8 }, { share: 1 })).toEqual([1, 1]);
    expect(shares(1, { share: 1 }, { share: 1, isCallable: false })).toEqual([1, 0]);
    expect(shares(0, { share: 1 })).toEqual([0]);
  });

  it('takes the share of a worker without calls for one that has use for it, and gives it once it is free', () => {
    expect(shares(1, { share: 1, isCallable: false }, {})).toEqual([0, 0]);
    expect(shares(1, { share: 0, inForce: 1, isSettled: false, isCallable: false }, {})).toEqual([0, 0]);
    expect(shares(1, { share: 0, isCallable: false }, {})).toEqual([0, 1]);
    expect(shares(1, { share: 1, isCallable: false }, { share: 0, isCallable: false })).toEqual([1, 0]);
  });

  it('takes the share of a worker that is being started only for one that has a container', () => {
    const starting = { share: 1, isCallable: false, isPassing: true, rank: 2 } as const;
    expect(shares(1, starting, { rank: 2 })).toEqual([1, 0]);
    expect(shares(1, starting, { rank: 1 })).toEqual([0, 0]);
    expect(shares(2, starting, { share: 1, isCallable: false }, { rank: 2 })).toEqual([1, 0, 0]);
    expect(shares(0, starting)).toEqual([0]);
  });

  it('halves the largest share for a worker that has none', () => {
    expect(shares(10, { ...wide, share: 10 }, wide)).toEqual([5, 0]);
    expect(shares(10, { ...wide, share: 5 }, wide)).toEqual([5, 5]);
    expect(shares(1, { share: 1 }, {})).toEqual([1, 0]);
  });

  it('gives each version an equal part, as far as its workers can have that', () => {
    const [one, two] = [{ version: 1 }, { version: 2 }];
    expect(shares(4, {}, {}, {}, one, one, two)).toEqual([1, 1, 0, 1, 0, 1]);
    expect(shares(3, { share: 1 }, { share: 1 }, { share: 1 }, one, one)).toEqual([1, 1, 0, 0, 0]);
    expect(shares(3, { share: 1 }, { share: 1 }, {}, one, one)).toEqual([1, 1, 0, 1, 0]);
    expect(shares(10, { ...wide, share: 9 }, { ...one, share: 1 })).toEqual([9, 1]);
    expect(shares(1, { share: 1 }, one)).toEqual([1, 0]);
  });

  it('shares as much as there can be between many workers of several versions without holding others up', () => {
    const most = 100_000;
    const workers = Array.from({ length: 300 }, (_, index) => ({ perWorker: 1_600, version: index % 3 }));
    expect(shares(most, ...workers).reduce<number>((sum, share) => sum + (share ?? 0), 0)).toBe(most);
    const uneven = workers.map((worker) => ({ ...worker, share: worker.version === 0 ? most / 100 : 0 }));
    const left = shares(most, ...uneven).reduce<number>((sum, share) => sum + (share ?? 0), 0);
    expect(left).toBe(Math.ceil(most / 3));
  }, 10_000);

  it('lowers and raises no share that is not confirmed', () => {
    expect(shares(1, { share: 1, isSettled: false, isCallable: false }, {})).toEqual([1, 0]);
    expect(shares(2, { perWorker: 2, share: 1, isSettled: false })).toEqual([1]);
  });

  it('never gives more than is free, and comes to rest, whatever there is', () => {
    const one = fc.record({
      perWorker: fc.integer({ min: 1, max: 5 }),
      share: fc.nat(6),
      more: fc.nat(2),
      isSettled: fc.boolean(),
      isCallable: fc.boolean(),
      rank: fc.nat(2),
      version: fc.constantFrom(undefined, 1, 2),
    });
    fc.assert(
      fc.property(fc.nat(12), fc.array(one, { maxLength: 6 }), (reserved, list) => {
        let holders = list.map(
          ({ more, ...rest }, index): ShareHolder => holder({ ...rest, uid: `w${index}`, inForce: rest.share + more }),
        );
        const taken = holders.reduce((sum, { inForce }) => sum + inForce, 0);
        const decided = decideShares(reserved, holders);
        const next = holders.reduce((sum, { inForce, uid }) => sum + Math.max(inForce, decided.get(uid) ?? 0), 0);
        expect(next).toBeLessThanOrEqual(Math.max(taken, reserved));
        // Once all agents have confirmed, shares stay as they are.
        for (let round = 0; round < 10; round += 1) {
          const given = decideShares(reserved, holders);
          holders = holders.map((each) => {
            const share = given.get(each.uid) ?? 0;
            return { ...each, share, inForce: share, isSettled: true };
          });
        }
        const rest = decideShares(reserved, holders);
        expect(holders.map(({ uid }) => rest.get(uid))).toEqual(holders.map(({ share }) => share));
        const callable = holders.filter(({ isCallable }) => isCallable);
        const most = callable.reduce((sum, { perWorker }) => sum + perWorker, 0);
        const has = callable.reduce((sum, { share }) => sum + share, 0);
        expect(has).toBe(Math.min(reserved, most));
      }),
    );
  });
});
