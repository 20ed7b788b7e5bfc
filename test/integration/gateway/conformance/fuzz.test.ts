import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ConformanceLab, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered } from '../../../support/lambda-caller.ts';
import { converse } from '../../../support/raw-http.ts';
import { conversation, expectFair } from '../http-fuzz.ts';

/** Conversations of a run, and how many are held at the same time. The volume is in `../fuzz.test.ts`. */
const RUNS = Number(process.env.ESB_FUZZ_RUNS ?? 240);
const WIDTH = 12;

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  await lab.apply('echo', { timeoutSeconds: 30 });
  await lab.apply('slow', { timeoutSeconds: 30 });
});

afterAll(() => lab?.close());

it('keeps what it is sent from harming agent, emulator or function', async () => {
  const port = Number(new URL(lab.gateway.url).port);
  for (let batch = 0; batch < RUNS / WIDTH; batch += 1) {
    await fc.assert(
      fc.asyncProperty(fc.array(conversation, { minLength: WIDTH, maxLength: WIDTH }), async (all) => {
        await Promise.all(all.map(async (one) => expectFair(one, await converse(port, one, { quietMs: 250 }))));
      }),
      { numRuns: 1, endOnFailure: true },
    );
  }
  for (const name of ['echo', 'slow']) {
    // The last calls may still be running.
    answered(await lab.callers.javaScript.call('Invoke', { FunctionName: name, Payload: '{}' }));
    const { status } = await lab.agentLab.worker(name);
    expect(status?.restartCount ?? 0, `restarts of ${name}`).toBe(0);
  }
  expect(lab.gateway.process.ended()).toBe(false);
  expect(lab.agentLab.agent.ended()).toBe(false);
  expect(lab.gateway.process.output()).not.toMatch(/fault of the gateway|uncaught|unhandled/i);
}, 300_000);
