import crypto from 'node:crypto';
import { GetAccountSettingsCommand, ListFunctionsCommand } from '@aws-sdk/client-lambda';
import { expect, it, vi } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { VersionBook } from '../../../../src/gateway/agents/version-book.ts';
import { type ControlClient, FunctionWriter } from '../../../../src/gateway/control/function-writer.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { functionFixture } from '../../../support/function-fixture.ts';
import { gatewayLab } from '../../../support/gateway-lab.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

/** A writer whose looks at the API server end when a test says so. */
function writerLab() {
  const functions = fakeInformer<LambdaFunction>([functionFixture()]);
  const versions = fakeInformer<LambdaVersion>();
  const book = new VersionBook({ functions, versions, onChange: () => undefined });
  const asked: ((found: LambdaFunction) => void)[] = [];
  const get = (): Promise<LambdaFunction> => new Promise((resolve) => void asked.push(resolve));
  const clock = manualClock();
  const writer = new FunctionWriter({
    client: { get } as unknown as ControlClient,
    namespace: 'default',
    functions,
    versions,
    book,
    isHandMade: () => false,
    clock,
    logger: silentLogger(),
  });
  return { asked, clock, functions, writer };
}

it('reads of one function share a look that begins after they came, and those of many take turns', async () => {
  const { asked, writer } = writerLab();
  const first = writer.refresh({ name: 'hello' });
  await waitFor('a look', () => asked.length === 1, { everyMs: 1 });
  const later = Array.from({ length: 1_000 }, () => writer.refresh({ name: 'hello' }));
  asked[0]?.(functionFixture());
  await first;
  await waitFor('the next look', () => asked.length === 2, { everyMs: 1 });
  asked[1]?.(functionFixture());
  await Promise.all(later);
  expect(asked).toHaveLength(2);
  const many = Array.from({ length: 100 }, (_, index) => writer.refresh({ name: `other-${index}` }));
  await waitFor('16 looks', () => asked.length === 2 + 16, { everyMs: 1 });
  for (let at = 2; at < 102; at += 1) {
    await waitFor('its turn', () => asked.length > at, { everyMs: 1 });
    expect(asked.length).toBeLessThanOrEqual(at + 16);
    asked[at]?.(undefined as never);
  }
  await Promise.all(many);
});

it('a wait looks once for each change of its function, and at nothing in between', async () => {
  const { clock, functions, writer } = writerLab();
  let looks = 0;
  const holds = (): boolean => {
    looks += 1;
    return functions.cache.get({ namespace: 'default', name: 'hello' })?.spec.publishToken === 'done';
  };
  const ended = writer.until('hello', holds, 40_000);
  await clock.advance(30_000);
  expect(looks).toBe(1);
  functions.put(functionFixture({ name: 'other' }));
  functions.put(functionFixture({ spec: { publishToken: 'begun' } }));
  expect(looks).toBe(2);
  functions.put(functionFixture({ spec: { publishToken: 'done' } }));
  expect(await ended).toBe(true);
  const late = writer.until('hello', () => false, 40_000);
  await clock.advance(40_000);
  expect(await late).toBe(false);
});

it('a template is hashed once for all descriptions, and not to count functions', async () => {
  const lab = await gatewayLab();
  for (let index = 0; index < 20; index += 1) {
    lab.functions.put(functionFixture({ name: `f-${index}` }));
  }
  const hashed = vi.spyOn(crypto.Hash.prototype, 'update');
  const hashes = async (send: () => Promise<unknown>): Promise<number> => {
    hashed.mockClear();
    await send();
    return hashed.mock.calls.filter(([text]) => (text as string).includes('registry.example')).length;
  };
  try {
    expect(await hashes(() => lab.client.send(new GetAccountSettingsCommand({})))).toBe(0);
    expect(await hashes(() => lab.client.send(new ListFunctionsCommand({})))).toBe(20);
    expect(await hashes(() => lab.client.send(new ListFunctionsCommand({})))).toBe(0);
  } finally {
    hashed.mockRestore();
  }
});
