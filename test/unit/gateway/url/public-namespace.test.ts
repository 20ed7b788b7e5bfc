import { expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { PublicNamespace, type PublicNamespaceOptions } from '../../../../src/gateway/url/public-namespace.ts';
import { manualClock } from '../../../support/manual-clock.ts';

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
