import { describe, expect, it } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';

describe('the idle policy', () => {
  const esb = instance();

  it('takes an idle running worker to Paused, then to nothing, and the next call starts it cold', async () => {
    await esb.apply('idler', { nodeName: 'node-1', idlePolicy: { pauseAfterSeconds: 2 } });
    await esb.ready('idler');
    const first = await esb.invoke('idler');
    const paused = await esb.waitUntilPaused('idler');
    const containerId = paused.status?.containerID ?? '';
    expect(await esb.taskState(containerId)).toBe('PAUSED');
    // Only now, so that a slow machine sees it Paused.
    await esb.patch('idler', { idlePolicy: { removeAfterSeconds: 3 } });
    const absent = await esb.waitForPhase('idler', 'Absent');
    expect(await esb.taskState(containerId)).toBeUndefined();
    expect((await esb.ctr(['containers', 'ls', '-q'])).stdout.split('\n')).not.toContain(containerId);
    expect(absent.status?.conditions?.find((condition) => condition.type === 'Ready')).toMatchObject({
      status: 'True',
      reason: 'RemovedIdle',
    });
    const cold = await esb.invoke('idler');
    expect(cold.payload.counter).toBe(1);
    expect(cold.payload.bootId).not.toBe(first.payload.bootId);
  });

  it('leaves a worker alone that has none', async () => {
    await esb.apply('steady', { nodeName: 'node-1' });
    const worker = await esb.ready('steady');
    // Nothing may happen meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect(await esb.taskState(worker.status?.containerID ?? '')).toBe('RUNNING');
  });
});

describe('wakePolicy: Never', () => {
  const esb = instance();

  it('refuses a call of a resting worker with 409, whoever asks', async () => {
    await esb.apply('sealed', { nodeName: 'node-1', desiredState: 'Paused', wakePolicy: 'Never' });
    const worker = await esb.waitUntilPaused('sealed');
    await expect(esb.invoke('sealed')).rejects.toMatchObject({
      name: 'ResourceConflictException',
      message: expect.stringContaining('paused by its owner'),
      $metadata: { httpStatusCode: 409 },
    });
    expect(await esb.taskState(worker.status?.containerID ?? '')).toBe('PAUSED');
    const told = (type: string) => worker.status?.conditions?.find((condition) => condition.type === type)?.status;
    expect([told('Ready'), told('Callable')]).toEqual(['True', 'False']);
    await esb.patch('sealed', { desiredState: 'Running' });
    await esb.ready('sealed');
    const answer = await waitFor('the worker to answer', () => esb.invoke('sealed'));
    expect(answer.payload.counter).toBe(1);
  });
});
