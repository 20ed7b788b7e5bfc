import { describe, expect, it } from 'vitest';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { configMaps } from '../../../../src/kube/api/resource-types.ts';
import type { FenceOptions, KubeClient } from '../../../../src/kube/api/types.ts';
import { settlingClient } from '../../../../src/kube/client/settling-client.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const map = { metadata: { namespace: 'default', name: 'one' } };

/** A client whose writes end as `answer` says, once they are on their way. */
function scene(answer: (options: FenceOptions) => Promise<unknown>) {
  const clock = manualClock();
  const create = async (_type: unknown, _object: unknown, options: FenceOptions): Promise<unknown> => {
    options.fence?.();
    return await answer(options);
  };
  const { client, doubtMs } = settlingClient({ create } as unknown as KubeClient, clock);
  const term = new AbortController();
  return { clock, doubtMs, term, write: () => client.create(configMaps, map, { signal: term.signal }) };
}

describe('a client whose writes end with an answer', () => {
  const lost = new ApiError('no answer', { code: 'Unreachable' });
  const refused = new ApiError('other', { code: 'Conflict', status: 409 });

  it('is not settled while a write that was lost may still arrive, also where nobody gave it up', async () => {
    const { clock, doubtMs, write } = scene(() => Promise.reject(lost));
    expect(doubtMs()).toBe(0);
    await expect(write()).rejects.toBe(lost);
    expect(doubtMs()).toBe(15_000);
    await clock.advance(14_999);
    expect(doubtMs()).toBe(1);
    await clock.advance(1);
    expect(doubtMs()).toBe(0);
  });

  it('is settled after an answer, be it a refusal', async () => {
    const { doubtMs, term, write } = scene(() => Promise.reject(refused));
    await expect(write()).rejects.toBe(refused);
    term.abort();
    expect(doubtMs()).toBe(0);
  });

  it('goes on with a write whose caller gives it up, for a while, and sends none after that', async () => {
    const { clock, doubtMs, term, write } = scene(
      ({ signal }) =>
        new Promise((_resolve, reject) => {
          signal?.addEventListener('abort', () => reject(lost), { once: true });
        }),
    );
    const writing = write();
    writing.catch(() => undefined);
    term.abort();
    await expect(write()).rejects.toMatchObject({ code: 'Aborted' });
    await clock.advance(4_999);
    expect(doubtMs()).toBe(0);
    await clock.advance(1);
    await expect(writing).rejects.toBe(lost);
    expect(doubtMs()).toBe(15_000);
  });
});
