import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decideEntry,
  eventsAtOnce,
  type FunctionUse,
  largestOfLate,
  refusalFor,
  runningPlaces,
  UNKNOWN_ANSWER_BYTES,
  waitingPlaces,
} from '../../../../src/gateway/admission/admission-policy.ts';
import type { Load } from '../../../../src/gateway/admission/room.ts';
import type { WorkerEntry } from '../../../../src/gateway/agents/fleet-view.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const plenty = 1_000_000;

const load = (change: Partial<Load> = {}): Load => ({ requests: 0, bytes: 0, ...change });
const free = (change: Partial<Load> = {}): Load => ({ requests: plenty, bytes: plenty, ...change });

function use(change: Partial<FunctionUse> = {}): FunctionUse {
  return {
    settings: undefined,
    workers: 3,
    places: change.workers ?? 3,
    shares: undefined,
    sharers: change.workers ?? 3,
    foreignPlaces: 0,
    isShared: false,
    mayGrow: false,
    running: 0,
    elsewhere: 0,
    ahead: 0,
    waiting: 0,
    answerBytes: 100,
    ...change,
  };
}

describe('the places of a function that gets more workers where calls wait', () => {
  it('have no calls ahead of the only worker: they would not go to a worker that comes', () => {
    expect(runningPlaces(use({ workers: 1, mayGrow: false }))).toBe(65);
    expect(runningPlaces(use({ workers: 1, mayGrow: true }))).toBe(1);
    expect(waitingPlaces(use({ workers: 1, mayGrow: true }))).toBe(100);
  });

  it('are those that no other gateway has, and one to ask at', () => {
    expect(runningPlaces(use({ workers: 3, mayGrow: true, foreignPlaces: 2 }))).toBe(1);
    expect(runningPlaces(use({ workers: 3, mayGrow: true, foreignPlaces: 5 }))).toBe(1);
  });
});

describe('the places of a function while calls of other gateways are with its workers', () => {
  it('are those that they leave, whether it grows or not', () => {
    expect(runningPlaces(use({ workers: 3, foreignPlaces: 2 }))).toBe(1);
    expect(runningPlaces(use({ workers: 1, foreignPlaces: 1 })), 'of the only worker').toBe(65);
  });

  it.each([
    ['each worker', { foreignPlaces: 1 }, 2 + 3],
    ['each worker that grows, be it one', { workers: 1, mayGrow: true, foreignPlaces: 1 }, 1 + 1],
    ['each worker with a share', { settings: { reserved: 2 }, shares: 2, sharers: 2, foreignPlaces: 2 }, 1 + 2],
    ['no worker, where what is reserved is each gateway’s own', { settings: { reserved: 2 } }, 2],
    ['as many workers as the queue is long', { settings: { queueDepth: 1 }, foreignPlaces: 1 }, 2 + 1],
    ['one worker where answers are large', { answerBytes: 6 * 2 ** 20, foreignPlaces: 1 }, 2 + 1],
  ] as const)('have one call ahead at %s', (_what, change, expected) => {
    expect(runningPlaces(use({ isShared: true, ...change }))).toBe(expected);
  });
});

describe('the places of a function that has one worker', () => {
  it('have calls ahead beside one of another version only where the rest of what is reserved is enough for it', () => {
    const settings = { reserved: 2 };
    expect(runningPlaces(use({ workers: 1, settings }))).toBe(65);
    expect(runningPlaces(use({ workers: 1, settings, elsewhere: 1 }))).toBe(65);
    expect(runningPlaces(use({ workers: 1, settings, elsewhere: 2 }))).toBe(0);
    expect(waitingPlaces(use({ workers: 1, settings, elsewhere: 2 }))).toBe(100);
  });
});

it.each([
  [3, undefined, undefined, 3],
  [3, undefined, 2, 2],
  [1, 20, undefined, 10],
  [10, 20, undefined, 20],
  [10, 100, undefined, 28],
  [10, 100, 5, 5],
  [12, 10, undefined, 12],
])(
  'of %i places and at most %s workers, with %s reserved, tries %i events at once',
  (places, most, reserved, expected) => {
    const settings = { concurrency: { queueDepth: 100, ...(reserved === undefined ? {} : { reserved }) } };
    const speaker = { resource: workerFixture() } as WorkerEntry;
    expect(eventsAtOnce({ places, settings, speaker }, most)).toBe(expected);
  },
);

