import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { isAborted, sleep, withDeadline } from '../../../src/common/deadline.ts';
import { EsbError, hasCode } from '../../../src/common/errors.ts';

const never = (): Promise<never> => Promise.withResolvers<never>().promise;

describe('withDeadline', () => {
  it('gives what the call gives', async () => {
    await expect(withDeadline('reading', 1_000, undefined, () => Promise.resolve(7))).resolves.toBe(7);
  });

  it('ends a call that takes too long, and tells it so through its signal', async () => {
    let seen: AbortSignal | undefined;
    const call = withDeadline('reading', 5, undefined, (signal) => {
      seen = signal;
      return never();
    });
    await expect(call).rejects.toMatchObject({ code: 'DeadlineExceeded', retryable: true });
    expect(seen?.aborted).toBe(true);
  });

  it.each([2 ** 31, Number.POSITIVE_INFINITY])(
    'ends no call whose time is longer than a timer counts (%d ms)',
    async (ms) => {
      const call = withDeadline('reading', ms, undefined, () => sleep(systemClock, 20).then(() => 7));
      await expect(call).resolves.toBe(7);
    },
  );

  it('ends a call when its caller gives up', async () => {
    const caller = new AbortController();
    const call = withDeadline('reading', 10_000, caller.signal, never);
    caller.abort();
    await expect(call).rejects.toMatchObject({ code: 'Aborted', retryable: false });
  });

  it('does not start a call for a caller who has given up already', async () => {
    let started = false;
    const call = withDeadline('reading', 10_000, AbortSignal.abort(), async () => {
      started = true;
    });
    await expect(call).rejects.toSatisfy(isAborted);
    expect(started).toBe(false);
  });

  it('keeps the error of a call that fails by itself', async () => {
    const fault = new EsbError('no such file', { code: 'NotFound' });
    await expect(withDeadline('reading', 1_000, undefined, () => Promise.reject(fault))).rejects.toBe(fault);
  });

  it('says that the time was over even when the call answers its signal with an error of its own', async () => {
    const call = withDeadline('reading', 5, undefined, async (signal) => {
      await sleep(systemClock, 10_000, signal);
    });
    await expect(call).rejects.toSatisfy((error) => hasCode(error, 'DeadlineExceeded'));
  });
});

describe('sleep', () => {
  it('ends early when its signal fires', async () => {
    const caller = new AbortController();
    const slept = sleep(systemClock, 60_000, caller.signal);
    caller.abort();
    await expect(slept).rejects.toSatisfy(isAborted);
  });
});
