import { describe, expect, it } from 'vitest';
import type { Invocation, InvocationResult } from '../../../src/agent/model/invocation.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { waitFor } from '../../support/wait-for.ts';

const answered: InvocationResult = {
  kind: 'Answered',
  stamp: '2026-11-01T00:00:00.000001Z',
  timings: { queued: 5, wake: 0, run: 900, start: 'running' },
  end: { outcome: 'Answered' },
};

/** Answers a call with its payload, and notes when the gateway says that it has the whole. */
function answering(arrived: string[]) {
  return async ({ arrival, onChunk, onHead, payload }: Invocation): Promise<InvocationResult> => {
    onHead({ status: 200, contentType: 'application/json' });
    onChunk(payload);
    arrival?.().onWhole(() => arrived.push(payload.toString().slice(0, 3)));
    return answered;
  };
}

describe('a gateway that has a whole answer', () => {
  it.each([
    ['a short call', '"a"'],
    ['a call with a large event', `"a${'x'.repeat(40_000)}"`],
  ])('says so to the agent after %s', async (_, body) => {
    const fleet = fakeFleet();
    fleet.show(viewFixture());
    const lab = await agentServerLab({ fleet });
    const arrived: string[] = [];
    fleet.onInvoke(answering(arrived));
    expect(await (await lab.call(body)).text()).toBe(body);
    await waitFor('the word', () => arrived.length === 1, { timeoutMs: 2_000, everyMs: 5 });
  });

  it('says so with the next call, where that comes soon', async () => {
    const fleet = fakeFleet();
    fleet.show(viewFixture());
    const lab = await agentServerLab({ fleet });
    const arrived: string[] = [];
    const seen: number[] = [];
    fleet.onInvoke(async (invocation) => {
      seen.push(arrived.length);
      return await answering(arrived)(invocation);
    });
    for (let call = 0; call < 4; call += 1) {
      await (await lab.call(`"${call}"`)).text();
    }
    expect(seen).toEqual([0, 1, 2, 3]);
  });

  it('says how much of a large one with a large event has arrived, so that its worker keeps the rest', async () => {
    const fleet = fakeFleet();
    fleet.show(viewFixture());
    const lab = await agentServerLab({ fleet });
    const there: number[] = [];
    fleet.onInvoke(async ({ arrival, onChunk, onHead }) => {
      onHead({ status: 200, contentType: 'application/json' });
      onChunk(Buffer.alloc(40_000, ' '));
      await arrival?.().next();
      there.push(arrival?.().bytes ?? 0);
      return answered;
    });
    await (await lab.call(`"${'x'.repeat(40_000)}"`)).text();
    expect(there).toEqual([40_000]);
  });

  it('says so of an answer that it asked for again', async () => {
    const fleet = fakeFleet();
    fleet.show(viewFixture());
    const lab = await agentServerLab({ fleet });
    const sent = Promise.withResolvers<void>();
    fleet.onInvoke(async () => {
      sent.resolve();
      return await new Promise(() => undefined);
    });
    const arrived: string[] = [];
    fleet.onRecover(async ({ arrival, onChunk, onHead }) => {
      onHead({ status: 200, contentType: 'application/json' });
      onChunk(Buffer.from('"late"'));
      arrival?.().onWhole(() => arrived.push('late'));
      return answered;
    });
    const told = lab.call('"a"');
    await sent.promise;
    await lab.server.close();
    await lab.startAgent();
    expect(await (await told).text()).toBe('"late"');
    await waitFor('the word', () => arrived.length === 1, { timeoutMs: 2_000, everyMs: 5 });
  });
});
