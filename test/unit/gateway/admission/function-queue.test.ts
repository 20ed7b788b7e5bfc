import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runningPlaces, waitingPlaces } from '../../../../src/gateway/admission/admission-policy.ts';
import { FunctionQueue } from '../../../../src/gateway/admission/function-queue.ts';
import type { Places } from '../../../../src/gateway/agents/fleet-view.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

/** Progress of a call, as a test follows it. */
interface Followed {
  readonly caller: Caller;
  readonly alias: number;
  /** The one that the call waits for, or had a place of. */
  version: number;
  at: 'waiting' | 'running' | 'aside' | 'returning' | 'over';
}

const none = { readyPlaces: 0, shares: undefined, sharers: 0, foreignPlaces: 0, isShared: false };
const versions = [1, 2];
const version = fc.constantFrom(...versions);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('arrive' as const), alias: version }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('name' as const), alias: version, version }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('end' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('aside' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('back' as const), which: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('answer' as const), bytes: fc.nat({ max: 6 * 2 ** 20 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('hangUp' as const), which: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('workers' as const), version, count: fc.integer({ min: 0, max: 4 }) }),
  },
);

it.each([undefined, 2])(
  'never has more calls running than a version has places, and never one waiting while there is a place (reserved: %s)',
  {
    tags: ['G7'],
    timeout: 30_000,
  },
  async (reserved) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const workers = new Map(versions.map((each) => [each, 1]));
        const target = {
          name: 'f',
          leaving: [],
          get workers() {
            return Array.from({ length: [...workers.values()].reduce((sum, count) => sum + count, 0) });
          },
          get placesByVersion() {
            const some = [...workers].filter(([, count]) => count > 0);
            return new Map(some.map(([each, places]) => [each, { ...none, places }]));
          },
          shares: undefined,
          settings: { concurrency: { queueDepth: 5, ...(reserved === undefined ? {} : { reserved }) } },
        };
        const named = new Map(versions.map((each) => [each, each]));
        let meaning = 0;
        let changed: (() => void) | undefined;
        const tell = (): void => {
          const listener = changed;
          changed = undefined;
          listener?.();
        };
        const clock = manualClock();
        const queue = new FunctionQueue(target, {
          clock,
          maxWaitMs: 60_000,
          view: {
            function: () => target,
            onNextChange(_name, listener) {
              changed = listener;
              return () => undefined;
            },
          },
          room: { freeBytes: 1 },
          meaningOf: () => meaning,
        });
        const calls: Followed[] = [];
        const pick = (at: Followed['at'], which: number): Followed | undefined => {
          const some = calls.filter((call) => call.at === at);
          return some[which % Math.max(1, some.length)];
        };
        const wait = (call: Followed, returns: boolean): void => {
          const heading = {
            version: () => named.get(call.alias),
            move: (to: number | undefined) => {
              call.version = to ?? 0;
            },
          };
          queue
            .of(call.version)
            .wait(call.caller, returns, clock.monotonic(), heading)
            .then(
              (of) => {
                expect(of.version).toBe(call.version);
                call.at = 'running';
              },
              () => {
                call.at = 'over';
              },
            );
        };
        const count = (at: Followed['at'], of?: number): number =>
          calls.filter((call) => call.at === at && (of === undefined || call.version === of)).length;
        /** Calls that the version's workers can run beside those that the workers of the others can. */
        const leftFor = (name: number): number => {
          const able = (of: number): number => workers.get(of) || Number.POSITIVE_INFINITY;
          const others = versions.filter((of) => of !== name);
          const beside = others.reduce((sum, of) => sum + Math.min(count('running', of), able(of)), 0);
          return Math.min(workers.get(name) ?? 0, (reserved ?? Number.POSITIVE_INFINITY) - beside);
        };
        for (const each of steps) {
          const before = new Map(versions.map((of) => [of, queue.of(of).running]));
          switch (each.kind) {
            case 'arrive': {
              const { alias } = each;
              const to = named.get(alias) ?? 0;
              const of = queue.of(to);
              if (of.ahead === 0 && of.running < runningPlaces(of)) {
                of.take();
                calls.push({ caller: new Caller(), alias, version: to, at: 'running' });
              } else if (of.waiting < waitingPlaces(of)) {
                const call: Followed = { caller: new Caller(), alias, version: to, at: 'waiting' };
                calls.push(call);
                wait(call, false);
              }
              break;
            }
            case 'end':
            case 'aside': {
              const call = pick('running', each.which);
              if (call !== undefined) {
                call.at = each.kind === 'end' ? 'over' : 'aside';
                queue.of(call.version).leave();
              }
              break;
            }
            case 'back': {
              const call = pick('aside', each.which);
              if (call !== undefined) {
                call.version = named.get(call.alias) ?? 0;
              }
              if (call !== undefined && queue.of(call.version).hasPlace) {
                queue.of(call.version).take();
                call.at = 'running';
              } else if (call !== undefined) {
                call.at = 'returning';
                wait(call, true);
              }
              break;
            }
            case 'answer':
              queue.answered(each.bytes);
              queue.advance();
              break;
            case 'hangUp':
              (pick('waiting', each.which) ?? pick('returning', each.which))?.caller.hangUp();
              break;
            case 'workers': {
              workers.set(each.version, each.count);
              tell();
              break;
            }
            case 'name': {
              named.set(each.alias, each.version);
              meaning += 1;
              tell();
              for (const call of calls.filter(({ at }) => at === 'waiting' || at === 'returning')) {
                expect(call.version).toBe(named.get(call.alias));
              }
              break;
            }
          }
          await settle();
          expect(queue.waiting).toBe(count('waiting'));
          expect(queue.running).toBe(count('running'));
          for (const name of versions) {
            const of = queue.of(name);
            const places = runningPlaces(of);
            expect(of.running).toBe(count('running', name));
            if (count('waiting', name) + count('returning', name) > 0) {
              expect(of.running).toBeGreaterThanOrEqual(places);
              expect(of.running).toBeGreaterThanOrEqual(leftFor(name));
            }
            // Workers that go take no call with them: what runs already may be more than there are places.
            expect(of.running).toBeLessThanOrEqual(Math.max(places, before.get(name) ?? 0));
          }
        }
      }),
      { numRuns: 200 },
    );
  },
);