describe('the places of a function with shares', () => {
  it.each([
    ['are no more than the shares', { reserved: 4 }, { places: 6, shares: 3 }, 3],
    [
      'are less those that calls of other gateways have',
      { reserved: 4 },
      { places: 4, shares: 4, foreignPlaces: 3 },
      1,
    ],
    ['are never less than one, which goes on asking', { reserved: 2 }, { shares: 2, foreignPlaces: 5 }, 1],
    [
      'of the only worker with a share are those of its agent to give',
      { reserved: 1 },
      { shares: 1, sharers: 1, foreignPlaces: 1 },
      1,
    ],
    [
      'of one worker are those of its agent to give',
      { reserved: 2 },
      { workers: 1, places: 4, shares: 2, foreignPlaces: 2 },
      2,
    ],
    ['of one worker without a share are none', { reserved: 2 }, { workers: 1, places: 4, shares: 0 }, 0],
    ['are less those that other versions have', { reserved: 4 }, { places: 6, elsewhere: 3 }, 1],
    ['are none where other versions have all', { reserved: 2 }, { elsewhere: 5 }, 0],
    ["are each gateway's own where the controller gives none", { reserved: 2 }, { places: 9, foreignPlaces: 5 }, 2],
  ] as const)('%s', (_what, settings, change, expected) => {
    expect(runningPlaces(use({ settings, ...change }))).toBe(expected);
  });
});

describe('the places of a function', () => {
  it.each([
    ['as many calls run as there are workers', undefined, 3, 3, 100],
    ['no more than are reserved', { reserved: 2, queueDepth: 5 }, 3, 2, 5],
    ['no more than there are workers, whatever is reserved', { reserved: 50, queueDepth: 5 }, 3, 3, 5],
    ['none of a function that is switched off', { reserved: 0, queueDepth: 5 }, 3, 0, 5],
    ['the only worker has some of its queue at its agent', undefined, 1, 65, 36],
    ['and no more there than the queue may have', { queueDepth: 4 }, 1, 5, 0],
    ['a function without a queue has none at the agent either', { queueDepth: 0 }, 1, 1, 0],
  ])('%s', (_what, settings, workers, running, waiting) => {
    expect(runningPlaces(use({ settings, workers }))).toBe(running);
    expect(waitingPlaces(use({ settings, workers }))).toBe(waiting);
  });

  it.each([
    ['as many calls run as its workers take', undefined, 2, 16, 16, 100],
    ['no more than are reserved', { reserved: 3, queueDepth: 5 }, 2, 16, 3, 5],
    ['the only worker has some of its queue at its agent', undefined, 1, 8, 72, 36],
    ['and none there where fewer may run than it takes', { reserved: 1, queueDepth: 5 }, 1, 8, 1, 5],
  ])('of workers that take several at once: %s', (_what, settings, workers, places, running, waiting) => {
    expect(runningPlaces(use({ settings, workers, places }))).toBe(running);
    expect(waitingPlaces(use({ settings, workers, places }))).toBe(waiting);
  });

  it.each([
    ['small', 64 * 1024, 65],
    ['unknown', UNKNOWN_ANSWER_BYTES, 5],
    ['of a megabyte', 2 ** 20, 5],
    ['as large as Lambda has them', 6 * 2 ** 20, 1],
  ])('has few calls at the agent where answers are large: %s', (_what, answerBytes, running) => {
    expect(runningPlaces(use({ workers: 1, answerBytes }))).toBe(running);
    expect(waitingPlaces(use({ workers: 1, answerBytes }))).toBe(101 - running);
  });

  it('knows a large answer at once, and forgets it over some twenty small ones', () => {
    let known = largestOfLate(UNKNOWN_ANSWER_BYTES, 6 * 2 ** 20);
    expect(known).toBe(6 * 2 ** 20);
    let answers = 0;
    while (runningPlaces(use({ workers: 1, answerBytes: known })) < 65) {
      known = largestOfLate(known, 10);
      answers += 1;
    }
    expect(answers).toBeGreaterThan(20);
    expect(answers).toBeLessThan(40);
  });

  it('are together what runs at once and the depth of the queue, for any settings', () => {
    const settings = fc.record({
      reserved: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
      queueDepth: fc.integer({ min: 0, max: 200 }),
    });
    fc.assert(
      fc.property(
        settings,
        fc.integer({ min: 1, max: 50 }),
        fc.nat({ max: 6 * 2 ** 20 }),
        (setting, workers, answerBytes) => {
          const facts = use({ settings: setting, workers, answerBytes });
          const concurrency = Math.min(setting.reserved ?? workers, workers);
          expect(runningPlaces(facts) + waitingPlaces(facts)).toBe(concurrency + setting.queueDepth);
          expect(waitingPlaces(facts)).toBeGreaterThanOrEqual(0);
        },
      ),
    );
  });
});

