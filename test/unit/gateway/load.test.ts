import { describe, expect, it } from 'vitest';
import { functionFixture } from '../../support/function-fixture.ts';
import { gatewayLab, payloadOf } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const growing = functionFixture({ spec: { scaling: { mode: 'Auto', minWorkers: 0 } } });

/** A gateway of a function with two workers: the first has a call until `held` is resolved, the second is free. */
async function labWithBusyWorker() {
  const lab = await gatewayLab();
  const held = Promise.withResolvers<void>();
  lab.functions.put(growing);
  await lab.addWorker('hello-latest-0', { functionName: 'hello' });
  lab.agent.onInvoke((call) => {
    void held.promise.then(() => call.answer('"long"'));
  });
  const long = lab.invoke('hello');
  await waitFor('the long call', () => lab.agent.calls.length === 1, { everyMs: 5 });
  await lab.addWorker('hello-latest-1', { functionName: 'hello' });
  return { held, lab, long };
}

/** A gateway of a function with two workers on one node, one of which has a call, and one without a share on another. */
async function labWithShares() {
  const lab = await gatewayLab({ nodes: ['node-1', 'node-2'] });
  lab.functions.put(growing);
  for (const [name, nodeName, share] of [
    ['hello-latest-0', 'node-1', 1],
    ['hello-latest-1', 'node-1', 1],
    ['hello-latest-2', 'node-2', 0],
  ] as const) {
    lab.agents.find((agent) => agent.nodeName === nodeName)?.put({ name, functionName: 'hello' });
    const spec = { functionName: 'hello', concurrency: { queueDepth: 100, reserved: 2 } };
    lab.workers.put(workerFixture({ name, spec, status: { assignment: { nodeName, epoch: 1, share } } }));
    await waitFor(name, () => lab.gateway.view.worker(`uid-of-${name}`)?.holding !== undefined, { everyMs: 5 });
  }
  lab.agent.onInvoke(() => undefined);
  const long = lab.invoke('hello');
  await waitFor('the long call', () => lab.agent.calls.length === 1, { everyMs: 5 });
  return { lab, long };
}

