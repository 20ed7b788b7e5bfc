import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Fleet } from '../../../src/agent/model/fleet.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { emulatorFleet } from '../../support/emulator-fleet.ts';
import { desiredFixture } from '../../support/fleet-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const names = ['hello-0', 'hello-1'];
const CALL_MS = 50;
const LOAD_MS = 10_000;
/** Calls in a second: 1.3 times as many as the workers take. */
const PER_SECOND = (1.3 * names.length * 1_000) / CALL_MS;

/** An agent whose workers answer after so many milliseconds as the payload says. */
async function fleetOfEmulators(): Promise<Fleet> {
  const fleet = await emulatorFleet((request, response) => {
    void text(request)
      .then((ms) => delay(Number(ms)))
      .then(() => response.end('{}'));
  });
  for (const name of names) {
    const { identity } = desiredFixture({ name });
    fleet.apply(desiredFixture({ name, identity: { ...identity, functionName: 'hello' } }));
  }
  await waitFor('the workers', () => fleet.views().every(({ phase }) => phase === 'Running'), { everyMs: 5 });
  return fleet;
}

function p99(waits: readonly number[]): number {
  return waits.toSorted((one, other) => one - other)[Math.floor(waits.length * 0.99)] ?? 0;
}

it('calls of two gateways, nine of ten at one, have their turn in the order in which they came', {
  timeout: 90_000,
}, async () => {
  const fleet = await fleetOfEmulators();
  const workers = names.map((name) =>
    workerFixture({
      name,
      spec: { functionName: 'hello', concurrency: { queueDepth: 1_000 } },
      status: { assignment: { nodeName: 'node-1', epoch: 1 } },
    }),
  );
  const lab = await agentServerLab({ fleet, workers });
  const gateways = [lab.url, await lab.addGateway()].map((url) => ({ url, asked: 0, waits: [] as number[] }));
  const ended: Promise<void>[] = [];
  let isOver = false;
  const began = performance.now();
  for (let calls = 0; performance.now() - began < LOAD_MS; calls += 1) {
    const gateway = gateways[calls % 10 === 0 ? 1 : 0];
    if (gateway !== undefined) {
      gateway.asked += 1;
      const since = performance.now();
      const url = `${gateway.url}/2015-03-31/functions/hello/invocations`;
      const call = async (): Promise<void> => {
        const response = await fetch(url, { method: 'POST', body: String(CALL_MS) });
        expect([response.status, await response.text()]).toEqual([200, '{}']);
        if (!isOver) {
          gateway.waits.push(performance.now() - since - CALL_MS);
        }
      };
      ended.push(call());
    }
    // The pace of the calls.
    await delay(Math.max(0, began + ((calls + 1) * 1_000) / PER_SECOND - performance.now()));
  }
  isOver = true;
  await Promise.all(ended);
  const asked = gateways.reduce((sum, each) => sum + each.asked, 0);
  const answered = gateways.reduce((sum, each) => sum + each.waits.length, 0);
  for (const each of gateways) {
    expect(each.waits.length / answered).toBeGreaterThan((0.8 * each.asked) / asked);
  }
  const slowest = gateways.map(({ waits }) => p99(waits));
  expect(Math.max(...slowest), slowest.join(' ms, ')).toBeLessThan(3 * Math.min(...slowest));
});
