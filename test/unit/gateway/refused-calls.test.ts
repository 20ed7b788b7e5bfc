import { describe, expect, it } from 'vitest';
import { DEFAULT_LIMIT_FLAGS, gatewayLimits } from '../../../src/gateway/admission/gateway-limits.ts';
import { gatewayLab, payloadOf } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('the refusal of', () => {
  it('an unknown function is 503 while the API server is not heard, and that of a known one none at all', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.workers.setCurrent(false);
    await expect(lab.invoke('nobody')).rejects.toMatchObject({
      name: 'ServiceException',
      message: expect.stringContaining('does not know the function nobody'),
      $metadata: { httpStatusCode: 503 },
    });
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
    lab.workers.setCurrent(true);
    await expect(lab.invoke('nobody')).rejects.toMatchObject({ name: 'ResourceNotFoundException' });
  });

  it.each([
    ['an unknown function', 'nobody', {}, 'ResourceNotFoundException', 404],
    ['an unknown alias', 'hello:blue', {}, 'ResourceNotFoundException', 404],
    ['an unknown version', 'hello', { Qualifier: '7' }, 'ResourceNotFoundException', 404],
    ['a name with a space', 'hel lo', {}, 'InvalidParameterValueException', 400],
    ['a name that is too long', 'x'.repeat(65), {}, 'InvalidParameterValueException', 400],
    ['a name of many pages', 'x'.repeat(8_000), {}, 'InvalidParameterValueException', 400],
    ['an ARN of another service', 'arn:aws:s3:::hello', {}, 'InvalidParameterValueException', 400],
    ['two qualifiers', 'hello:a', { Qualifier: 'b' }, 'InvalidParameterValueException', 400],
    ['a wrong qualifier', 'hello', { Qualifier: 'a b' }, 'InvalidParameterValueException', 400],
    ['a wrong invocation type', 'hello', { InvocationType: 'Later' }, 'InvalidParameterValueException', 400],
    ['a wrong log type', 'hello', { LogType: 'Head' }, 'InvalidParameterValueException', 400],
    ['a tenant', 'hello', { TenantId: 'blue' }, 'InvalidParameterValueException', 400],
    ['a durable execution', 'hello', { DurableExecutionName: 'n' }, 'InvalidParameterValueException', 400],
    ['a payload that is not JSON', 'hello', { Payload: '{"a":' }, 'InvalidRequestContentException', 400],
    ['a client context that is not JSON', 'hello', { ClientContext: 'eA==' }, 'InvalidRequestContentException', 400],
    [
      'a client context that is too long',
      'hello',
      { ClientContext: 'e'.repeat(3_584) },
      'InvalidParameterValueException',
      400,
    ],
    ['a payload over 6 MB', 'hello', { Payload: `"${'x'.repeat(6 * 1024 * 1024)}"` }, 'RequestTooLargeException', 413],
    [
      'an Event over 1 MB',
      'hello',
      { InvocationType: 'Event', Payload: `"${'x'.repeat(1024 * 1024)}"` },
      'RequestTooLargeException',
      413,
    ],
  ])('%s', async (_what, name, input, error, status) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    await expect(lab.invoke(name, input as object)).rejects.toMatchObject({
      name: error,
      $metadata: { httpStatusCode: status, requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) },
    });
    expect(lab.agent.calls).toHaveLength(0);
  });

  it.each([
    ['QueueFull', 'TooManyRequestsException', 429, 'ReservedFunctionConcurrentInvocationLimitExceeded'],
    ['NodeFull', 'TooManyRequestsException', 429, 'ConcurrentInvocationLimitExceeded'],
    ['PausedByOwner', 'ResourceConflictException', 409, undefined],
    ['StartFailed', 'ResourceNotReadyException', 502, undefined],
    ['CrashLoopBackOff', 'ResourceNotReadyException', 502, undefined],
  ])('an agent, for %s', async (reason, error, status, detail) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.refuse(reason, 'because'));
    await expect(lab.invoke('hello')).rejects.toMatchObject({
      name: error,
      ...(detail === undefined ? {} : { Reason: detail }),
      $metadata: { httpStatusCode: status },
    });
    expect(lab.agent.calls).toHaveLength(1);
  });

  it('agents whose workers have no place, after each of them, and the call then waits at one', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello-0', { functionName: 'hello' });
    await lab.addWorker('hello-1', { functionName: 'hello' });
    lab.agent.onInvoke((call) =>
      call.request.atOnce ? call.refuse('Busy', 'others have it') : call.answer(`"${call.request.waitedMs >= 0}"`),
    );
    expect(payloadOf(await lab.invoke('hello'))).toBe('"true"');
    const asked = lab.agent.calls.map(({ atOnce, worker }) => [worker.name, atOnce]);
    expect(new Set(asked.slice(0, 2).map(([name]) => name))).toEqual(new Set(['hello-0', 'hello-1']));
    expect(asked.slice(2).map(([, atOnce]) => atOnce)).toEqual([false]);
  });

  it('no agent at which a call waits for as long as it may, which is counted once', async () => {
    const limits = gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, maxQueueWait: 1 });
    const lab = await gatewayLab({ gateway: { limits } });
    await lab.addWorker('hello');
    const held = Promise.withResolvers<void>();
    lab.agent.onInvoke((call) => {
      void held.promise.then(() => call.answer('{}'));
    });
    const long = lab.invoke('hello');
    await waitFor('the long call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    lab.agent.onInvoke((call) => void call.withdrawn.then(() => call.refuse('CallerGone')));
    await expect(lab.invoke('hello')).rejects.toMatchObject({
      name: 'TooManyRequestsException',
      Reason: 'ReservedFunctionConcurrentInvocationLimitExceeded',
    });
    expect(lab.agent.calls).toHaveLength(2);
    held.resolve();
    await long;
  });

  it('agents that take their time to refuse, within the time that a call waits', async () => {
    const lab = await gatewayLab({ maxWaitMs: 1_000 });
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => void setTimeout(() => call.refuse('Unavailable', 'the runtime does not answer'), 800));
    const before = Date.now();
    await expect(lab.invoke('hello')).rejects.toMatchObject({ name: 'ServiceException' });
    expect(Date.now() - before).toBeLessThan(3_000);
  });

  it('an operation that there is not', async () => {
    const lab = await gatewayLab();
    const answer = await fetch(`${lab.url}/2015-03-31/methods/`);
    expect(answer.status).toBe(404);
    expect(answer.headers.get('x-amzn-errortype')).toBe('UnknownOperationException');
    const broken = await fetch(`${lab.url}/2015-03-31/functions/%ZZ/invocations`, { method: 'POST' });
    expect(broken.status).toBe(400);
    expect(broken.headers.get('x-amzn-errortype')).toBe('InvalidParameterValueException');
  });

  it('everything, with 503, before the API server has been heard', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.workers.setSynced(false);
    await expect(lab.invoke('hello')).rejects.toMatchObject({
      name: 'ServiceException',
      $metadata: { httpStatusCode: 503 },
    });
    expect(lab.gateway.health()).toMatchObject({ ok: false, reason: 'NotSynced' });
    lab.workers.setSynced(true);
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
    expect(lab.gateway.health()).toEqual({ ok: true });
  });
});
