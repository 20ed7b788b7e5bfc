import { describe, expect, it } from 'vitest';
import { createAccessLog } from '../../../../src/gateway/telemetry/access-log.ts';
import { gatewayLab } from '../../../support/gateway-lab.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';
import { waitFor } from '../../../support/wait-for.ts';

async function lab() {
  const { logger, lines } = recordingLogger();
  logger.level = 'error';
  const gateway = await gatewayLab({
    gateway: { observation: { listeners: [createAccessLog(logger)], tracing: undefined, maxFunctions: 100 } },
  });
  await gateway.addWorker('hello');
  return {
    ...gateway,
    call: (name: string, init: RequestInit = {}) =>
      fetch(`${gateway.url}/2015-03-31/functions/${name}/invocations`, { method: 'POST', ...init }),
    /** The lines, once there are so many. */
    lines: (count: number) =>
      waitFor(`${count} lines`, () => (lines.length >= count ? lines : undefined), { everyMs: 5 }),
  };
}

describe('the access log', () => {
  it('has one line for each request, with all that is to be known of it, whatever the level of the log', async () => {
    const { agent, call, lines } = await lab();
    agent.onInvoke((each) =>
      each.answer('{"a":1}', { timings: { queued: 12, wake: 10_250, run: 1_500, start: 'paused' } }),
    );
    const answer = await call('hello', {
      body: '{"secret":"sesame"}',
      headers: {
        'user-agent': 'a-client/1.0',
        authorization: 'Bearer sesame',
        traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
      },
    });
    const [line] = await lines(1);
    expect(line).toMatchObject({
      msg: 'request',
      log: 'access',
      level: 30,
      requestId: answer.headers.get('x-amzn-requestid'),
      operation: 'Invoke',
      function: 'hello',
      type: 'RequestResponse',
      status: 200,
      outcome: 'ok',
      start: 'resumed',
      wakeMs: 10.25,
      runMs: 1.5,
      requestBytes: 19,
      answerBytes: 7,
      authentication: 'Anonymous',
      address: '127.0.0.1',
      userAgent: 'a-client/1.0',
      trace: '4bf92f3577b34da6a3ce929d0e0e4736',
    });
    expect(line?.durationMs).toBeGreaterThan(0);
    expect(line?.queuedMs).toBeGreaterThan(0);
    expect(JSON.stringify(line)).not.toContain('sesame');
    expect(await lines(1)).toHaveLength(1);
  });

  it('tells of what was refused, and of what is no operation at all', async () => {
    const { call, lines, url } = await lab();
    await call('nobody');
    await call('hello', { headers: { 'x-amz-invocation-type': 'Sometimes' } });
    await fetch(`${url}/elsewhere`);
    const told = await lines(3);
    expect(told.map(({ operation, outcome, status }) => [operation, outcome, status])).toEqual([
      ['Invoke', 'ResourceNotFoundException', 404],
      ['Invoke', 'InvalidParameterValueException', 400],
      ['Unknown', 'UnknownOperationException', 404],
    ]);
    expect(told[0]).toMatchObject({ function: 'nobody' });
    expect(told[2]).not.toHaveProperty('function');
  });
});
