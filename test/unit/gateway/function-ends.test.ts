import { describe, expect, it } from 'vitest';
import { gatewayLab, payloadOf } from '../../support/gateway-lab.ts';

const answered = { outcome: 'FUNCTION_OUTCOME_ANSWERED' } as const;

describe('a worker that tells how its function ended', () => {
  it('may return what looks like an error, and nothing', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    for (const text of ['{"errorType":"E","errorMessage":"returned"}', '']) {
      lab.agent.onInvoke((call) => call.answer(text, { end: answered }));
      const answer = await lab.invoke('hello');
      expect(answer.FunctionError).toBeUndefined();
      expect(payloadOf(answer)).toBe(text);
    }
  });

  it.each([
    ['text/html; charset=utf-8', 'text/html; charset=utf-8'],
    ['', 'application/json'],
    ['no type', 'application/json'],
    ['text/plain\r\nx-injected: 1', 'application/json'],
  ])('names the type of its answer: %j', async (contentType, told) => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer('x', { head: { contentType }, end: answered }));
    const answer = await fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, { method: 'POST' });
    expect(answer.headers.get('content-type')).toBe(told);
    expect(answer.headers.get('x-injected')).toBeNull();
  });

  it('has its errors marked and counted by their kind', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer('whatever', { end: { outcome: 'FUNCTION_OUTCOME_ERROR' } }));
    const raised = await lab.invoke('hello');
    expect(raised.FunctionError).toBe('Unhandled');
    expect(payloadOf(raised)).toBe('whatever');
    lab.agent.onInvoke((call) =>
      call.answer('{"half', {
        end: {
          outcome: 'FUNCTION_OUTCOME_EXITED',
          errorType: 'Runtime.ExitError',
          lateError: '{"errorType":"Runtime.ExitError"}',
        },
      }),
    );
    const exited = await lab.invoke('hello');
    expect(exited.FunctionError).toBe('Unhandled');
    expect(payloadOf(exited)).toBe('{"errorType":"Runtime.ExitError"}');
    const { text } = await lab.gateway.metrics.page();
    expect(text).toContain('esb_gateway_calls_total{function="hello",outcome="function_error",start="warm"} 1');
    expect(text).toContain('esb_gateway_calls_total{function="hello",outcome="exited",start="warm"} 1');
  });

  it('is tried again with an Event that its function failed', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.answer('', { end: { outcome: 'FUNCTION_OUTCOME_TIMEOUT' } }));
    await lab.invoke('hello', { InvocationType: 'Event' });
    await expect
      .poll(async () => (await lab.gateway.metrics.page()).text)
      .toContain('esb_gateway_event_tries_total{result="FunctionFailed"} 1');
  });
});
