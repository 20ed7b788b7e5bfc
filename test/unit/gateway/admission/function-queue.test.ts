import fc from 'fast-check';
import { expect, it } from 'vitest';
import { runningPlaces, waitingPlaces } from '../../../../src/gateway/admission/admission-policy.ts';
import { FunctionQueue } from '../../../../src/gateway/admission/function-queue.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

/** Progress of a call, as a test follows it. */
interface Followed {
  readonly caller: Caller;
  at: 'waiting' | 'running' | 'aside' | 'returning' | 'over';
}

const step = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: 'arrive' } as const) },
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
    arbitrary: fc.record({ kind: fc.constant('workers' as const), count: fc.integer({ min: 1, max: 4 }) }),
  },
);

it('never has more calls running than there are places, and never one waiting while there is a place', {
  tags: ['G7'],
  timeout: 30_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const target = {
        name: 'f',
        workers: [1, 2] as unknown[],
        get places() {
          return this.workers.length;
        },
        readyPlaces: 0,
        shares: undefined,
        sharers: 0,
        foreignInFlight: 0,
        settings: { concurrency: { queueDepth: 5 } },
      };
      let changed: (() => void) | undefined;
      const queue = new FunctionQueue(target, {
        clock: manualClock(),
        maxWaitMs: 60_000,
        view: {
          function: () => target,
          onNextChange(_name, listener) {
            changed = listener;
            return () => undefined;
          },
        },
        room: { freeBytes: 1 },
      });
      const calls: Followed[] = [];
      const pick = (at: Followed['at'], which: number): Followed | undefined => {
        const some = calls.filter((call) => call.at === at);
        return some[which % Math.max(1, some.length)];
      };
      const wait = (call: Followed, returns: boolean): void => {
        queue.wait(call.caller, returns).then(
          () => {
            call.at = 'running';
          },
          () => {
            call.at = 'over';
          },
        );
      };
      for (const each of steps) {
        const before = queue.running;
        switch (each.kind) {
          case 'arrive': {
            if (queue.waiting === 0 && queue.running < runningPlaces(queue)) {
              queue.running += 1;
              calls.push({ caller: new Caller(), at: 'running' });
            } else if (queue.waiting < waitingPlaces(queue)) {
              const call: Followed = { caller: new Caller(), at: 'waiting' };
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
              queue.running -= 1;
              queue.advance();
            }
            break;
          }
          case 'back': {
            const call = pick('aside', each.which);
            if (call !== undefined && queue.hasPlace) {
              queue.running += 1;
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
            target.workers = Array.from({ length: each.count });
            const listener = changed;
            changed = undefined;
            listener?.();
            break;
          }
        }
        await settle();
        const count = (at: Followed['at']): number => calls.filter((call) => call.at === at).length;
        const places = runningPlaces(queue);
        expect(queue.running).toBe(count('running'));
        expect(queue.waiting).toBe(count('waiting'));
        if (count('waiting') + count('returning') > 0) {
          expect(queue.running).toBeGreaterThanOrEqual(places);
        }
        // Workers that go take no call with them: what runs already may be more than there are places.
        expect(queue.running).toBeLessThanOrEqual(Math.max(places, before));
      }
    }),
    { numRuns: 200 },
  );
});
