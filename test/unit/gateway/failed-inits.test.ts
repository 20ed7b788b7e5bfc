import { describe, expect, it } from 'vitest';
import { type GatewayLab, gatewayLab, payloadOf } from '../../support/gateway-lab.ts';

const broken = { errorType: 'Function.Broken', message: 'no wand' };
const exited = { errorType: 'Runtime.ExitError', message: 'Runtime exited with error: exit status 3' };
const MESSAGE = 'Function.Broken: no wand';

async function labOf(...names: readonly string[]): Promise<GatewayLab> {
  const lab = await gatewayLab();
  for (const name of names) {
    await lab.addWorker(name, { functionName: 'hello' });
  }
  return lab;
}

describe('a call of a function that cannot be initialized', () => {
  it.each(['StartFailed', 'CrashLoopBackOff'])('has the error that its runtime reported, for %s', async (reason) => {
    const lab = await labOf('hello');
    const body = '{"errorMessage": "no wand", "errorType": "Broken", "stackTrace": ["line 1"]}';
    lab.agent.onInvoke((call) => call.refuse(reason, MESSAGE, { ...broken, body }));
    const answer = await lab.invoke('hello');
    expect(answer).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled', ExecutedVersion: '$LATEST' });
    expect(payloadOf(answer)).toBe(body);
    const { text } = await lab.gateway.metrics.page();
    expect(text).toContain('esb_gateway_calls_total{function="hello",outcome="init_failed",start=""} 1');
  });

  it('has the words of Lambda where its runtime reported nothing', async () => {
    const lab = await labOf('hello');
    lab.agent.onInvoke((call) => call.refuse('StartFailed', MESSAGE, exited));
    const answer = await lab.invoke('hello');
    expect(answer.FunctionError).toBe('Unhandled');
    expect(JSON.parse(payloadOf(answer))).toEqual({
      errorType: exited.errorType,
      errorMessage: `RequestId: ${answer.$metadata.requestId} Error: ${exited.message}`,
    });
  });

  it('has those words where an agent claims that its runtime reported more than one can', async () => {
    const lab = await labOf('hello');
    lab.agent.onInvoke((call) => call.refuse('StartFailed', MESSAGE, { ...exited, body: 'x'.repeat(65_537) }));
    expect(payloadOf(await lab.invoke('hello'))).toContain(exited.message);
  });

  it('that is an Event counts as a try that the function failed', async () => {
    const lab = await labOf('hello');
    lab.agent.onInvoke((call) => call.refuse('StartFailed', MESSAGE, exited));
    await lab.invoke('hello', { InvocationType: 'Event' });
    await expect
      .poll(async () => (await lab.gateway.metrics.page()).text)
      .toContain('esb_gateway_event_tries_total{result="FunctionFailed"} 1');
  });

  it('goes to a worker that is initialized, where there is one', async () => {
    const lab = await labOf('a', 'b');
    lab.agent.onInvoke((call) =>
      call.request.worker.name === 'a' ? call.refuse('StartFailed', MESSAGE, exited) : call.answer('"b"'),
    );
    for (let call = 0; call < 3; call += 1) {
      expect(payloadOf(await lab.invoke('hello'))).toBe('"b"');
    }
  });

  it('is told of another worker that is full, which passes sooner', async () => {
    const lab = await labOf('a', 'b');
    lab.agent.onInvoke((call) =>
      call.request.worker.name === 'a' ? call.refuse('StartFailed', MESSAGE, exited) : call.refuse('QueueFull'),
    );
    await expect(lab.invoke('hello')).rejects.toMatchObject({ name: 'TooManyRequestsException' });
  });

  it('has an error of a full node as such, whatever an agent says beside it', async () => {
    const lab = await labOf('hello');
    lab.agent.onInvoke((call) => call.refuse('NodeFull', 'no room', exited));
    await expect(lab.invoke('hello')).rejects.toMatchObject({ name: 'TooManyRequestsException' });
  });
});
