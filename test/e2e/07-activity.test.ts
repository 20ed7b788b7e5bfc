import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

describe('activity by status patch', () => {
  const esb = instance();
  const parts = new Parts(esb);

  it('of a foreign gateway alone wakes a paused worker, once', async () => {
    await esb.apply('nudged', {
      nodeName: 'node-1',
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 2 },
    });
    const paused = await esb.waitUntilPaused('nudged');
    const containerId = paused.status?.containerID ?? '';
    const before = await parts.resumes();
    // A clock of its own, far from ours: stamps are told apart, never compared.
    const stamp = '2031-05-06T07:08:09.000123Z';
    const patch = JSON.stringify({ status: { lastInvocationTime: stamp } });
    await esb.kubectl(['patch', 'lw', 'nudged', '--subresource=status', '--type=merge', '-p', patch]);
    await waitFor('the worker to be woken', async () => (await parts.resumes()) === before + 1);
    await esb.waitForWorker('nudged', 'acknowledged', (worker) => worker.status?.observedInvocationTime === stamp);
    await waitFor('the worker to be PAUSED again', async () => (await esb.taskState(containerId)) === 'PAUSED');
    // Nothing may happen meanwhile.
    await delay(3_000);
    expect(await parts.resumes()).toBe(before + 1);
    expect(await esb.taskState(containerId)).toBe('PAUSED');
  });

  it('of our own gateway, late, wakes nobody', { tags: ['P24'] }, async () => {
    await esb.apply('settled', {
      nodeName: 'node-1',
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 1 },
    });
    const paused = await esb.waitUntilPaused('settled');
    const containerId = paused.status?.containerID ?? '';
    const before = await parts.resumes();
    await esb.invoke('settled');
    const first = await esb.waitForWorker('settled', 'patched', (w) => w.status?.lastInvocationTime !== undefined);
    // The next patch is held back for a few seconds: by then the worker is frozen again.
    await esb.invoke('settled');
    await esb.waitForWorker(
      'settled',
      'patched again',
      (worker) => worker.status?.lastInvocationTime !== first.status?.lastInvocationTime,
    );
    await waitFor('the worker to be PAUSED again', async () => (await esb.taskState(containerId)) === 'PAUSED');
    const resumed = await parts.resumes();
    // Nothing may happen meanwhile.
    await delay(4_000);
    expect(await parts.resumes()).toBe(resumed);
    expect(resumed - before).toBeLessThanOrEqual(2);
    const worker = await esb.waitForWorker(
      'settled',
      'acknowledged',
      ({ status }) => status?.observedInvocationTime === status?.lastInvocationTime,
    );
    expect(worker.status?.phase).toBe('Paused');
  });
});