it('keeps nothing of versions without calls', () => {
  const target = { name: 'f', workers: [], leaving: [], placesByVersion: new Map(), shares: undefined, settings: {} };
  const view = { function: () => target, onNextChange: () => () => undefined };
  const queue = new FunctionQueue(target, { clock: manualClock(), maxWaitMs: 1, view, room: { freeBytes: 1 } });
  const first = queue.of(1);
  first.take();
  expect([queue.of(2), queue.of(1)]).toEqual([expect.anything(), first]);
  first.leave();
  queue.of(3);
  expect(queue.of(1)).not.toBe(first);
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
    const view = { function: () => target, onNextChange: () => () => undefined };
    const options = { clock: manualClock(), maxWaitMs: 1, view, room: { freeBytes: 1 } };
    const openOf = (reserved?: number): number => {
      const concurrency = { queueDepth: 5, reserved };
      const queue = new FunctionQueue({ ...target, settings: { concurrency } }, options);
      const of = queue.of(1);
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
    const view = { function: () => target, onNextChange: () => () => undefined };
    const queue = new FunctionQueue(target, { clock: manualClock(), maxWaitMs: 1, view, room: { freeBytes: 1 } });
    queue.answerBytes = 1;
    const fill = (version: number): number => {
      const of = queue.of(version);
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
  const view = { function: () => target, onNextChange: () => () => undefined };
  const options = { clock: manualClock(), mayGrow: () => grows, maxWaitMs: 1, view, room: { freeBytes: 1 } };
  expect(new FunctionQueue(target, options).of(1).isOpen).toBe(true);
  expect(asked).toBe(times);
});
