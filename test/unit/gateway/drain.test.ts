import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { startSteadyClients } from '../../support/steady-clients.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a gateway that is told to end', () => {
  it('loses no call of clients who keep their connections until they are sent elsewhere, and ends right after them', {
    tags: ['G10'],
  }, async () => {
    const lab = await gatewayLab({ gateway: { lameDuckMs: 500 } });
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => {
      setTimeout(() => call.answer('{}'), Math.random() * 20);
    });
    const url = `${lab.url}/2015-03-31/functions/hello/invocations`;
    const clients = startSteadyClients({ url, clients: 8, thinkMs: 20 });
    await waitFor('the clients to be at work', () => clients.answered() > 40, { everyMs: 5 });
    const begun = performance.now();
    const stopped = lab.gateway.stop();
    expect(lab.gateway.health()).toMatchObject({ ok: false, reason: 'Stopping' });
    const before = clients.answered();
    await waitFor('calls after that', () => clients.answered() > before + 8, { everyMs: 5 });
    clients.leave();
    const { answered, lost, refused } = await clients.result();
    expect({ lost, refused }).toEqual({ lost: {}, refused: 0 });
    expect(lab.agent.calls).toHaveLength(answered);
    await stopped;
    // Not the ten times as long that it waits for those who never leave.
    expect(performance.now() - begun).toBeGreaterThan(500);
    expect(performance.now() - begun).toBeLessThan(4_500);
  });

  it('answers a long call before it ends, however long that takes', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const answered = Promise.withResolvers<void>();
    lab.agent.onInvoke((call) => void answered.promise.then(() => call.answer('"late"')));
    const call = fetch(`${lab.url}/2015-03-31/functions/hello/invocations`, { method: 'POST' });
    await waitFor('the call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    let ended = false;
    const stopped = lab.gateway.stop().then(() => {
      ended = true;
    });
    // Nothing may happen meanwhile.
    await delay(300);
    expect(ended).toBe(false);
    answered.resolve();
    const answer = await call;
    expect(await answer.text()).toBe('"late"');
    expect(answer.headers.get('connection')).toBe('close');
    await stopped;
  });
});
