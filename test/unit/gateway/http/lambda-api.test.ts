import { InvokeAsyncCommand } from '@aws-sdk/client-lambda';
import { describe, expect, it } from 'vitest';
import { gatewayLab, payloadOf } from '../../../support/gateway-lab.ts';
import { waitFor } from '../../../support/wait-for.ts';

const arn = 'arn:aws:lambda:eu-west-1:123456789012:function:hello';

describe('a synchronous call', () => {
  it('gives the payload to the worker and its answer to the SDK', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer(`{"got":${call.request.payload.toString()}}`));
    const answer = await lab.invoke('hello', { Payload: JSON.stringify({ a: ['ü', 1] }) });
    expect(answer).toMatchObject({ StatusCode: 200, ExecutedVersion: '$LATEST' });
    expect(answer.FunctionError).toBeUndefined();
    expect(payloadOf(answer)).toBe('{"got":{"a":["ü",1]}}');
    expect(lab.agent.calls[0]).toMatchObject({
      worker: { namespace: 'default', name: 'hello', uid: 'uid-of-hello' },
      epoch: 1,
      requestId: answer.$metadata.requestId,
      tailLog: false,
      clientContext: '',
    });
  });

  it.each([
    ['a name', 'hello', undefined],
    ['a name with $LATEST', 'hello:$LATEST', undefined],
    ['a qualifier of $LATEST', 'hello', '$LATEST'],
    ['a partial ARN', '123456789012:function:hello', undefined],
    ['a whole ARN', arn, undefined],
    ['a whole ARN with $LATEST', `${arn}:$LATEST`, '$LATEST'],
  ])('finds its function by %s', async (_what, name, qualifier) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const answer = await lab.invoke(name, qualifier === undefined ? {} : { Qualifier: qualifier });
    expect(answer.StatusCode).toBe(200);
  });

  it('sends an empty object for an empty payload', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    await lab.invoke('hello');
    expect(lab.agent.calls[0]?.payload.toString()).toBe('{}');
  });

  it('carries payloads and answers of 6 MB, in as many pieces as they come', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => {
      const { payload } = call.request;
      call.answer([payload.subarray(0, 1_000_000), payload.subarray(1_000_000)]);
    });
    const payload = JSON.stringify('x'.repeat(6 * 1024 * 1024 - 2));
    expect(payloadOf(await lab.invoke('hello', { Payload: payload }))).toBe(payload);
  });

  it('gives the tail of the log, the client context and the trace id where they belong', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer('{}', { logTail: 'START\nline\nEND\n' }));
    const context = Buffer.from('{"custom":{"a":1}}').toString('base64');
    const answer = await lab.invoke('hello', { LogType: 'Tail', ClientContext: context });
    expect(Buffer.from(answer.LogResult ?? '', 'base64').toString()).toBe('START\nline\nEND\n');
    expect(lab.agent.calls[0]).toMatchObject({ clientContext: context, tailLog: true });
    const trace = (last: number) =>
      `Root=1-5759e988-${String(last).padStart(24, '0')};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:ab:0`;
    const traced = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, {
      method: 'POST',
      headers: { 'x-amzn-trace-id': trace(3) },
    });
    expect(traced.headers.get('x-amzn-trace-id')).toBe(trace(3));
    const accepted = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, {
      method: 'POST',
      headers: { 'x-amzn-trace-id': trace(4), 'x-amz-invocation-type': 'Event' },
    });
    expect(accepted.status).toBe(202);
    expect(accepted.headers.get('x-amzn-trace-id')).toBe(trace(4));
    expect(lab.agent.calls[1]?.traceId).toBe(trace(3));
  });

  it.each(['running\r\nset-cookie: a=b', 'run"ning', '\u0000', 'ü€'])(
    'is answered whatever its agent says that it found (%j)',
    async (start) => {
      const lab = await gatewayLab();
      await lab.addWorker('hello');
      lab.agent.onInvoke((call) => call.answer('{}', { timings: { queued: 12, wake: 0, run: 1_500, start } }));
      const answer = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, { method: 'POST' });
      expect(answer.status).toBe(200);
      expect(answer.headers.get('server-timing')).toBe('queue;dur=0.012, wake;dur=0, run;dur=1.5');
      expect(answer.headers.get('set-cookie')).toBeNull();
    },
  );

  it('tells how long it took where', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) =>
      call.answer('{}', { timings: { queued: 12, wake: 10_250, run: 1_500, start: 'paused' } }),
    );
    const answer = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, { method: 'POST' });
    expect(answer.headers.get('server-timing')).toBe(
      'queue;dur=0.012, wake;dur=10.25, run;dur=1.5, start;desc="paused"',
    );
    expect(answer.headers.get('content-type')).toBe('application/json');
  });

  it.each([
    ['running', 'warm'],
    ['paused', 'resumed'],
    ['absent', 'cold'],
  ])('tells of a worker that was %s that the start was %s', async (start, told) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer('{}', { timings: { queued: 0, wake: 0, run: 0, start } }));
    const answer = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, { method: 'POST' });
    expect(answer.headers.get('x-esb-start')).toBe(told);
  });

  it('tells neither where that is not wanted', async () => {
    const lab = await gatewayLab({ gateway: { timingHeaders: false } });
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer('{}', { timings: { queued: 0, wake: 0, run: 0, start: 'paused' } }));
    const answer = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, { method: 'POST' });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('x-esb-start')).toBeNull();
    expect(answer.headers.get('server-timing')).toBeNull();
  });

  it.each(['text/plain', 'application/json', 'nonsense', 'a/b; charset='])(
    'takes a body that is said to be %s',
    async (type) => {
      const lab = await gatewayLab();
      await lab.addWorker('hello');
      const answer = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, {
        method: 'POST',
        headers: { 'content-type': type },
        body: '[1]',
      });
      expect(answer.status).toBe(200);
      expect(lab.agent.calls[0]?.payload.toString()).toBe('[1]');
    },
  );
});

