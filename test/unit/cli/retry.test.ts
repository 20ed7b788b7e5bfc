import { describe, expect, it } from 'vitest';
import { retry } from '../../../src/cli/retry.ts';
import { AbortedError } from '../../../src/common/deadline.ts';

/** Fails that often, then answers with the number of the attempt. */
function failing(times: number): () => Promise<number> {
  let attempt = 0;
  return async () => {
    attempt += 1;
    if (attempt <= times) {
      throw new Error(`failure ${attempt}`);
    }
    return attempt;
  };
}

describe('retry', () => {
  it('goes on until it succeeds', async () => {
    expect(await retry(failing(2), { firstDelayMs: 1 })).toBe(3);
  });

  it('gives up with the last error', async () => {
    await expect(retry(failing(9), { firstDelayMs: 1, attempts: 3 })).rejects.toThrow('failure 3');
  });

  it('does not repeat what another attempt cannot mend', async () => {
    await expect(retry(failing(9), { firstDelayMs: 1, worthRetrying: () => false })).rejects.toThrow('failure 1');
    await expect(retry(() => Promise.reject(new AbortedError('it')), { firstDelayMs: 1 })).rejects.toBeInstanceOf(
      AbortedError,
    );
  });

  it('prepares the next attempt, and does not mind when that fails', async () => {
    let prepared = 0;
    await retry(failing(2), {
      firstDelayMs: 1,
      beforeRetry: async () => {
        prepared += 1;
        throw new Error('no matter');
      },
    });
    expect(prepared).toBe(2);
  });
});
