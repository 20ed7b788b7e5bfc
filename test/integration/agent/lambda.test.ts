import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { runtimeImage } from '../../support/emulator-image.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a worker of interface Lambda on a node with the real agent', () => {
  let lab: AgentLab;
  let image: string;

  beforeAll(async () => {
    lab = await startAgentLab();
    image = lab.lab.registry.put('runtime:1', await runtimeImage());
    await lab.startAgent();
    await lab.untilServing();
  });
  afterAll(() => lab?.close());

  it('starts without the emulator, is called, pauses, and is woken by a call', async () => {
    await lab.apply('hello', { image, runtimeInterface: 'Lambda' });
    const running = await lab.waitForPhase('hello', 'Running');
    const containerId = running.status?.containerID ?? '';
    expect(running.status).not.toHaveProperty('address');
    expect(await lab.invoke(running, { payload: { n: 1 } })).toMatchObject({
      outcome: 'OUTCOME_ANSWERED',
      start: 'running',
      body: '{"n":1}',
    });
    await lab.patch('hello', { spec: { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } } });
    const paused = await lab.waitForPhase('hello', 'Paused');
    expect(await lab.taskState(containerId)).toBe('PAUSED');
    expect(await lab.invoke(paused, { payload: { n: 2 } })).toMatchObject({ start: 'paused', body: '{"n":2}' });
    await waitFor('the worker to rest again', async () => (await lab.taskState(containerId)) === 'PAUSED');
  });

  it('outlives its agent, frozen', async () => {
    const paused = await lab.waitForPhase('hello', 'Paused');
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    expect(await lab.invoke(paused, { payload: { n: 3 } })).toMatchObject({ start: 'paused', body: '{"n":3}' });
    expect((await lab.worker('hello')).status?.restartCount).toBe(0);
  });

  it('says in the words of Lambda why it cannot be initialized, and is tried again', async () => {
    await lab.apply('broken', { image, runtimeInterface: 'Lambda', env: [{ name: 'INIT', value: 'error' }] });
    const broken = await lab.waitForWorker(
      'broken',
      'to tell of it',
      ({ status }) => (status?.restartCount ?? 0) > 0 || JSON.stringify(status).includes('no wand'),
    );
    expect(broken.status?.conditions).toContainEqual(
      expect.objectContaining({ reason: 'InitFailed', message: expect.stringContaining('Function.Broken: no wand') }),
    );
    await lab.remove('broken');
  });

  it('keeps a call while its runtime starts again after a timeout, also where the agent is killed meanwhile', async () => {
    const spec = {
      image,
      runtimeInterface: 'Lambda',
      timeoutSeconds: 1,
      env: [{ name: 'INIT', value: 'slow' }],
    } as const;
    await lab.apply('slow', spec);
    await waitFor('the first start', async () => (await lab.lab.leftovers()).some((name) => name.includes('slow')));
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    const slow = await lab.waitForPhase('slow', 'Running');
    expect(await lab.invoke(slow, { payload: { sleepMs: 3_000 } })).toMatchObject({ outcome: 'OUTCOME_TIMED_OUT' });
    expect(await lab.invoke(slow, { payload: { n: 1 } })).toMatchObject({
      outcome: 'OUTCOME_ANSWERED',
      body: '{"n":1}',
    });
    expect(await lab.invoke(slow, { payload: { sleepMs: 3_000 } })).toMatchObject({ outcome: 'OUTCOME_TIMED_OUT' });
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    expect(await lab.invoke(slow, { payload: { n: 2 } })).toMatchObject({
      outcome: 'OUTCOME_ANSWERED',
      body: '{"n":2}',
    });
    const { status } = await lab.worker('slow');
    expect(status).toMatchObject({ restartCount: 0, containerID: slow.status?.containerID });
    await lab.remove('slow');
  });

  it('goes without a trace', async () => {
    await lab.remove('hello');
    await waitFor('the end of all traces', async () => (await lab.lab.leftovers()).length === 0);
  });
});
