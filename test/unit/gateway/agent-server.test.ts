import { describe, expect, it } from 'vitest';
import type { Invocation, InvocationResult } from '../../../src/agent/model/invocation.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { createCertificateAuthority } from '../../support/certificate-authority.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { waitFor } from '../../support/wait-for.ts';

const answered: InvocationResult = {
  kind: 'Answered',
  stamp: '2026-11-01T00:00:00.000001Z',
  timings: { queued: 5, wake: 0, run: 900, start: 'running' },
};

function answer(invocation: Invocation, body: Buffer): InvocationResult {
  invocation.onHead({ status: 200, contentType: 'text/plain' });
  invocation.onChunk(body);
  return answered;
}

/** A gateway and the agent's own server, with a fleet that does what it is told. */
async function lab() {
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  return { fleet, ...(await agentServerLab({ fleet })) };
}

describe("a gateway with the agent's own server", () => {
  it('brings a call of the largest size there and back', async () => {
    const { fleet, call } = await lab();
    fleet.onInvoke(async (invocation) => answer(invocation, invocation.payload));
    const body = JSON.stringify('x'.repeat(6 * 1024 * 1024 - 2));
    const response = await call(body);
    expect(response.status).toBe(200);
    expect(await response.text()).toBe(body);
  });

  it('brings many calls at the same time', async () => {
    const { fleet, call } = await lab();
    fleet.onInvoke(async (invocation) => answer(invocation, invocation.payload));
    const answers = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => (await call(String(index))).text()),
    );
    expect(answers).toEqual(Array.from({ length: 100 }, (_, index) => String(index)));
  });

  it('tells the agent of a caller who hangs up', async () => {
    const { fleet, call } = await lab();
    const begun = Promise.withResolvers<AbortSignal>();
    fleet.onInvoke((invocation) => {
      begun.resolve(invocation.signal);
      return new Promise(() => undefined);
    });
    const hangUp = new AbortController();
    const given = call('{}', {}, hangUp.signal);
    given.catch(() => undefined);
    const signal = await begun.promise;
    hangUp.abort();
    await waitFor('the agent to know', () => signal.aborted, { everyMs: 5 });
  });

  it('follows what the agent says of its workers', async () => {
    const { fleet, gateway } = await lab();
    const phase = () => gateway.view.worker('uid-of-hello')?.holding?.phase;
    expect(phase()).toBe('PHASE_RUNNING');
    fleet.show(viewFixture({ phase: 'Paused', epoch: 2 }));
    await waitFor('the change', () => phase() === 'PHASE_PAUSED', { everyMs: 5 });
    expect(gateway.view.worker('uid-of-hello')?.holding?.epoch).toBe(2);
    fleet.remove('uid-of-hello');
    await waitFor('the removal', () => phase() === undefined, { everyMs: 5 });
  });

  it('has the calls under way answered by an agent that is stopping', async () => {
    const { fleet, server, gateway, call } = await lab();
    const begun = Promise.withResolvers<() => void>();
    fleet.onInvoke((invocation) => {
      const done = Promise.withResolvers<InvocationResult>();
      begun.resolve(() => done.resolve(answer(invocation, Buffer.from('"late"'))));
      return done.promise;
    });
    const given = call('{}');
    const finish = await begun.promise;
    server.refuse();
    await waitFor('the Watch to end', () => gateway.view.connected.size === 0, { everyMs: 5 });
    finish();
    expect(await (await given).text()).toBe('"late"');
  });

  it('does not take the end of an agent for a refusal of its certificate', async () => {
    const { gateway, refusals, server } = await lab();
    server.refuse();
    await waitFor('the end of the Watch', () => gateway.view.connected.size === 0, { everyMs: 5 });
    await waitFor('several attempts to come back', async () => {
      const { text } = await gateway.metrics.page();
      return Number(/^esb_gateway_agent_connection_failures_total (\d+)$/m.exec(text)?.[1]) >= 3;
    });
    expect(refusals()).toBe(0);
  });

  it('notices that the agent does not accept its certificate any more', async () => {
    const { trust, gateway, refusals } = await lab();
    trust((await createCertificateAuthority()).certificate);
    await waitFor('the connection to be cut', () => gateway.view.connected.size === 0, { everyMs: 5 });
    await waitFor('refusals', () => refusals() >= 3, { everyMs: 20 });
  });
});
