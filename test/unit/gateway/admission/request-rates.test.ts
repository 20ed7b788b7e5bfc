import { describe, expect, it } from 'vitest';
import { ANONYMOUS, type Principal } from '../../../../src/gateway/access/principal.ts';
import { RequestRates } from '../../../../src/gateway/admission/request-rates.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import { manualClock } from '../../../support/manual-clock.ts';

describe('callers', () => {
  const callerRate = { perSecond: 1, burst: 2 };
  const limited = {
    code: 'TooManyRequestsException',
    reason: 'CallerRateLimitExceeded',
    retryAfterSeconds: 1,
  };

  it('are told apart by their address when they are anonymous', async () => {
    const clock = manualClock();
    const rates = new RequestRates({ callerRate, clock });
    rates.count(ANONYMOUS, new Caller('192.0.2.1'));
    rates.check(ANONYMOUS, new Caller('192.0.2.1'));
    rates.count(ANONYMOUS, new Caller('::ffff:192.0.2.1'));
    for (const refuse of ['check', 'count'] as const) {
      expect(() => rates[refuse](ANONYMOUS, new Caller('192.0.2.1'))).toThrow(expect.objectContaining(limited));
    }
    rates.count(ANONYMOUS, new Caller('192.0.2.2'));
    await clock.advance(1_000);
    rates.count(ANONYMOUS, new Caller('192.0.2.1'));
  });

  it('are told apart by who they are otherwise, wherever they call from', () => {
    const rates = new RequestRates({ callerRate, clock: manualClock() });
    const ann: Principal = { kind: 'Certificate', user: 'ann', groups: [] };
    const token: Principal = { kind: 'Token', user: 'ann', uid: '', groups: [], extra: {} };
    rates.count(ann, new Caller('192.0.2.1'));
    rates.count(ann, new Caller('192.0.2.2'));
    expect(() => rates.count(ann, new Caller('192.0.2.3'))).toThrow(expect.objectContaining(limited));
    rates.count(token, new Caller('192.0.2.1'));
  });

  it('may make any number of requests where no rate is set', () => {
    const rates = new RequestRates({ callerRate: { perSecond: 0, burst: 1 }, clock: manualClock() });
    for (let request = 0; request < 100; request += 1) {
      rates.check(ANONYMOUS, new Caller('192.0.2.1'));
      rates.count(ANONYMOUS, new Caller('192.0.2.1'));
    }
  });
});
