import { describe, expect, it } from 'vitest';
import type { FakeCall } from '../../support/fake-agent.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const growing = functionFixture({ spec: { scaling: { mode: 'Auto', minWorkers: 0, maxWorkers: 2 } } });

/** A gateway of a function with two workers, one of which has a long call of another gateway. */
async function labWithForeignCall(mode: 'Auto' | 'Fixed') {
  const lab = await gatewayLab();
  lab.functions.put(mode === 'Auto' ? growing : functionFixture());
  lab.agent.put({ name: 'hello-0', functionName: 'hello', others: 1, othersPlaced: 1 });
  await lab.addWorker('hello-0', { functionName: 'hello' });
  await lab.addWorker('hello-1', { functionName: 'hello' });
  const waiting: FakeCall[] = [];
  let runs: FakeCall | undefined;
  const next = (): void => {
    runs ??= waiting.shift();
    const call = runs;
    if (call !== undefined) {
      setTimeout(() => {
        runs = undefined;
        call.answer('{}');
        next();
      }, 30);
    }
  };
  let takenBack = 0;
  lab.agent.onInvoke((call) => {
    const isFree = call.request.worker.name === 'hello-1';
    if (call.request.atOnce && (!isFree || runs !== undefined)) {
      call.refuse('Busy');
      return;
    }
    void call.withdrawn.then(() => {
      const at = waiting.indexOf(call);
      if (!isFree || at >= 0) {
        takenBack += 1;
        waiting.splice(at, at < 0 ? 0 : 1);
        call.refuse('CallerGone');
      }
    });
    if (isFree) {
      waiting.push(call);
      next();
    }
  });
  return { lab, takenBack: () => takenBack };
}

describe('a call beside a long one of another gateway', () => {
  it.each(['Auto', 'Fixed'] as const)('goes to the other worker as soon as that is free (mode %s)', async (mode) => {
    const { lab, takenBack } = await labWithForeignCall(mode);
    for (let round = 0; round < 8; round += 1) {
      const answers = await Promise.all([lab.invoke('hello'), lab.invoke('hello'), lab.invoke('hello')]);
      expect(answers.map(({ StatusCode }) => StatusCode)).toEqual([200, 200, 200]);
    }
    expect(takenBack(), 'calls that waited behind the long one').toBeGreaterThan(0);
  });
});

describe('a worker that is on another node by now', () => {
  it('is free for calls while one that was lost on the node before is asked for', async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'], maxWaitMs: 60_000 });
    await lab.addWorker('hello');
    lab.agent.onInvoke(() => undefined);
    const caller = new AbortController();
    const lost = lab.invoke('hello', {}, caller.signal).catch(() => 'gone');
    await waitFor('the call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    await lab.agent.kill();
    await lab.connected(1);
    const other = lab.agents[1];
    other?.put({ name: 'hello', epoch: 2 });
    other?.onInvoke((call) => call.answer('"there"'));
    const status = { assignment: { nodeName: 'node-2', epoch: 2 } };
    lab.workers.put(workerFixture({ name: 'hello', spec: { concurrency: { queueDepth: 10, reserved: 1 } }, status }));
    // The call that was lost waits for 60 seconds.
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
    expect(lab.gateway.view.worker('uid-of-hello')).toMatchObject({ outstanding: 0, moves: 2 });
    caller.abort();
    expect(await lost).toBe('gone');
    expect(lab.gateway.view.worker('uid-of-hello')).toMatchObject({ outstanding: 0 });
  });
});
