import { describe, expect, it } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { functionTimeout, instance } from './support/instance.ts';

describe('the Lambda Invoke API', () => {
  const esb = instance();

  it('gives the AWS SDK the JSON of a real Python function', async () => {
    await esb.apply('caller');
    await esb.ready('caller');
    const first = await esb.invoke('caller', { echo: { nested: [1, 'ü'] } });
    expect(first).toMatchObject({
      status: 200,
      functionError: undefined,
      payload: { message: 'hello from caller', counter: 1, echo: { nested: [1, 'ü'] } },
    });
    expect(first.payload.requestId).toBe(first.requestId);
    const second = await esb.invoke('arn:aws:lambda:us-east-1:123456789012:function:caller');
    expect(second.payload).toMatchObject({ counter: 2, bootId: first.payload.bootId });
  });

  it('tells of a handler that raises by FunctionError and its payload', async () => {
    await esb.apply('raiser');
    await esb.ready('raiser');
    const answer = await esb.invoke('raiser', { raise: 'out of cheese' });
    expect(answer).toMatchObject({
      status: 200,
      functionError: 'Unhandled',
      payload: { errorType: 'ValueError', errorMessage: 'out of cheese' },
    });
  });

  it('tells of a handler that sleeps too long, and the worker serves the next call', {
    tags: ['P16', 'M14', 'G2'],
  }, async () => {
    // Enough for the function to be loaded again, which the next call does within this time.
    const seconds = functionTimeout(3);
    await esb.apply('sleeper', { timeoutSeconds: 3 });
    await esb.ready('sleeper');
    await esb.invoke('sleeper');
    const answer = await esb.invoke('sleeper', { sleep: seconds + 17 });
    expect(answer.status).toBe(200);
    expect(answer.functionError).toBe('Unhandled');
    expect(answer.payload.errorMessage).toContain(`Task timed out after ${seconds}.00 seconds`);
    expect((await esb.invoke('sleeper')).payload.message).toBe('hello from sleeper');
  });

  it('is not disturbed by a caller that hangs up in the middle of a call', { tags: ['G2'] }, async () => {
    await esb.apply('hung-up', { timeoutSeconds: 10 });
    const { status } = await esb.ready('hung-up');
    const before = await esb.invoke('hung-up');
    const caller = new AbortController();
    const given = esb.invoke('hung-up', { print: 'in the middle', sleep: 4 }, { signal: caller.signal });
    await waitFor('the call to be in the worker', async () =>
      (await esb.workerLog(status?.containerID ?? '', status?.assignment?.nodeName)).includes('in the middle'),
    );
    caller.abort();
    await expect(given).rejects.toMatchObject({ name: 'AbortError' });
    const after = await esb.invoke('hung-up');
    // The call that was given up has run to its end, by itself, in the same process.
    expect(after.payload).toMatchObject({ counter: 3, overlaps: 0, bootId: before.payload.bootId });
  });

  it('takes the tail of the log, a client context, and a dry run', { tags: ['P16'] }, async () => {
    await esb.apply('extras');
    await esb.ready('extras');
    const context = Buffer.from(JSON.stringify({ custom: { tenant: 'blue' } })).toString('base64');
    const answer = await esb.invoke(
      'extras',
      // The shim writes a line down a moment after the function does.
      { print: 'a line of its own', sleep: 0.3 },
      { LogType: 'Tail', ClientContext: context },
    );
    expect(answer.logTail).toContain('a line of its own');
    expect(answer.payload.clientContext).toEqual({ tenant: 'blue' });
    expect((await esb.invoke('extras', {}, { InvocationType: 'DryRun' })).status).toBe(204);
    expect((await esb.invoke('extras')).payload.counter).toBe(2);
  });

  it.each([
    ['a function that does not exist', 'nobody', '{}', 'ResourceNotFoundException', 404],
    ['a payload that is not JSON', 'refuser', '{"a":', 'InvalidRequestContentException', 400],
    ['a payload over 6 MB', 'refuser', JSON.stringify('x'.repeat(6_291_600)), 'RequestTooLargeException', 413],
  ])('refuses %s', async (_what, name, payload, error, status) => {
    if (name === 'refuser') {
      await esb.apply('refuser');
      await esb.ready('refuser');
    }
    // The SDK calls again, as people's do, while the gateway does not hear from the API server whether there is one.
    const client = esb.lambda(esb.gateway, 8);
    await expect(esb.invoke(name, undefined, { client, Payload: Buffer.from(payload) })).rejects.toMatchObject({
      name: error,
      $metadata: { httpStatusCode: status },
    });
  });

  it('tells truthfully of a function that ends its process', { tags: ['M14'] }, async () => {
    await esb.apply('quitter');
    await esb.ready('quitter');
    await esb.invoke('quitter');
    const answer = await esb.invoke('quitter', { exit: 3 });
    expect(answer.functionError).toBe('Unhandled');
    expect(answer.payload.errorType).toBe('Runtime.ExitError');
    expect((await esb.invoke('quitter')).payload.counter).toBe(1);
  });
});
