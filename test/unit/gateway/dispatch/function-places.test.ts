import { describe, expect, it } from 'vitest';
import type { FunctionEntry, Places } from '../../../../src/gateway/agents/fleet-view.ts';
import { FunctionPlaces } from '../../../../src/gateway/dispatch/function-places.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const none = { readyPlaces: 0, shares: undefined, sharers: 0, foreignPlaces: 0, isShared: false };
const versions = [1, 2];

const placesWith = (target: object, mayGrow?: () => boolean): FunctionPlaces =>
  new FunctionPlaces(target as FunctionEntry, mayGrow);

it('keeps nothing of versions without calls', () => {
  const target = { name: 'f', workers: [], leaving: [], placesByVersion: new Map(), shares: undefined, settings: {} };
  const places = placesWith(target);
  const first = places.of(1);
  first.take();
  expect([places.of(2), places.of(1)]).toEqual([expect.anything(), first]);
  first.leave();
  places.of(3);
  expect(places.of(1)).not.toBe(first);
});

it.each([
  ['one call', 1],
  ['calls of which most were sent ahead', 65],
])(
  'gives no place of a worker to %s at one that is gone, and counts the one that runs for what is reserved',
  (_what, outstanding) => {
    const leaving = [{ outstanding, resource: workerFixture({ spec: { version: 1 } }) }];
    const placesByVersion = new Map(versions.map((each) => [each, { ...none, places: 2 }]));
    const target = { name: 'f', workers: [0, 1, 2, 3], leaving, placesByVersion, shares: undefined, settings: {} };
    const openOf = (reserved?: number): number => {
      const concurrency = { queueDepth: 5, reserved };
      const places = placesWith({ ...target, settings: { concurrency } });
      const of = places.of(1);
      for (let left = outstanding; left > 0; left -= 1) {
        of.take();
      }
      let open = 0;
      for (; of.isOpen; open += 1) {
        of.take();
      }
      return open;
    };
    expect([undefined, 2, 3].map(openOf)).toEqual([2, 1, 2]);
  },
);

describe('what is reserved', () => {
  /** A function of which two calls may run at once: version 1 has one worker, which may have any share. */
  const twoReserved = (ofFirst: Partial<Places> = {}) => {
    const placesByVersion = new Map<number, Places>([[1, { ...none, places: 1, sharers: 1, ...ofFirst }]]);
    const workers = [1];
    const settings = { concurrency: { reserved: 2 } };
    const target = { name: 'f', workers, leaving: [], placesByVersion, shares: undefined, settings };
    const places = placesWith(target);
    places.answerBytes = 1;
    const fill = (version: number): number => {
      const of = places.of(version);
      while (of.isOpen) {
        of.take();
      }
      return of.running;
    };
    const secondComes = (share?: number): void => {
      workers.push(2);
      placesByVersion.set(2, { ...none, places: 1, shares: share, sharers: 1 });
    };
    return { fill, secondComes, placesByVersion };
  };

  it('is not in use by calls that were sent ahead: the first worker of another version takes a call at once', () => {
    const { fill, secondComes } = twoReserved();
    expect(fill(1)).toBe(65);
    secondComes();
    expect(fill(2)).toBe(1);
  });

  it('is in use by no more calls of a version than its shares let run', () => {
    const { fill, secondComes, placesByVersion } = twoReserved({ places: 2, shares: 2 });
    expect(fill(1)).toBe(66);
    placesByVersion.set(1, { ...none, places: 2, shares: 1, sharers: 1 });
    secondComes(1);
    expect(fill(2)).toBe(1);
  });

  it('is in use by every call of a version that waits for its workers', () => {
    const { fill } = twoReserved();
    expect(fill(3)).toBe(2);
    expect(fill(1)).toBe(0);
  });
});

it.each([
  ['not at all', 'does not grow', false, 0],
  ['once', 'grows', true, 1],
])('asks %s for the ready places of workers where a call enters and the function %s', (_times, _how, grows, times) => {
  let asked = 0;
  const ofVersion = {
    ...none,
    places: 2,
    get readyPlaces() {
      asked += 1;
      return 2;
    },
  };
  const placesByVersion = new Map([[1, ofVersion]]);
  const target = { name: 'f', workers: [0, 1], leaving: [], placesByVersion, shares: undefined, settings: {} };
  expect(placesWith(target, () => grows).of(1).isOpen).toBe(true);
  expect(asked).toBe(times);
});
