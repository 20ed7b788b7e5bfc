import { expect, it } from 'vitest';
import type { WorkerRequest } from '../../../../src/agent/invoke/emulator-client.ts';
import { InitClient } from '../../../../src/agent/invoke/init-client.ts';
import type { InitRequest } from '../../../../src/init/contract.ts';
import { FakeInits } from '../../../support/fake-inits.ts';

it.each([
  ['', ''],
  ['{"custom":{"tenant":"blue"}}', '{"custom":{"tenant":"blue"}}'],
  ['{"custom":{"tenant":"ü青😀"}}', '{"custom":{"tenant":"\\u00fc\\u9752\\ud83d\\ude00"}}'],
])('gives a runtime the client context %s as JSON that a header can carry', async (given, taken) => {
  const request = await requestOf({ clientContext: Buffer.from(given).toString('base64') });
  expect(request?.clientContext).toBe(taken);
});

const arn = 'arn:aws:lambda:us-east-1:012345678912:function:hello';
it.each([
  [undefined, arn],
  ['', arn],
  [`${arn}:$LATEST`, `${arn}:$LATEST`],
  ['arn\r\nHost: other', arn],
  ['x'.repeat(513), arn],
])('gives a runtime for the ARN %j of its caller the ARN %s', async (invokedFunctionArn, taken) => {
  expect((await requestOf({ invokedFunctionArn }))?.functionArn).toBe(taken);
});

/** The call as its init gets it. */
async function requestOf(given: Partial<WorkerRequest>): Promise<InitRequest | undefined> {
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
    clientContext: '',
    timeoutSeconds: 3,
    timeoutMs: 3_000,
    onSending: () => undefined,
    onHead: () => undefined,
    onChunk: () => undefined,
    ...given,
  });
  const call = inits.calls.at(-1);
  call?.answer('{}');
  await answer;
  return call?.request;
}
