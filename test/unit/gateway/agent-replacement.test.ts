import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Invocation, InvocationResult } from '../../../src/agent/model/invocation.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { waitFor } from '../../support/wait-for.ts';

/** A fleet that takes a moment for each call, and refuses those that come once it stops. */
function slowFleet() {
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  const underWay = new Set<Promise<unknown>>();
  let stopping = false;
  fleet.onInvoke((invocation: Invocation): Promise<InvocationResult> => {
    if (stopping) {
      return Promise.resolve({ kind: 'Refused', reason: 'Unavailable', message: 'the agent is stopping' });
    }
    const run = delay(Math.random() * 8).then((): InvocationResult => {
      invocation.onHead({ status: 200, contentType: 'text/plain' });
      invocation.onChunk(invocation.payload);
      return {
        kind: 'Answered',
        stamp: '2026-11-01T00:00:00.000001Z',
        timings: { queued: 5, wake: 0, run: 900, start: 'running' },
      };
    });
    underWay.add(run);
    return run.finally(() => underWay.delete(run));
  });
  return {
    fleet,
    async drain() {
      stopping = true;
      await Promise.all(underWay);
    },
    goOn() {
      stopping = false;
    },
  };
}

it('no call is lost or unknown while an agent is replaced again and again', { timeout: 60_000 }, async () => {
  const { drain, fleet, goOn } = slowFleet();
  const lab = await agentServerLab({ fleet });
  let over = false;
  const failures: string[] = [];
  let answered = 0;
  const callers = Array.from({ length: 12 }, async (_, caller) => {
    for (let number = 0; !over; number += 1) {
      // Some are too large for the stream that small calls share.
      const body = JSON.stringify('x'.repeat(number % 5 === 0 ? 40_000 : 20));
      const answer = await lab.call(body);
      const text = await answer.text();
      if (answer.status !== 200 || text !== body) {
        failures.push(`${caller}/${number}: ${answer.status} ${text.slice(0, 200)}`);
      }
      answered += 1;
    }
  });
  for (let round = 0; round < 8; round += 1) {
    const sofar = answered;
    await waitFor('calls to be answered', () => answered > sofar + 20, { everyMs: 2 });
    // Faults and calls come at any moment.
    await delay(Math.random() * 20);
    await lab.stopAgent(drain);
    goOn();
    await lab.startAgent();
  }
  over = true;
  await Promise.all(callers);
  expect(failures).toEqual([]);
});
