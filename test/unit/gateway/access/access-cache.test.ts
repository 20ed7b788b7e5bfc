import { describe, expect, it, onTestFinished } from 'vitest';
import { TaskGroup } from '../../../../src/common/task-group.ts';
import { AccessCache } from '../../../../src/gateway/access/access-cache.ts';
import { ApiError } from '../../../../src/kube/api-error.ts';
import { type ManualClock, manualClock, settle } from '../../../support/manual-clock.ts';

/** An API server that answers with what it is told, or is away. */
interface Server {
  answer: string;
  away: boolean;
  /** When set, answers wait for it. */
  hold: Promise<void> | undefined;
  asked: number;
  load: () => Promise<string>;
}

function server(): Server {
  const one: Server = {
    answer: 'yes',
    away: false,
    hold: undefined,
    asked: 0,
    async load() {
      one.asked += 1;
      await one.hold;
      if (one.away) {
        throw ApiError.unreachable('review', new Error('connection refused'));
      }
      return one.answer;
    },
  };
  return one;
}

interface Lab {
  readonly clock: ManualClock;
  readonly cache: AccessCache<string>;
  readonly api: Server;
  get(key?: string): string | Promise<string>;
}

function lab(maxEntries?: number): Lab {
  const clock = manualClock();
  const tasks = new TaskGroup((_task, error) => {
    throw error;
  });
  onTestFinished(() => tasks.stop());
  const cache = new AccessCache<string>({
    what: 'review',
    ttlMs: (value) => (value === 'yes' ? 60_000 : 10_000),
    graceMs: 3_600_000,
    clock,
    tasks,
    ...(maxEntries === undefined ? {} : { maxEntries }),
  });
  const api = server();
  return { clock, cache, api, get: (key = 'k') => cache.get(key, api.load) };
}

describe('access cache', () => {
  it('gives a known answer at once, and not only later', async () => {
    const { api, get } = lab();
    expect(await get()).toBe('yes');
    expect(get()).toBe('yes');
    expect(api.asked).toBe(1);
  });

  it('asks once for all who want to know the same at a time', async () => {
    const { api, get } = lab();
    expect(await Promise.all([get(), get(), get()])).toEqual(['yes', 'yes', 'yes']);
    expect(api.asked).toBe(1);
  });

  it('uses no answer beyond its time, yes and no having times of their own', async () => {
    const { api, clock, get } = lab();
    await get();
    api.answer = 'no';
    await clock.advance(60_000);
    expect(await get()).toBe('no');
    api.answer = 'yes';
    await clock.advance(9_999);
    expect(get()).toBe('no');
    await clock.advance(1);
    expect(await get()).toBe('yes');
  });

  it('asks anew for an answer in use before it ends, so that nobody waits', async () => {
    const { api, clock, get } = lab();
    await get();
    await clock.advance(45_000);
    api.answer = 'no';
    expect(get()).toBe('yes');
    await settle();
    expect(get()).toBe('no');
    expect(api.asked).toBe(2);
  });

  it('goes on with the last answer while the API server is away, and without it no longer than the grace', async () => {
    const { api, clock, get } = lab();
    await get();
    api.away = true;
    await clock.advance(60_000);
    expect(await get()).toBe('yes');
    // Known to be away, it is asked in the background and nobody waits.
    expect(get()).toBe('yes');
    await clock.advance(3_599_000);
    expect(await get()).toBe('yes');
    await clock.advance(1_000);
    await expect(get()).rejects.toMatchObject({ errorName: 'ServiceException', status: 503 });
  });

  it('has a new answer within seconds of the return of the API server', async () => {
    const { api, clock, get } = lab();
    await get();
    api.away = true;
    await clock.advance(60_000);
    await get();
    api.away = false;
    api.answer = 'no';
    await clock.advance(3_000);
    void get();
    await settle();
    expect(get()).toBe('no');
  });

  it('refuses the unknown with 503 while the API server is away', async () => {
    const { api, get } = lab();
    api.away = true;
    await expect(get()).rejects.toMatchObject({ errorName: 'ServiceException', status: 503 });
  });

  it('keeps to no answer that the API server has taken back by an error of ours', async () => {
    const { clock, cache, get } = lab();
    await get();
    await clock.advance(60_000);
    const forbidden = new ApiError('forbidden', { code: 'Forbidden', retryable: false, status: 403 });
    await expect(cache.get('k', () => Promise.reject(forbidden))).rejects.toBe(forbidden);
  });

  it('is bounded, and keeps what is in use', async () => {
    const { api, cache, get } = lab(3);
    await get('hot');
    for (let n = 0; n < 20; n += 1) {
      await get(`cold-${n}`);
      expect(get('hot')).toBe('yes');
    }
    expect(cache.size).toBe(3);
    expect(api.asked).toBe(21);
  });

  it('takes no crowd of others for an API server that is away', async () => {
    const { api, cache, clock, get } = lab();
    await get();
    await clock.advance(60_000);
    const held = Promise.withResolvers<void>();
    api.hold = held.promise;
    const others = Array.from({ length: 16 }, async (_, n) => cache.get(`other-${n}`, api.load));
    // What was known could have been taken back since, and nobody has said that it was not.
    await expect(get()).rejects.toMatchObject({ status: 503 });
    held.resolve();
    await Promise.all(others);
  });

  it('asks no more than it may at a time, and turns away whoever would wait too long in line', async () => {
    const { api, cache } = lab();
    const held = Promise.withResolvers<void>();
    api.hold = held.promise;
    const answers = Array.from({ length: 1_024 }, async (_, n) => cache.get(`k${n}`, api.load));
    await settle();
    expect(api.asked).toBe(16);
    await expect(cache.get('one more', api.load)).rejects.toMatchObject({ status: 503 });
    held.resolve();
    expect(new Set(await Promise.all(answers))).toEqual(new Set(['yes']));
  });
});
