import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { FakeCall } from '../../support/fake-agent.ts';
import { gatewayLab, payloadOf } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

describe('a function with several workers', () => {
  it('is called where a worker is running and idle, though others are paused', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('a', { functionName: 'f', phase: 'PHASE_PAUSED' });
    await lab.addWorker('b', { functionName: 'f', phase: 'PHASE_RUNNING' });
    await lab.addWorker('c', { functionName: 'f', phase: 'PHASE_ABSENT' });
    for (let call = 0; call < 4; call += 1) {
      await lab.invoke('f');
    }
    expect(new Set(lab.agent.calls.map(({ worker }) => worker.name))).toEqual(new Set(['b']));
  });

  it('has no more calls at its workers than they take, though all of them are others than before', async () => {
    const lab = await gatewayLab();
    const held: FakeCall[] = [];
    lab.agent.onInvoke((call) => {
      held.push(call);
    });
    await lab.addWorker('a', { functionName: 'f' });
    await lab.addWorker('b', { functionName: 'f' });
    const calls = Array.from({ length: 10 }, () => lab.invoke('f'));
    await waitFor('two calls', () => held.length === 2, { everyMs: 5 });
    await waitFor('the others', async () =>
      (await lab.gateway.metrics.page()).text.includes('esb_gateway_calls_waiting 8'),
    );
    for (const name of ['c', 'd']) {
      lab.agent.put({ name, functionName: 'f' });
    }
    // No word tells when the other side has come so far.
    await delay(50);
    for (const name of ['a', 'b']) {
      lab.workers.remove({ namespace: 'default', name });
    }
    for (const name of ['c', 'd']) {
      const status = { assignment: { nodeName: 'node-1', epoch: 1 } };
      lab.workers.put(workerFixture({ name, spec: { functionName: 'f' }, status }));
    }
    await waitFor('calls at the new workers', () => held.length >= 4, { everyMs: 5 });
    expect(held.map(({ request }) => request.worker.name).toSorted()).toEqual(['a', 'b', 'c', 'd']);
    lab.agent.onInvoke((call) => call.answer('{}'));
    for (const call of held) {
      call.answer('{}');
    }
    await Promise.all(calls);
  });

  it('has calls at the same time spread over its workers, and the others wait for whichever is free first', async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'] });
    const [one, two] = lab.agents;
    await lab.addWorker('a', { functionName: 'f', ...(one === undefined ? {} : { agent: one }) });
    await lab.addWorker('b', { functionName: 'f', ...(two === undefined ? {} : { agent: two }) });
    const atA: (() => void)[] = [];
    one?.onInvoke((call) => atA.push(() => call.answer('{}')));
    const atB: (() => void)[] = [];
    two?.onInvoke((call) => atB.push(() => call.answer('{}')));
    const given = Promise.all([lab.invoke('f'), lab.invoke('f'), lab.invoke('f'), lab.invoke('f')]);
    await waitFor('a call at each', () => atA.length === 1 && atB.length === 1, { everyMs: 5 });
    atB[0]?.();
    await waitFor('the third call', () => atB.length === 2, { everyMs: 5 });
    atB[1]?.();
    await waitFor('the fourth call', () => atB.length === 3, { everyMs: 5 });
    expect(atA).toHaveLength(1);
    atA[0]?.();
    atB[2]?.();
    await given;
  });

  it('is called at another worker when one refuses', { tags: ['G5'] }, async () => {
    const lab = await gatewayLab();
    await lab.addWorker('a', { functionName: 'f' });
    await lab.addWorker('b', { functionName: 'f' });
    lab.agent.onInvoke((call) => (call.request.worker.name === 'a' ? call.refuse('QueueFull') : call.answer('"b"')));
    for (let call = 0; call < 3; call += 1) {
      expect(payloadOf(await lab.invoke('f'))).toBe('"b"');
    }
  });

  it('is refused once all of its workers have refused, with the reason that passes soonest', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('a', { functionName: 'f' });
    await lab.addWorker('b', { functionName: 'f' });
    lab.agent.onInvoke((call) => call.refuse(call.request.worker.name === 'a' ? 'StartFailed' : 'QueueFull'));
    await expect(lab.invoke('f')).rejects.toMatchObject({ name: 'TooManyRequestsException' });
    expect(lab.agent.calls).toHaveLength(2);
  });
});

