import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { CallTally } from './support/call-tally.ts';
import { instance } from './support/instance.ts';
import { LoadBalancer } from './support/load-balancer.ts';
import { Parts } from './support/parts.ts';

/** Five minutes in full (`ESB_OUTAGE_SECONDS=300`). */
const outageSeconds = Number(process.env.ESB_OUTAGE_SECONDS ?? 20);

describe('what other systems fell over in a cluster:', () => {
  const esb = instance();
  const parts = new Parts(esb);

  it('two gateways wake one paused worker at the same moment: it is resumed once, and both are answered', {
    tags: ['M16'],
  }, async () => {
    await esb.apply('shared', {
      nodeName: 'node-1',
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 1 },
    });
    const gateways = await parts.gateways();
    const clients = gateways.map((gateway) => esb.lambda(gateway));
    await esb.ready('shared');
    for (let round = 1; round <= 5; round += 1) {
      const { status } = await esb.waitUntilPaused('shared');
      const containerId = status?.containerID ?? '';
      await waitFor('containerd to say so', async () => (await esb.taskState(containerId)) === 'PAUSED');
      const before = await parts.resumes();
      const answers = await Promise.all(clients.map((client) => esb.invoke('shared', {}, { client })));
      const counters = answers.map(({ payload }) => payload.counter).toSorted((a, b) => a - b);
      expect(counters).toEqual([2 * round - 1, 2 * round]);
      await waitFor('it to be frozen again', async () => (await esb.taskState(containerId)) === 'PAUSED');
      expect(await parts.resumes()).toBe(before + 1);
    }
  });

  it('a gateway is killed in the middle of a call: the function runs once, and its worker serves the next', {
    tags: ['M15', 'G3'],
  }, async () => {
    await esb.apply('survivor', { nodeName: 'node-1', timeoutSeconds: 20 });
    const [first, second] = await parts.gateways();
    const { status } = await esb.ready('survivor');
    const before = await esb.invoke('survivor', {}, { client: esb.lambda(first) });
    const cut = esb
      .invoke('survivor', { print: 'about to be cut off', sleep: 2 }, { client: esb.lambda(first) })
      .catch((error: unknown) => error);
    // From then on it runs, however long it took to come there.
    await waitFor(
      'the function to begin',
      async () => (await esb.workerLog(status?.containerID ?? '')).includes('about to be cut off'),
      { everyMs: 50 },
    );
    onTestFinished(() => parts.start('gateway-1'), 60_000);
    await parts.kill('gateway-1');
    expect(await cut).toBeInstanceOf(Error);
    // The other gateway is given the same worker: after the call that lost its caller, never in the middle of it.
    const after = await esb.invoke('survivor', {}, { client: esb.lambda(second) });
    expect(after.payload).toMatchObject({
      counter: before.payload.counter + 2,
      overlaps: 0,
      bootId: before.payload.bootId,
    });
    await parts.start('gateway-1');
    await waitFor('the gateway that is back to serve', async () => {
      const answer = await esb.invoke('survivor', {}, { client: esb.lambda(first) });
      return answer.status === 200;
    });
  });

  it(`the API server is away for ${outageSeconds} seconds: workers are called, paused and woken throughout`, {
    tags: ['M17'],
    timeout: (outageSeconds + 120) * 1_000,
  }, async () => {
    await esb.apply('offline', {
      nodeName: 'node-1',
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 1 },
    });
    await esb.ready('offline');
    const { status } = await esb.waitUntilPaused('offline');
    const containerId = status?.containerID ?? '';
    onTestFinished(() => parts.start('apiserver'), 90_000);
    await parts.kill('apiserver');
    const end = performance.now() + outageSeconds * 1_000;
    let counter = 0;
    while (performance.now() < end) {
      counter += 1;
      expect((await esb.invoke('offline')).payload.counter).toBe(counter);
      await waitFor('it to be frozen', async () => (await esb.taskState(containerId)) === 'PAUSED');
    }
    expect(counter).toBeGreaterThan(2);
    await parts.start('apiserver');
    await esb.waitForWorker(
      'offline',
      'acknowledged',
      (worker) =>
        worker.status?.lastInvocationTime !== undefined &&
        worker.status.observedInvocationTime === worker.status.lastInvocationTime,
      90_000,
    );
  });

  it('every part is replaced in turn under load, as an upgrade does it: no call is lost', {
    tags: ['M20'],
  }, async () => {
    const names = ['rolled-1', 'rolled-2', 'rolled-3'];
    for (const name of names) {
      await esb.apply(name, { timeoutSeconds: 20 });
    }
    for (const name of names) {
      await esb.ready(name);
    }
    const before = new Map(
      await Promise.all(names.map(async (name) => [name, (await esb.worker(name)).status?.containerID] as const)),
    );
    const load = new AbortController();
    const tally = new CallTally();
    const balancer = new LoadBalancer(await parts.balanced());
    onTestFinished(() => balancer.close());
    const callers = names.map(async (name) => {
      while (!load.signal.aborted) {
        tally.add(await balancer.call(name, {}));
        // The pace of the calls.
        await delay(20);
      }
    });
    for (const part of ['gateway-1', 'gateway-2', 'agent-node-1', 'agent-node-2', 'controller-1', 'controller-2']) {
      await parts.stop(part);
      await parts.start(part);
      // Faults have a rest between them.
      await delay(1_000);
    }
    load.abort();
    await Promise.all(callers);
    expect(tally.failures()).toEqual([]);
    expect(tally.count('unknown')).toBe(0);
    expect(tally.repeated()).toEqual([]);
    expect(tally.total).toBeGreaterThan(100);
    for (const name of names) {
      expect((await esb.worker(name)).status?.containerID).toBe(before.get(name));
    }
  });
});
