import { beforeAll, describe, expect, it } from 'vitest';
import { startOtlpReceiver } from '../support/otlp-receiver.ts';
import { waitFor } from '../support/wait-for.ts';
import { type CounterAnswer, instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const callerSpan = '00f067aa0ba902b7';

describe('the trace of a call', () => {
  const esb = instance();
  let parts: Parts;

  beforeAll(() => {
    parts = new Parts(esb);
  });

  it('leads from the caller by gateway and agent into a real worker, and shows that it was woken', async () => {
    const receiver = await startOtlpReceiver();
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_BSP_SCHEDULE_DELAY: '100' };
    // The agent of node-1 lives in the network of the tests.
    const restore = [await parts.withEnvironment('gateway-1', env), await parts.withEnvironment('agent-node-1', env)];
    try {
      await parts.start('gateway-1');
      await parts.start('agent-node-1');
      await esb.apply('traced', { nodeName: 'node-1', desiredState: 'Paused' });
      await esb.ready('traced');
      await esb.waitUntilPaused('traced');
      const [gateway] = await parts.gateways();
      const answer = await fetch(`${gateway}/2015-03-31/functions/traced/invocations`, {
        method: 'POST',
        body: JSON.stringify({ sleep: 0.05 }),
        headers: { traceparent: `00-${traceId}-${callerSpan}-01` },
      });
      const told = (await answer.json()) as CounterAnswer;
      expect(answer.status).toBe(200);
      const outer = await receiver.span('esb-gateway', 'Invoke', traceId);
      const sent = await receiver.span('esb-gateway', 'esb.agent.v1.Agent/Invoke', traceId);
      const taken = await receiver.span('esb-agent', 'esb.agent.v1.Agent/Invoke', traceId);
      const wake = await receiver.span('esb-agent', 'wake', traceId);
      const run = await receiver.span('esb-agent', 'run', traceId);
      expect(outer).toMatchObject({ traceId, parentSpanId: callerSpan });
      expect(sent.parentSpanId).toBe(outer.spanId);
      expect(taken.parentSpanId).toBe(sent.spanId);
      expect(wake.parentSpanId).toBe(taken.spanId);
      expect(run.parentSpanId).toBe(taken.spanId);
      expect(run.endedAt - run.startedAt).toBeGreaterThan(50_000_000n);
      expect(run.startedAt).toBeGreaterThanOrEqual(wake.endedAt);
      expect(taken.attributes['esb.start']).toBe('paused');
      // The same request id everywhere.
      const requestId = answer.headers.get('x-amzn-requestid');
      expect(told.requestId).toBe(requestId);
      expect(outer.attributes['faas.invocation_id']).toBe(requestId);
      expect(taken.attributes['faas.invocation_id']).toBe(requestId);
      expect(answer.headers.get('x-amzn-trace-id')).toContain(`Parent=${outer.spanId}`);
    } finally {
      for (const undo of restore.toReversed()) {
        await undo();
      }
    }
    await waitFor('the worker to be called as before', async () => (await esb.invoke('traced')).status === 200);
  });
});
