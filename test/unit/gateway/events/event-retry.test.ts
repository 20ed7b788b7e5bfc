import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideAfterTry, isTooOld, type TryResult } from '../../../../src/gateway/events/event-retry.ts';
import {
  DEFAULT_EVENT_SETTINGS,
  type EventProgress,
  type EventSettings,
  NO_PROGRESS,
} from '../../../../src/gateway/events/event-store.ts';

const decide = (
  kind: TryResult['kind'],
  progress: Partial<EventProgress> = {},
  settings: Partial<EventSettings> = {},
  ageMs = 0,
) => decideAfterTry({ kind }, { ...NO_PROGRESS, ...progress }, { ...DEFAULT_EVENT_SETTINGS, ...settings }, ageMs);

describe('decideAfterTry', () => {
  it('ends an event that succeeded, however it came to that', () => {
    expect(decide('Succeeded', { failures: 2, setbacks: 9 })).toMatchObject({
      kind: 'Finish',
      progress: { invocations: 1 },
    });
  });

  it('tries a function error after 1 minute, then after 2, then no more', () => {
    expect(decide('FunctionFailed')).toMatchObject({ kind: 'TryAgain', delayMs: 60_000 });
    expect(decide('FunctionFailed', { failures: 1 })).toMatchObject({ kind: 'TryAgain', delayMs: 120_000 });
    expect(decide('FunctionFailed', { failures: 2, invocations: 2 })).toMatchObject({
      kind: 'GiveUp',
      condition: 'RetriesExhausted',
      progress: { failures: 3, invocations: 3 },
    });
  });

  it.each([0, 1])('tries it %i times where the function says so', (maximumRetryAttempts) => {
    expect(decide('FunctionFailed', { failures: maximumRetryAttempts }, { maximumRetryAttempts })).toMatchObject({
      kind: 'GiveUp',
      condition: 'RetriesExhausted',
    });
  });

  it.each(['Refused', 'OutcomeUnknown'] as const)(
    'tries again after %s, from 1 second to 5 minutes apart, and uses up no retry',
    (kind) => {
      let progress: EventProgress = NO_PROGRESS;
      const delays: number[] = [];
      for (let turn = 0; turn < 12; turn += 1) {
        const decision = decide(kind, progress, { maximumRetryAttempts: 0 });
        if (decision.kind !== 'TryAgain') {
          throw new Error('it has to be tried again');
        }
        delays.push(decision.delayMs / 1000);
        progress = decision.progress;
      }
      expect(delays).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
      expect(progress).toEqual({
        failures: 0,
        invocations: kind === 'OutcomeUnknown' ? 12 : 0,
        setbacks: 12,
        misses: 0,
      });
    },
  );

  it('begins anew with the shortest wait after the function was reached', () => {
    const decision = decide('FunctionFailed', { setbacks: 9 });
    expect(decision).toMatchObject({ progress: { setbacks: 0 } });
  });

  it('gives up at once what can never run, and what a reserved concurrency of 0 keeps from running', () => {
    for (const kind of ['Impossible', 'SwitchedOff'] as const) {
      expect(decide(kind)).toMatchObject({ kind: 'GiveUp', condition: 'RetriesExhausted' });
    }
  });

  it('takes a function for gone when it was missing seven times in a row', () => {
    expect(decide('Missing', { misses: 5, setbacks: 5 })).toMatchObject({ kind: 'TryAgain' });
    expect(decide('Missing', { misses: 6, setbacks: 6 })).toMatchObject({ kind: 'GiveUp' });
    expect(decide('Refused', { misses: 6, setbacks: 6 })).toMatchObject({ progress: { misses: 0 } });
  });

  it('does not wait for a try that would come too late', () => {
    const settings = { maximumEventAgeSeconds: 90 };
    expect(decide('FunctionFailed', {}, settings, 29_999)).toMatchObject({ kind: 'TryAgain' });
    expect(decide('FunctionFailed', {}, settings, 30_000)).toMatchObject({
      kind: 'GiveUp',
      condition: 'EventAgeExceeded',
    });
  });

  it('lets no event be tried beyond its age, nor failed more often than it may be', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('FunctionFailed', 'Refused', 'OutcomeUnknown', 'Missing'), {
          minLength: 400,
          maxLength: 400,
        }),
        fc.integer({ min: 0, max: 2 }),
        fc.integer({ min: 60, max: 21_600 }),
        (kinds, maximumRetryAttempts, maximumEventAgeSeconds) => {
          const settings = { ...DEFAULT_EVENT_SETTINGS, maximumRetryAttempts, maximumEventAgeSeconds };
          let progress: EventProgress = NO_PROGRESS;
          let ageMs = 0;
          for (const kind of kinds as TryResult['kind'][]) {
            expect(isTooOld(settings, ageMs)).toBe(false);
            const decision = decideAfterTry({ kind }, progress, settings, ageMs);
            if (decision.kind !== 'TryAgain') {
              expect(decision.kind).toBe('GiveUp');
              return;
            }
            progress = decision.progress;
            expect(progress.failures).toBeLessThanOrEqual(maximumRetryAttempts);
            ageMs += decision.delayMs;
          }
          throw new Error('it was tried for ever');
        },
      ),
    );
  });
});
