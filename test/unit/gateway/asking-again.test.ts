import { describe, expect, it } from 'vitest';
import type { SeenRecover } from '../../support/fake-agent.ts';
import { type GatewayLab, gatewayLab, payloadOf } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const answered = { outcome: 'FUNCTION_OUTCOME_ANSWERED' } as const;

/** A gateway whose agent dies in each call, once it has sent a part of the answer, and comes back. */
async function dyingAgent(worker: { readonly runtimeInterface?: 'Emulator' } = {}): Promise<GatewayLab> {
  const lab = await gatewayLab({ maxWaitMs: 3_000 });
  await lab.addWorker('hello', worker);
  lab.agent.onInvoke((call) => {
    call.begin('ha');
    setTimeout(() => {
      void lab.agent.kill().then(() => lab.agent.revive());
    }, 20);
  });
  return lab;
}

describe('a call whose agent ended in the middle of it', () => {
  it('has the rest of the answer that the next run of the agent knows, once', async () => {
    const lab = await dyingAgent();
    const asked: SeenRecover[] = [];
    lab.agent.onRecover((call, request) => {
      asked.push(request);
      call.answer('lf and half', { end: answered });
    });
    const answer = await lab.invoke('hello');
    expect(answer.FunctionError).toBeUndefined();
    expect(payloadOf(answer)).toBe('half and half');
    const [requestId] = lab.agent.calls.map((call) => call.requestId);
    // The run that the call was sent to, and not the one that is asked.
    expect(asked).toEqual([expect.objectContaining({ requestId, run: 'run-1', from: 2, sentMs: expect.any(Number) })]);
    expect(asked[0]?.sentMs).toBeGreaterThanOrEqual(20);
    expect((await lab.gateway.metrics.page()).text).toContain(
      'esb_gateway_calls_asked_again_total{result="recovered"} 1',
    );
  });

  it('is asked for again where that run dies as well, or is still looking', async () => {
    const lab = await dyingAgent();
    let asked = 0;
    lab.agent.onRecover((call) => {
      asked += 1;
      if (asked === 1) {
        void lab.agent.kill().then(() => lab.agent.revive());
      } else if (asked === 2) {
        call.fail(14, 'Unavailable');
      } else {
        call.answer('lt', { end: answered });
      }
    });
    expect(payloadOf(await lab.invoke('hello'))).toBe('halt');
    expect(asked).toBe(3);
    expect(lab.agent.calls).toHaveLength(1);
  });

  it.each([
    ['the answer is not kept', (lab: GatewayLab) => lab.agent.onRecover((call) => call.unknown('AgentStopped'))],
    ['the agent knows no such request', (lab: GatewayLab) => lab.agent.onRecover((call) => call.fail(12))],
    ['the agent refuses to answer', (lab: GatewayLab) => lab.agent.onRecover((call) => call.fail(5, 'NotFound'))],
  ])('is unknown where %s, and is not called again', async (_, prepare) => {
    const lab = await dyingAgent();
    prepare(lab);
    const before = Date.now();
    const answer = await lab.invoke('hello');
    expect(payloadOf(answer)).toContain('The outcome is unknown');
    expect(Date.now() - before).toBeLessThan(2_500);
    expect(lab.agent.calls).toHaveLength(1);
  });

  it('is asked for with the end of its log, where its caller wishes that', async () => {
    const lab = await dyingAgent();
    const wishes: boolean[] = [];
    lab.agent.onRecover((call, { tailLog }) => {
      wishes.push(tailLog);
      call.answer('lf', { end: answered, logTail: 'END' });
    });
    const { LogResult = '' } = await lab.invoke('hello', { LogType: 'Tail' });
    expect(wishes).toEqual([true]);
    expect(Buffer.from(LogResult, 'base64').toString()).toBe('END');
  });

  it('is waited for no more once its caller hangs up', async () => {
    const lab = await gatewayLab({ maxWaitMs: 60_000 });
    await lab.addWorker('hello');
    const hangUp = new AbortController();
    lab.agent.onInvoke(() => void lab.agent.kill().then(() => hangUp.abort()));
    await expect(lab.invoke('hello', {}, hangUp.signal)).rejects.toThrow();
    await waitFor('the end of the wait', async () =>
      (await lab.gateway.metrics.page()).text.includes('esb_gateway_calls_asked_again_total{result="unknown"} 1'),
    );
    let asked = 0;
    lab.agent.onRecover(() => {
      asked += 1;
    });
    await lab.agent.revive();
    await lab.connected();
    await waitFor('the next call', async () => {
      lab.agent.onInvoke((call) => call.answer('"next"', { end: answered }));
      return payloadOf(await lab.invoke('hello')) === '"next"';
    });
    expect(asked).toBe(0);
  });

  it('is given up at the agent where its caller hangs up while it is asked for', async () => {
    const lab = await dyingAgent();
    const hangUp = new AbortController();
    const gone = Promise.withResolvers<void>();
    lab.agent.onRecover((call) => {
      void call.cancelled.then(() => gone.resolve());
      hangUp.abort();
    });
    await expect(lab.invoke('hello', {}, hangUp.signal)).rejects.toThrow();
    await gone.promise;
  });

  it('is unknown where the agent does not come back', async () => {
    const lab = await gatewayLab({ maxWaitMs: 300 });
    await lab.addWorker('hello');
    lab.agent.onInvoke(() => void lab.agent.kill());
    expect(payloadOf(await lab.invoke('hello'))).toContain('The outcome is unknown');
  });

  it('is unknown at once where the worker has no init', async () => {
    const lab = await dyingAgent({ runtimeInterface: 'Emulator' });
    let asked = 0;
    lab.agent.onRecover(() => {
      asked += 1;
    });
    expect(payloadOf(await lab.invoke('hello'))).toContain('The outcome is unknown');
    expect(asked).toBe(0);
  });

  it('is called again where the worker said that it never began', async () => {
    const lab = await dyingAgent();
    lab.agent.onRecover((call) => {
      lab.agent.onInvoke((next) => next.answer('"again"', { end: answered }));
      call.refuse('Unavailable');
    });
    expect(payloadOf(await lab.invoke('hello'))).toBe('"again"');
    expect(lab.agent.calls).toHaveLength(2);
  });
});

describe('a call whose agent stops in order', () => {
  it('is asked for at its next run', async () => {
    const lab = await gatewayLab({ maxWaitMs: 3_000 });
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.unknown('AgentStopped'));
    lab.agent.onRecover((call) => call.answer('"late"', { end: answered }));
    expect(payloadOf(await lab.invoke('hello'))).toBe('"late"');
  });
});
