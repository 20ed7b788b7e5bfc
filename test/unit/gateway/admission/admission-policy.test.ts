import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decideEntry,
  type FunctionUse,
  refusalText,
  runningPlaces,
  waitingPlaces,
} from '../../../../src/gateway/admission/admission-policy.ts';

const plenty = 1_000_000;

function use(change: Partial<FunctionUse> = {}): FunctionUse {
  return { settings: undefined, workers: 3, running: 0, waiting: 0, heldCalls: 0, heldBytes: 0, ...change };
}

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
    expect(runningPlaces(settings, workers)).toBe(running);
    expect(waitingPlaces(settings, workers)).toBe(waiting);
  });

  it('are together what runs at once and the depth of the queue, for any settings', () => {
    const settings = fc.record({
      reserved: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
      queueDepth: fc.integer({ min: 0, max: 200 }),
    });
    fc.assert(
      fc.property(settings, fc.integer({ min: 1, max: 50 }), (setting, workers) => {
        const concurrency = Math.min(setting.reserved ?? workers, workers);
        expect(runningPlaces(setting, workers) + waitingPlaces(setting, workers)).toBe(
          concurrency + setting.queueDepth,
        );
        expect(waitingPlaces(setting, workers)).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});

describe('a call', () => {
  it.each([
    ['enters where a worker is free', use({ running: 2 }), 'Enter'],
    ['waits where none is', use({ running: 3 }), 'Wait'],
    ['waits behind those that wait already', use({ running: 2, waiting: 1 }), 'Wait'],
    [
      'is refused where the queue is full',
      use({ running: 3, waiting: 100 }),
      'ReservedFunctionConcurrentInvocationLimitExceeded',
    ],
    [
      'is refused where the function is switched off, though it is idle',
      use({ settings: { reserved: 0 } }),
      'ReservedFunctionConcurrentInvocationLimitExceeded',
    ],
  ])('%s', (_what, facts, expected) => {
    expect(decideEntry(facts, plenty, plenty)).toBe(expected);
  });

  it('is refused where its function holds more of the gateway than is free', () => {
    const reason = 'FunctionInvocationRateLimitExceeded';
    expect(decideEntry(use({ heldCalls: 11 }), 10, plenty)).toBe(reason);
    expect(decideEntry(use({ heldCalls: 10 }), 10, plenty)).toBe('Enter');
    expect(decideEntry(use({ heldBytes: 11 }), plenty, 10)).toBe(reason);
    expect(decideEntry(use({ heldBytes: 10 }), plenty, 10)).toBe('Enter');
  });

  it('of a function that holds nothing is let in however full the gateway is', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -100, max: 100 }),
        fc.integer({ min: -100, max: 100 }),
        (calls, bytes) => {
          expect(decideEntry(use(), calls, bytes)).toBe('Enter');
        },
      ),
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
            const free = room - total() - 1;
            if (
              free >= 0 &&
              decideEntry(use({ heldCalls: mine, workers: plenty }), free, plenty) === 'Enter'
            ) {
              held[index] = mine + 1;
            }
          }
          expect(Math.max(...held)).toBeLessThanOrEqual(room / 2 + 1);
          expect(room - total()).toBeGreaterThan(0);
          expect(decideEntry(use(), room - total() - 1, plenty)).toBe('Enter');
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
  const texts = reasons.map((reason) => refusalText(reason, 'hello'));
  expect(new Set(texts).size).toBe(4);
  for (const text of texts) {
    expect(text).toMatch(/^Rate Exceeded\. /);
  }
});