describe('a call', () => {
  it.each([
    ['enters where a worker is free', use({ running: 2 }), 'Enter'],
    ['waits where none is', use({ running: 3 }), 'Wait'],
    ['waits behind those that wait already', use({ running: 2, ahead: 1, waiting: 1 }), 'Wait'],
    ['enters beside those that wait for another version', use({ running: 2, waiting: 1 }), 'Enter'],
    [
      'is refused where the queue is full',
      use({ running: 3, waiting: 100 }),
      'ReservedFunctionConcurrentInvocationLimitExceeded',
    ],
    [
      'is refused where the queue would be full if the calls that were sent ahead were in it',
      use({ workers: 1, answerBytes: 6 * 2 ** 20, running: 65, waiting: 36 }),
      'ReservedFunctionConcurrentInvocationLimitExceeded',
    ],
    [
      'is refused where the function is switched off, though it is idle',
      use({ settings: { reserved: 0 } }),
      'ReservedFunctionConcurrentInvocationLimitExceeded',
    ],
  ])('%s', (_what, facts, expected) => {
    expect(decideEntry(facts, load(), free())).toBe(expected);
  });

  it('is refused where its function holds more of the room than is free', () => {
    const reason = 'FunctionInvocationRateLimitExceeded';
    expect(decideEntry(use(), load({ requests: 11 }), free({ requests: 10 }))).toBe(reason);
    expect(decideEntry(use(), load({ requests: 10 }), free({ requests: 10 }))).toBe('Enter');
    expect(decideEntry(use(), load({ bytes: 11 }), free({ bytes: 10 }))).toBe(reason);
    expect(decideEntry(use(), load({ bytes: 10 }), free({ bytes: 10 }))).toBe('Enter');
  });

  it('of a function that holds nothing is let in however full the room is', () => {
    fc.assert(
      fc.property(fc.integer({ min: -100, max: 100 }), fc.integer({ min: -100, max: 100 }), (calls, bytes) => {
        expect(decideEntry(use(), load(), { requests: calls, bytes })).toBe('Enter');
      }),
    );
  });

  it('is never kept out by other functions that take all they can get', () => {
    // Each round, every function tries to have one call more. None ever ends.
    const room = 200;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.nat({ max: 19 }), { maxLength: 600 }),
        (count, order) => {
          const held = Array.from({ length: count }, () => 0);
          const total = (): number => held.reduce((sum, each) => sum + each, 0);
          for (const turn of order) {
            const index = turn % count;
            const mine = held[index] ?? 0;
            // The room counts this call already, as that of the gateway does.
            const left = room - total() - 1;
            if (
              left >= 0 &&
              decideEntry(use({ workers: plenty }), load({ requests: mine }), free({ requests: left })) === 'Enter'
            ) {
              held[index] = mine + 1;
            }
          }
          expect(Math.max(...held)).toBeLessThanOrEqual(room / 2 + 1);
          expect(room - total()).toBeGreaterThan(0);
          expect(decideEntry(use(), load(), free({ requests: room - total() - 1 }))).toBe('Enter');
        },
      ),
    );
  });
});

it('tells callers what they may do about each refusal, beginning as AWS does', () => {
  const reasons = [
    'ConcurrentInvocationLimitExceeded',
    'ReservedFunctionConcurrentInvocationLimitExceeded',
    'FunctionInvocationRateLimitExceeded',
    'CallerRateLimitExceeded',
  ] as const;
  const texts = reasons.map((reason) => refusalFor(reason, 'hello').message);
  expect(new Set(texts).size).toBe(4);
  for (const text of texts) {
    expect(text).toMatch(/^Rate Exceeded\. /);
  }
});
