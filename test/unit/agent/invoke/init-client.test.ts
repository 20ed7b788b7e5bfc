import { expect, it } from 'vitest';
import { InitClient } from '../../../../src/agent/invoke/init-client.ts';
import { FakeInits } from '../../../support/fake-inits.ts';

it.each([
  ['', ''],
  ['{"custom":{"tenant":"blue"}}', '{"custom":{"tenant":"blue"}}'],
  ['{"custom":{"tenant":"ü青😀"}}', '{"custom":{"tenant":"\\u00fc\\u9752\\ud83d\\ude00"}}'],
])('gives a runtime the client context %s as JSON that a header can carry', async (given, taken) => {
  const inits = new FakeInits();
  await inits.open('one');
  const link = inits.link('one');
  if (link === undefined) {
    throw new Error('no link');
  }
  const answer = new InitClient(link).call({
    functionName: 'hello',
    payload: Buffer.from('{}'),
    requestId: 'r',
    clientContext: Buffer.from(given).toString('base64'),
    timeoutSeconds: 3,
    timeoutMs: 3_000,
    onSending: () => undefined,
    onHead: () => undefined,
    onChunk: () => undefined,
  });
  const call = inits.calls.at(-1);
  expect(call?.request.clientContext).toBe(taken);
  call?.answer('{}');
  await answer;
});
