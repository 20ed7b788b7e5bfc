import { describe, expect, it, onTestFinished } from 'vitest';
import { TaskGroup } from '../../../../src/common/task-group.ts';
import { AccessCache, type Asker, strangerAt } from '../../../../src/gateway/access/access-cache.ts';
import { CallerRates } from '../../../../src/gateway/lambda/caller-rate.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
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
  /** State of the API server as other requests show it. */
  readonly watch: { isAway: boolean };
  get(key?: string): string | Promise<string>;
}

const nobody: Asker = { name: 'a', isStranger: false };

function lab(maxEntries?: number, strangers = new CallerRates({ perSecond: 0, burst: 1 }, 10)): Lab {
  const clock = manualClock();
  const watch = { isAway: false };
  const tasks = new TaskGroup((_task, error) => {
    throw error;
  });
  onTestFinished(() => tasks.stop());
  const cache = new AccessCache<string>({
    what: 'review',
    ttlMs: (value) => (value === 'yes' ? 60_000 : 10_000),
    graceMs: 3_600_000,
    isAway: () => watch.isAway,
    strangers,
    clock,
    tasks,
    ...(maxEntries === undefined ? {} : { maxEntries }),
  });
  const api = server();
  return { clock, cache, api, watch, get: (key = 'k') => cache.get(key, api.load, nobody) };
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
    // An API server that is known to be away is asked in the background, and no caller waits.
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
    await expect(cache.get('k', () => Promise.reject(forbidden), nobody)).rejects.toBe(forbidden);
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

  it('keeps the answers of an asker that are not used, whatever many others one asks for', async () => {
    const { api, cache } = lab(100);
    const alice = { name: 'alice', isStranger: false };
    const ask = (key: string, asker: Asker) => cache.get(key, api.load, asker);
    for (let n = 0; n < 10; n += 1) {
      await ask(`of-alice-${n}`, alice);
    }
    for (let n = 0; n < 1_000; n += 1) {
      await ask(`f${n}`, nobody);
    }
    // Known without a question, as in an outage of the API server.
    api.away = true;
    for (let n = 0; n < 10; n += 1) {
      expect(ask(`of-alice-${n}`, alice)).toBe('yes');
    }
    expect(cache.size).toBeLessThanOrEqual(100);
  });

  it('has room for new askers where each of many has one answer', async () => {
    const { api, cache } = lab(100);
    for (let n = 0; n < 1_000; n += 1) {
      expect(await cache.get(`k${n}`, api.load, { name: `caller-${n}`, isStranger: false })).toBe('yes');
    }
    expect(cache.size).toBeLessThanOrEqual(100);
    const asked = api.asked;
    expect(cache.get('k999', api.load, { name: 'caller-999', isStranger: false })).toBe('yes');
    expect(api.asked).toBe(asked);
  });

  it('goes on with the last answer for 30 seconds while a crowd of others keeps the API server busy, and no longer', async () => {
    const { api, cache, clock, get } = lab();
    await get();
    await clock.advance(60_000);
    const busy = new ApiError('too many', { code: 'TooManyRequests', retryable: true, status: 429 });
    const ask = (): string | Promise<string> => cache.get('k', () => Promise.reject(busy), nobody);
    expect(await ask()).toBe('yes');
    await clock.advance(29_999);
    expect(await ask()).toBe('yes');
    await clock.advance(1);
    // The right could have been taken back since, and no answer has confirmed it.
    await expect(ask()).rejects.toMatchObject({ status: 503 });
    expect(await get()).toBe('yes');
    expect(api.asked).toBe(2);
  });

  it('takes no answer that does not come in time for an API server that is away, unless that is known otherwise', async () => {
    const { api, clock, watch, get } = lab();
    await get();
    api.hold = new Promise(() => undefined);
    await clock.advance(100_000);
    await expect(get()).rejects.toMatchObject({ status: 503 });
    watch.isAway = true;
    expect(await get()).toBe('yes');
  });

  it('asks no more than it may at a time, and turns away whoever would wait too long in line', async () => {
    const { api, cache } = lab();
    const held = Promise.withResolvers<void>();
    api.hold = held.promise;
    const ask = async (n: number): Promise<string> =>
      cache.get(`k${n}`, api.load, { name: `asker ${n}`, isStranger: false });
    const answers = Array.from({ length: 1_024 }, (_, n) => ask(n));
    await settle();
    expect(api.asked).toBe(16);
    await expect(ask(1_024)).rejects.toMatchObject({ status: 503 });
    held.resolve();
    expect(new Set(await Promise.all(answers))).toEqual(new Set(['yes']));
  });

  it('keeps those who are known out of the line of those who are not', async () => {
    const { api, cache, clock, get } = lab();
    await get();
    await get('other');
    await clock.advance(60_000);
    const held = Promise.withResolvers<void>();
    const slow = async (): Promise<string> => {
      await held.promise;
      return 'no';
    };
    const crowd = Array.from({ length: 1_024 }, async (_, n) =>
      cache.get(`stranger-${n}`, slow, { name: `asker ${n}`, isStranger: false }),
    );
    await settle();
    expect(await get()).toBe('yes');
    api.answer = 'no';
    expect(await get('other')).toBe('no');
    held.resolve();
    await Promise.all(crowd);
  });

  it('leaves room for the questions of others, whoever asks too much', async () => {
    const { cache } = lab();
    const held = Promise.withResolvers<string>();
    const refused: string[] = [];
    const ask = (name: string, n: number): Promise<void> =>
      Promise.resolve(cache.get(`${name} ${n}`, () => held.promise, { name, isStranger: false })).then(
        () => undefined,
        (error: { reason?: string }) => void refused.push(`${name} ${error.reason}`),
      );
    const asked = Array.from({ length: 700 }, (_, n) => ask('greedy', n));
    await settle();
    expect(refused).toEqual(Array.from({ length: 188 }, () => 'greedy CallerRateLimitExceeded'));
    asked.push(...Array.from({ length: 200 }, (_, n) => ask('other', n)));
    await settle();
    expect(refused).toHaveLength(188);
    held.resolve('yes');
    await Promise.all(asked);
  });

  it('asks for the strangers of one address at their rate, and at once for those that are known', async () => {
    const { cache, clock, api } = lab(undefined, new CallerRates({ perSecond: 10, burst: 20 }, 100));
    const ask = async (n: number, asker: Asker): Promise<string> => {
      try {
        return await cache.get(`${asker.name} ${n}`, api.load, asker);
      } catch (error) {
        return (error as { reason?: string }).reason ?? 'error';
      }
    };
    const at = (address: string): Asker => strangerAt(address);
    const answers = async (asker: Asker): Promise<readonly number[]> => {
      const all = await Promise.all(Array.from({ length: 30 }, (_, n) => ask(n, asker)));
      return [
        all.filter((text) => text === 'yes').length,
        all.filter((text) => text === 'CallerRateLimitExceeded').length,
      ];
    };
    expect(await answers(at('192.0.2.1'))).toEqual([20, 10]);
    expect(await answers(at('2001:db8::1'))).toEqual([20, 10]);
    expect(await ask(99, at('2001:db8::2'))).toBe('CallerRateLimitExceeded');
    expect(await answers({ name: 'bob', isStranger: false })).toEqual([30, 0]);
    // A known answer is not asked for again.
    expect(await ask(0, at('192.0.2.1'))).toBe('yes');
    await clock.advance(1_000);
    expect(await answers(at('192.0.2.1'))).toEqual([30, 0]);
  });
});