describe('a refusal that passes', () => {
  it.each(['Unavailable', 'NotFound', 'Fenced'])(
    'is waited out and tried again (%s)',
    { tags: ['P14'] },
    async (reason) => {
      const lab = await gatewayLab();
      await lab.addWorker('hello');
      let refusals = 0;
      lab.agent.onInvoke((call) => {
        refusals += 1;
        if (refusals < 3) {
          call.refuse(reason);
        } else {
          call.answer('"third"');
        }
      });
      expect(payloadOf(await lab.invoke('hello'))).toBe('"third"');
    },
  );

  it('is tried again when it comes as a status of an agent that has just started', {
    tags: ['G5'],
  }, async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    let first = true;
    lab.agent.onInvoke((call) => {
      if (first) {
        first = false;
        call.fail(14, 'Unavailable', 'Unavailable: still looking');
      } else {
        call.answer('{}');
      }
    });
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
  });

  it('is not tried again for a caller that has hung up', { tags: ['G5'] }, async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const caller = new AbortController();
    lab.agent.onInvoke((call) => call.refuse('Unavailable', 'the agent is stopping'));
    const given = lab.invoke('hello', {}, caller.signal).catch(() => undefined);
    await waitFor('the refusal', () => lab.agent.calls.length === 1, { everyMs: 5 });
    lab.agent.onInvoke((call) => call.answer('{}'));
    caller.abort();
    await given;
    // Nothing may happen meanwhile.
    await delay(500);
    expect(lab.agent.calls).toHaveLength(1);
  });

  it('ends in 503 when it does not pass in time', async () => {
    const lab = await gatewayLab({ maxWaitMs: 300 });
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.refuse('Unavailable', 'the agent is stopping'));
    await expect(lab.invoke('hello')).rejects.toMatchObject({
      name: 'ServiceException',
      message: expect.stringContaining('the agent is stopping'),
      $metadata: { httpStatusCode: 503 },
    });
  });
});

describe('a worker that is being moved', () => {
  it('is called at its new node under its new epoch, by a call that waited', async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'] });
    const [one, two] = lab.agents;
    await lab.addWorker('hello', { epoch: 1 });
    lab.workers.put(workerFixture({ name: 'hello', status: { assignment: { nodeName: 'node-2', epoch: 2 } } }));
    const given = lab.invoke('hello');
    // Nothing may happen meanwhile.
    await delay(30);
    expect(one?.calls).toHaveLength(0);
    two?.put({ name: 'hello', epoch: 2, phase: 'PHASE_CREATING' });
    expect((await given).StatusCode).toBe(200);
    expect(one?.calls).toHaveLength(0);
    expect(two?.calls[0]).toMatchObject({ epoch: 2 });
  });

  it('is not called at its new node before the resource says so', async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'] });
    const [one, two] = lab.agents;
    await lab.addWorker('hello', { epoch: 1 });
    one?.remove('hello');
    two?.put({ name: 'hello', epoch: 2 });
    await waitFor('the removal', () => lab.gateway.view.worker('uid-of-hello')?.holding === undefined);
    const given = lab.invoke('hello');
    // Nothing may happen meanwhile.
    await delay(50);
    expect(two?.calls).toHaveLength(0);
    lab.workers.put(workerFixture({ name: 'hello', status: { assignment: { nodeName: 'node-2', epoch: 2 } } }));
    expect((await given).StatusCode).toBe(200);
    expect(two?.calls[0]).toMatchObject({ epoch: 2 });
    expect(one?.calls).toHaveLength(0);
  });

  it('is not called at a former node again because an API server is behind', async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'] });
    const [one, two] = lab.agents;
    await lab.addWorker('hello', { epoch: 1 });
    await lab.addWorker('hello', { epoch: 2, ...(two === undefined ? {} : { agent: two }) });
    lab.workers.put(workerFixture({ name: 'hello', status: { assignment: { nodeName: 'node-1', epoch: 1 } } }));
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
    expect(one?.calls).toHaveLength(0);
    expect(two?.calls).toHaveLength(1);
  });

  it('or was not assigned yet is waited for, and told of when nothing comes', async () => {
    const lab = await gatewayLab({ maxWaitMs: 200 });
    lab.workers.put(workerFixture({ name: 'hello' }));
    await expect(lab.invoke('hello')).rejects.toMatchObject({
      name: 'ServiceException',
      message: expect.stringContaining('has not been assigned yet'),
      $metadata: { httpStatusCode: 503 },
    });
    lab.workers.put(
      workerFixture({
        name: 'hello',
        status: {
          conditions: [
            {
              type: 'Scheduled',
              status: 'False',
              reason: 'NoneFits',
              message: 'no node has 128 MiB',
              lastTransitionTime: '2026-11-01T00:00:00Z',
            },
          ],
        },
      }),
    );
    await expect(lab.invoke('hello')).rejects.toMatchObject({
      name: 'TooManyRequestsException',
      message: expect.stringContaining('no node has 128 MiB'),
    });
  });

  it('takes no more calls once it is being deleted', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    lab.workers.put(workerFixture({ name: 'hello', metadata: { deletionTimestamp: '2026-11-01T00:00:00Z' } }));
    await expect(lab.invoke('hello')).rejects.toMatchObject({ name: 'ResourceNotFoundException' });
  });
});