describe('a gateway with a function that grows with its calls', () => {
  it('has a call wait for the worker that comes next, and not behind a long one', async () => {
    const lab = await gatewayLab();
    const held = Promise.withResolvers<void>();
    lab.functions.put(growing);
    await lab.addWorker('hello-latest-0', { functionName: 'hello' });
    lab.agent.onInvoke((call) => {
      const { name } = call.request.worker ?? {};
      const begun = name === 'hello-latest-0' ? held.promise : Promise.resolve();
      void begun.then(() => call.answer(JSON.stringify(name)));
    });
    const long = lab.invoke('hello');
    const short = lab.invoke('hello');
    await waitFor('two calls', () => lab.gateway.loadMeter.all()[0]?.calls === 2, { everyMs: 5 });
    await lab.addWorker('hello-latest-1', { functionName: 'hello' });
    expect(payloadOf(await short)).toBe('"hello-latest-1"');
    expect(lab.gateway.loadMeter.all()).toEqual([{ functionName: 'hello', version: undefined, calls: 1, peak: 2 }]);
    held.resolve();
    expect(payloadOf(await long)).toBe('"hello-latest-0"');
    await waitFor('the end of the call', () => lab.gateway.loadMeter.all()[0]?.calls === 0, { everyMs: 5 });
    expect(lab.gateway.loadMeter.all()).toEqual([]);
  });

  it('has a call go to a worker that is free before another one has started', async () => {
    const lab = await gatewayLab();
    const held = Promise.withResolvers<void>();
    lab.functions.put(growing);
    await lab.addWorker('hello-latest-0', { functionName: 'hello' });
    lab.agent.onInvoke((call) => {
      const begun = call.request.worker.name === 'hello-latest-0' ? held.promise : new Promise(() => undefined);
      void begun.then(() => call.answer('{}'));
    });
    const first = lab.invoke('hello');
    await waitFor('the first call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    await lab.addWorker('hello-latest-1', { functionName: 'hello', phase: 'PHASE_CREATING' });
    const second = lab.invoke('hello');
    await waitFor('both', () => lab.gateway.loadMeter.all()[0]?.calls === 2, { everyMs: 5 });
    held.resolve();
    await Promise.all([first, second]);
    expect(lab.agent.calls.map(({ worker }) => worker.name)).toEqual(['hello-latest-0', 'hello-latest-0']);
  });

  it('asks a worker again that refused for a moment, though another one is busy', async () => {
    const { held, lab, long } = await labWithBusyWorker();
    let refusals = 0;
    lab.agent.onInvoke((call) => {
      if (call.request.worker.name === 'hello-latest-0') {
        void call.withdrawn.then(() => call.refuse('CallerGone'));
        return;
      }
      refusals += 1;
      if (refusals === 1) {
        call.refuse('Unavailable', 'the agent is stopping');
      } else {
        call.answer(JSON.stringify(call.request.worker.name));
      }
    });
    expect(payloadOf(await lab.invoke('hello'))).toBe('"hello-latest-1"');
    held.resolve();
    expect(payloadOf(await long)).toBe('"long"');
  });

  it('asks a worker that refuses a few times in a second, however often a busy one changes', async () => {
    const { held, lab, long } = await labWithBusyWorker();
    lab.agent.onInvoke((call) => {
      if (call.request.worker.name === 'hello-latest-0') {
        void call.withdrawn.then(() => call.refuse('CallerGone'));
      } else {
        call.refuse('NodeFull', 'no room');
      }
    });
    const waiting = lab.invoke('hello');
    await waitFor('a refusal', () => lab.agent.calls.length >= 2, { everyMs: 5 });
    for (let change = 0; change < 50; change += 1) {
      lab.agent.put({ name: 'hello-latest-0', functionName: 'hello', inFlight: 1 + (change % 2) });
      // The pace of the calls.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(lab.agent.calls.length).toBeLessThan(10);
    lab.agent.onInvoke((call) => call.answer('"short"'));
    held.resolve();
    expect(payloadOf(await waiting)).toBe('"short"');
    await long;
  });

  it('asks one of another version no more often, where all of that refuse', async () => {
    const lab = await gatewayLab();
    const aliases = [
      { name: 'live', version: 1 },
      { name: 'next', version: 2 },
    ];
    lab.functions.put(functionFixture({ spec: { ...growing.spec, aliases }, status: { aliases } }));
    await lab.addWorker('hello-1-0', { functionName: 'hello', version: 1 });
    await lab.addWorker('hello-2-0', { functionName: 'hello', version: 2 });
    lab.agent.onInvoke((call) => call.refuse('Unavailable', 'not now'));
    const waiting = lab.invoke('hello', { Qualifier: 'next' });
    await waitFor('a refusal', () => lab.agent.calls.length > 0, { everyMs: 5 });
    for (let change = 0; change < 50; change += 1) {
      lab.agent.put({ name: 'hello-1-0', functionName: 'hello', inFlight: change % 2 });
      // The pace of the calls.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(lab.agent.calls.length).toBeLessThan(10);
    lab.agent.onInvoke((call) => call.answer('"short"'));
    expect(payloadOf(await waiting)).toBe('"short"');
  });

  it('leaves no call of one version waiting behind those of another', async () => {
    const lab = await gatewayLab();
    const held = Promise.withResolvers<void>();
    const aliases = [
      { name: 'live', version: 1 },
      { name: 'next', version: 2 },
    ];
    lab.functions.put(functionFixture({ spec: { ...growing.spec, aliases }, status: { aliases } }));
    await lab.addWorker('hello-1-0', { functionName: 'hello', version: 1 });
    await lab.addWorker('hello-2-0', { functionName: 'hello', version: 2 });
    lab.agent.onInvoke((call) => {
      const begun = call.request.worker.name === 'hello-1-0' ? held.promise : Promise.resolve();
      void begun.then(() => call.answer('{}'));
    });
    const long = Array.from({ length: 4 }, () => lab.invoke('hello', { Qualifier: 'live' }));
    await waitFor('the long calls', () => lab.gateway.loadMeter.all()[0]?.calls === 4, { everyMs: 5 });
    expect((await lab.invoke('hello', { Qualifier: 'next' })).ExecutedVersion).toBe('2');
    held.resolve();
    await Promise.all(long);
  });

  it.each([
    ['leaves', true],
    ['hangs', false],
  ])('has calls that wait go over with their alias to the next version, though the former %s', async (_, leaves) => {
    const lab = await gatewayLab();
    const held = Promise.withResolvers<void>();
    const ofAlias = (version: number) => {
      const aliases = [{ name: 'live', version }];
      return functionFixture({ spec: { ...growing.spec, aliases }, status: { aliases } });
    };
    lab.functions.put(ofAlias(1));
    await lab.addWorker('hello-1-0', { functionName: 'hello', version: 1 });
    await lab.addWorker('hello-2-0', { functionName: 'hello', version: 2 });
    lab.agent.onInvoke((call) => {
      const begun = call.request.worker.name === 'hello-1-0' ? held.promise : Promise.resolve();
      void begun.then(() => call.answer('{}'));
    });
    const long = lab.invoke('hello', { Qualifier: 'live' });
    await waitFor('the long call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    const others = Array.from({ length: 20 }, () => lab.invoke('hello', { Qualifier: 'live' }));
    await waitFor('the others', () => lab.gateway.loadMeter.all()[0]?.calls === 21, { everyMs: 5 });
    lab.functions.put(ofAlias(2));
    if (leaves) {
      lab.workers.remove({ namespace: 'default', name: 'hello-1-0' });
    }
    const versions = (await Promise.all(others)).map(({ ExecutedVersion }) => ExecutedVersion);
    expect(new Set(versions)).toEqual(new Set(['2']));
    // The load that is left is the long call.
    const left = lab.gateway.loadMeter.all().filter(({ calls }) => calls > 0);
    expect(left).toMatchObject([{ version: 1, calls: 1 }]);
    held.resolve();
    expect((await long).ExecutedVersion).toBe('1');
  });

  it('answers no call by what a worker of the former version has said', async () => {
    const lab = await gatewayLab();
    const ofAlias = (version: number) => {
      const aliases = [{ name: 'live', version }];
      return functionFixture({ spec: { ...growing.spec, aliases }, status: { aliases } });
    };
    const held = Promise.withResolvers<void>();
    lab.functions.put(ofAlias(1));
    await lab.addWorker('hello-1-0', { functionName: 'hello', version: 1 });
    await lab.addWorker('hello-1-1', { functionName: 'hello', version: 1 });
    lab.agent.onInvoke((call) => {
      void held.promise.then(() => call.answer('{}'));
    });
    const long = lab.invoke('hello', { Qualifier: 'live' });
    await waitFor('the long call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    lab.agent.onInvoke((call) => {
      if (call.request.worker.name === 'hello-2-0') {
        call.answer('{}');
      } else if (call.request.worker.name === lab.agent.calls[0]?.worker.name) {
        void call.withdrawn.then(() => call.refuse('CallerGone'));
      } else {
        call.refuse('StartFailed', 'no such entry point');
      }
    });
    const other = lab.invoke('hello', { Qualifier: 'live' });
    await waitFor('a refusal', () => lab.agent.calls.length >= 2, { everyMs: 5 });
    lab.functions.put(ofAlias(2));
    await lab.addWorker('hello-2-0', { functionName: 'hello', version: 2 });
    expect((await other).ExecutedVersion).toBe('2');
    held.resolve();
    expect((await long).ExecutedVersion).toBe('1');
  });

  it('has a call go to a worker that is free while another one gets its image for the call before', async () => {
    const lab = await gatewayLab();
    const held = Promise.withResolvers<void>();
    lab.functions.put(growing);
    await lab.addWorker('hello-latest-0', { functionName: 'hello', phase: 'PHASE_ABSENT' });
    lab.agent.onInvoke((call) => {
      const begun = call.request.worker.name === 'hello-latest-0' ? held.promise : Promise.resolve();
      void begun.then(() => call.answer('{}'));
    });
    const first = lab.invoke('hello');
    await waitFor('the first call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    lab.agent.put({ name: 'hello-latest-0', functionName: 'hello', phase: 'PHASE_PULLING', inFlight: 1 });
    await lab.addWorker('hello-latest-1', { functionName: 'hello' });
    await lab.invoke('hello');
    expect(lab.agent.calls.map(({ worker }) => worker.name)).toEqual(['hello-latest-0', 'hello-latest-1']);
    held.resolve();
    await first;
  });

  it.each(['Auto', 'Fixed'] as const)(
    'has calls go to workers that are free, though one is gone with a call that goes on (mode %s)',
    async (mode) => {
      const lab = await gatewayLab();
      const held = Promise.withResolvers<void>();
      const names = ['hello-latest-0', 'hello-latest-1', 'hello-latest-2'];
      lab.functions.put(mode === 'Auto' ? growing : functionFixture());
      for (const name of names) {
        await lab.addWorker(name, { functionName: 'hello' });
      }
      lab.agent.onInvoke((call) => {
        void held.promise.then(() => call.answer('{}'));
      });
      const first = lab.invoke('hello');
      await waitFor('the first call', () => lab.agent.calls.length === 1, { everyMs: 5 });
      lab.workers.remove({ namespace: 'default', name: lab.agent.calls[0]?.worker.name ?? '' });
      const others = [lab.invoke('hello'), lab.invoke('hello')];
      await waitFor('the others', () => lab.agent.calls.length === 3, { everyMs: 5 });
      expect(new Set(lab.agent.calls.map(({ worker }) => worker.name))).toEqual(new Set(names));
      held.resolve();
      await Promise.all([first, ...others]);
    },
  );

  it.each([
    ['no agent', labWithBusyWorker, 0],
    ['no agent of a worker with a share', labWithShares, 1],
  ])(
    'has calls wait beside the queue while %s can be reached, though one call goes on there',
    {
      timeout: 30_000,
    },
    async (_, prepare, reached) => {
      const { lab, long } = await prepare();
      await lab.agent.kill();
      await lab.connected(reached);
      // The SDK makes 50 calls at once.
      const url = `${lab.url}/2015-03-31/functions/hello/invocations`;
      const beyondItsDepth = Array.from({ length: 103 }, () => fetch(url, { method: 'POST' }));
      await waitFor('all of them', () => lab.gateway.loadMeter.all()[0]?.calls === 104, { everyMs: 5 });
      lab.agent.onInvoke((call) => {
        call.answer('{}');
      });
      await lab.agent.revive();
      const answers = await Promise.all(beyondItsDepth);
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      await long.catch(() => undefined);
    },
  );

  it('counts calls for the version that runs them', async () => {
    const aliases = [{ name: 'live', version: 1, routing: [{ version: 2, permille: 500 }] }];
    let drawn = 0;
    const lab = await gatewayLab({ gateway: { random: () => (drawn++ % 2 === 0 ? 0.1 : 0.9) } });
    const held = Promise.withResolvers<void>();
    lab.functions.put(functionFixture({ spec: { ...growing.spec, aliases }, status: { aliases } }));
    await lab.addWorker('hello-1-0', { functionName: 'hello', version: 1 });
    await lab.addWorker('hello-2-0', { functionName: 'hello', version: 2 });
    lab.agent.onInvoke((call) => {
      void held.promise.then(() => call.answer('{}'));
    });
    const calls = [0, 1].map(() => lab.invoke('hello', { Qualifier: 'live' }));
    await waitFor('both', () => lab.gateway.loadMeter.all().reduce((sum, each) => sum + each.calls, 0) === 2, {
      everyMs: 5,
    });
    const versions = lab.gateway.loadMeter.all().map(({ version }) => version);
    expect(new Set(versions)).toEqual(new Set([1, 2]));
    held.resolve();
    const ran = await Promise.all(calls);
    expect(new Set(ran.map(({ ExecutedVersion }) => ExecutedVersion))).toEqual(new Set(['1', '2']));
  });
});
