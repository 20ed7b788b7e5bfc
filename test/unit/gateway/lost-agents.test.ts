import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { gatewayLab } from '../../support/gateway-lab.ts';

const calls = 300;
const callers = 20;

describe('calls while agents are killed and come back', () => {
  it('all end, and none is begun twice', { tags: ['P17', 'G1'], timeout: 60_000 }, async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'], maxWaitMs: 20_000 });
    const [one, two] = lab.agents;
    await lab.addWorker('a', { functionName: 'f', ...(one === undefined ? {} : { agent: one }) });
    await lab.addWorker('b', { functionName: 'f', ...(two === undefined ? {} : { agent: two }) });
    for (const agent of lab.agents) {
      agent.onInvoke((call) => {
        setTimeout(() => call.answer('"done"'), 3);
      });
    }
    let left = calls;
    const results = new Map<string, number>();
    const caller = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        const answer = await fetch(`${lab.url}/2015-03-31/functions/f/invocations`, { method: 'POST' });
        const text = await answer.text();
        const result = text === '"done"' ? 'done' : `${answer.status} ${answer.headers.get('x-esb-outcome')}`;
        results.set(result, (results.get(result) ?? 0) + 1);
      }
    };
    let over = false;
    const killer = async (): Promise<void> => {
      for (let turn = 0; !over; turn += 1) {
        const agent = lab.agents[turn % lab.agents.length];
        // Faults have a rest between them.
        await delay(40);
        await agent?.kill();
        // The length of the outage is what is tested.
        await delay(20);
        await agent?.revive();
        // Faults have a rest between them.
        await delay(40);
      }
    };
    const killing = killer();
    await Promise.all(Array.from({ length: callers }, caller));
    over = true;
    await killing;
    const begun = lab.agents.flatMap((agent) => agent.calls.map(({ requestId }) => requestId));
    expect(new Set(begun).size).toBe(begun.length);
    expect([...results.keys()].filter((result) => result !== 'done' && result !== '200 unknown')).toEqual([]);
    expect([...results.values()].reduce((sum, count) => sum + count, 0)).toBe(calls);
    // Every call that was begun and not answered was told as such.
    expect(begun.length).toBeGreaterThanOrEqual(results.get('done') ?? 0);
    expect(begun.length - (results.get('done') ?? 0)).toBeLessThanOrEqual(results.get('200 unknown') ?? 0);
  });
});