describe('what the function did wrong', () => {
  it('is status 200 with FunctionError and the error that the runtime gave', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const error = '{"errorMessage": "no", "errorType": "ValueError", "requestId": "", "stackTrace": []}';
    lab.agent.onInvoke((call) => call.answer(error));
    const answer = await lab.invoke('hello');
    expect(answer).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' });
    expect(payloadOf(answer)).toBe(error);
  });

  it.each([
    [
      'by the emulator, with a lie',
      (call: { answer(body: string): void }) => call.answer('Task timed out after 3.00 seconds'),
    ],
    ['by the agent', (call: { timeOut(): void }) => call.timeOut()],
  ])('is told as a timeout when it was ended %s', async (_what, handle) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke(handle);
    const answer = await lab.invoke('hello');
    expect(answer.FunctionError).toBe('Unhandled');
    expect(JSON.parse(payloadOf(answer))).toMatchObject({
      errorType: 'Sandbox.Timedout',
      errorMessage: expect.stringContaining(`${answer.$metadata.requestId} Task timed out after 3.00 seconds`),
    });
  });

  it.each([
    ['its process ended', '', 502],
    ['its process ended before the emulator noticed', '', 200],
  ])('is an exit error when %s', async (_what, body, status) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer(body, { status }));
    const answer = await lab.invoke('hello');
    expect(answer).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' });
    expect(JSON.parse(payloadOf(answer)).errorType).toBe('Runtime.ExitError');
  });

  it('is an answer that is too large', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const half = Buffer.alloc(3_200_000, 'x');
    lab.agent.onInvoke((call) => call.answer([half, half]));
    const answer = await lab.invoke('hello');
    expect(JSON.parse(payloadOf(answer)).errorType).toBe('Function.ResponseSizeTooLarge');
  });
});

describe('a call that nobody knows the end of', () => {
  it.each([
    ['WorkerExited', 'Runtime.ExitError'],
    ['AgentStopped', 'Esb.OutcomeUnknown'],
    ['Restarted', 'Esb.OutcomeUnknown'],
  ])('is told as such and not repeated (%s)', async (reason, errorType) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.unknown(reason));
    const answer = await lab.invoke('hello');
    expect(answer).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' });
    expect(JSON.parse(payloadOf(answer)).errorType).toBe(errorType);
    expect(lab.agent.calls).toHaveLength(1);
  });

  it('is one whose agent was killed', { tags: ['G6'] }, async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke(() => undefined);
    const given = fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, { method: 'POST' });
    await waitFor('the call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    await lab.agent.kill();
    const answer = await given;
    expect(answer.status).toBe(200);
    expect(answer.headers.get('x-amz-function-error')).toBe('Unhandled');
    expect(answer.headers.get('x-esb-outcome')).toBe('unknown');
    expect(await answer.json()).toMatchObject({ errorType: 'Esb.OutcomeUnknown' });
    await lab.agent.revive();
    await lab.connected();
    expect(lab.agent.calls).toHaveLength(1);
  });

  it('is one that the agent ended by a fault of its own', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.fail(13, 'Internal', 'Internal: oh no'));
    const answer = await lab.invoke('hello');
    expect(JSON.parse(payloadOf(answer))).toMatchObject({
      errorType: 'Esb.OutcomeUnknown',
      errorMessage: expect.stringContaining('oh no'),
    });
  });
});

describe('a dry run', () => {
  it('checks and runs nothing', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    expect((await lab.invoke('hello', { InvocationType: 'DryRun' })).StatusCode).toBe(204);
    await expect(lab.invoke('nobody', { InvocationType: 'DryRun' })).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
    });
    expect(lab.agent.calls).toHaveLength(0);
  });
});

describe('an Event', () => {
  it('is answered at once and run afterwards', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const running = Promise.withResolvers<() => void>();
    lab.agent.onInvoke((call) => running.resolve(() => call.answer('{}')));
    const answer = await lab.invoke('hello', { InvocationType: 'Event', Payload: '{"n":1}' });
    expect(answer.StatusCode).toBe(202);
    expect(payloadOf(answer)).toBe('');
    await running.promise;
    expect(lab.agent.calls[0]?.payload.toString()).toBe('{"n":1}');
  });

  it('is also what InvokeAsync makes', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const running = Promise.withResolvers<void>();
    lab.agent.onInvoke((call) => {
      call.answer('{}');
      running.resolve();
    });
    const answer = await lab.client.send(new InvokeAsyncCommand({ FunctionName: 'hello', InvokeArgs: '{"n":2}' }));
    expect(answer.Status).toBe(202);
    await running.promise;
    expect(lab.agent.calls[0]?.payload.toString()).toBe('{"n":2}');
  });

  it('ends before the gateway does', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    let ended = false;
    lab.agent.onInvoke((call) => {
      setTimeout(() => {
        ended = true;
        call.answer('{}');
      }, 60);
    });
    await lab.invoke('hello', { InvocationType: 'Event' });
    await lab.gateway.stop();
    expect(ended).toBe(true);
  });
});

describe('the end of the gateway', () => {
  it('waits for the calls under way', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const running = Promise.withResolvers<() => void>();
    lab.agent.onInvoke((call) => running.resolve(() => call.answer('"late"')));
    const given = lab.invoke('hello');
    const finish = await running.promise;
    const stopped = lab.gateway.stop();
    setTimeout(finish, 50);
    expect(payloadOf(await given)).toBe('"late"');
    await stopped;
    await expect(lab.invoke('hello')).rejects.toThrow();
  });
});
