import { expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { PublicNamespace, type PublicNamespaceOptions } from '../../../../src/gateway/url/public-namespace.ts';
import { manualClock } from '../../../support/manual-clock.ts';

it('reads the label again for requests that it would refuse, at most once a second', async () => {
  let labels: Readonly<Record<string, string>> | undefined = {};
  let asked = 0;
  const get: PublicNamespaceOptions['client']['get'] = async () => {
    asked += 1;
    if (labels === undefined) {
      throw new Error('the API server is away');
    }
    return { metadata: { name: 'team-a', labels } } as never;
  };
  const clock = manualClock();
  const followed = new PublicNamespace({ client: { get }, namespace: 'team-a', clock, logger: silentLogger() });
  const end = new AbortController();
  // The loop that reads has not begun.
  await followed.look();
  expect(asked).toBe(0);
  const run = followed.run(end.signal).catch(() => undefined);
  onTestFinished(async () => {
    end.abort();
    await run;
  });
  await clock.advance(0);
  await Promise.all([followed.look(), followed.look()]);
  expect(asked).toBe(1);
  await clock.advance(1_000);
  labels = undefined;
  await Promise.all([followed.look(), followed.look()]);
  await followed.look();
  expect([asked, followed.isPublic]).toEqual([2, false]);
  await clock.advance(1_000);
  labels = { 'esb.dev/public-functions': 'true' };
  await Promise.all([followed.look(), followed.look()]);
  expect([asked, followed.isPublic]).toEqual([3, true]);
  await clock.advance(1_000);
  await followed.look();
  expect(asked).toBe(3);
});

it('follows the label of its namespace, and keeps what was read last', async () => {
  let answer: () => Readonly<Record<string, string>> = () => {
    throw new Error('the API server is away');
  };
  const asked: unknown[] = [];
  const get: PublicNamespaceOptions['client']['get'] = async (_resource, key) => {
    asked.push(key);
    return { metadata: { name: 'team-a', labels: answer() } } as never;
  };
  const clock = manualClock();
  const followed = new PublicNamespace({ client: { get }, namespace: 'team-a', clock, logger: silentLogger() });
  const end = new AbortController();
  const run = followed.run(end.signal).catch(() => undefined);
  onTestFinished(async () => {
    end.abort();
    await run;
  });
  await clock.advance(0);
  expect(followed.isPublic).toBeUndefined();
  answer = () => ({ 'esb.dev/public-functions': 'true' });
  await clock.advance(2_000);
  expect(followed.isPublic).toBe(true);
  answer = () => {
    throw new Error('the API server is away');
  };
  await clock.advance(30_000);
  expect(followed.isPublic).toBe(true);
  answer = () => ({ 'esb.dev/public-functions': 'yes' });
  await clock.advance(2_000);
  expect(followed.isPublic).toBe(false);
  expect(asked).toEqual(Array.from({ length: 4 }, () => ({ name: 'team-a' })));
});