describe('an agent that is restarted', () => {
  it('is waited for by calls that come meanwhile', { tags: ['P14'] }, async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    await lab.agent.kill();
    await lab.connected(0);
    const given = lab.invoke('hello');
    // No word tells when the other side has come so far.
    await delay(50);
    await lab.agent.revive();
    expect((await given).StatusCode).toBe(200);
    expect(lab.agent.calls).toHaveLength(1);
  });

  it('lets the calls under way end, when it says that it is stopping', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const running = Promise.withResolvers<() => void>();
    lab.agent.onInvoke((call) => running.resolve(() => call.answer('"done"')));
    const given = lab.invoke('hello');
    const finish = await running.promise;
    lab.agent.endWatches();
    await waitFor('a new Watch', () => lab.agent.watchers() === 1, { everyMs: 5 });
    finish();
    expect(payloadOf(await given)).toBe('"done"');
  });

  it('that does not come back is told of with 503', async () => {
    const lab = await gatewayLab({ maxWaitMs: 200 });
    await lab.addWorker('hello');
    await lab.agent.kill();
    await lab.connected(0);
    await expect(lab.invoke('hello')).rejects.toMatchObject({
      name: 'ServiceException',
      message: expect.stringContaining('agent of node node-1'),
      $retryable: undefined,
      $metadata: { httpStatusCode: 503 },
    });
  });

  it('with another certificate is trusted only once that stands in its LambdaNode', async () => {
    const lab = await gatewayLab();
    const other = await gatewayLab();
    await lab.addWorker('hello');
    // An impostor at the address of the node: our agent's own, with the certificate of another one in the LambdaNode.
    lab.nodes.put({
      ...lab.agent.node,
      status: { ...lab.agent.node.status, certificate: other.agent.certificate },
    });
    // Nothing may happen meanwhile.
    await delay(100);
    // The connection that stood goes on until there is a better one.
    expect(lab.gateway.view.connected.size).toBe(1);
    await lab.agent.kill();
    await lab.agent.revive();
    await lab.connected(0);
    // Nothing may happen meanwhile.
    await delay(150);
    expect(lab.agent.watchers()).toBe(0);
    lab.nodes.put(lab.agent.node);
    await lab.connected(1);
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
  });

  it('and whose LambdaNode is deleted is let go', async () => {
    const lab = await gatewayLab();
    lab.nodes.remove({ name: 'node-1' });
    await lab.connected(0);
    await waitFor('the Watch to end', () => lab.agent.watchers() === 0);
  });
});

describe('a caller who hangs up', () => {
  it('has the call cancelled at the agent', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const cancelled = Promise.withResolvers<void>();
    lab.agent.onInvoke((call) => {
      call.cancelled.then(cancelled.resolve, cancelled.reject);
    });
    const hangUp = new AbortController();
    const given = lab.invoke('hello', {}, hangUp.signal);
    await waitFor('the call', () => lab.agent.calls.length === 1, { everyMs: 5 });
    hangUp.abort();
    await expect(given).rejects.toMatchObject({ name: 'AbortError' });
    await cancelled.promise;
    lab.agent.onInvoke((call) => call.answer('{}'));
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
  });

  it('while the call waits has it sent nowhere', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    await lab.agent.kill();
    await lab.connected(0);
    const hangUp = new AbortController();
    const given = lab.invoke('hello', {}, hangUp.signal);
    // No word tells when the other side has come so far.
    await delay(50);
    hangUp.abort();
    await expect(given).rejects.toMatchObject({ name: 'AbortError' });
    await lab.agent.revive();
    await lab.connected();
    // Nothing may happen meanwhile.
    await delay(50);
    expect(lab.agent.calls).toHaveLength(0);
  });
});
