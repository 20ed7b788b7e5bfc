import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { emulatorImage, runtimeImage } from '../../support/emulator-image.ts';
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
    await lab.apply('hello', { image });
    const running = await lab.waitForPhase('hello', 'Running');
    const containerId = running.status?.containerID ?? '';
    expect(running.status?.address).toEqual({ ip: expect.stringMatching(/^10\.234\./) });
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

  it('tells how a call ended, in the words of Lambda, and takes the next one in the same container', async () => {
    await lab.apply('ends', { image, timeoutSeconds: 1 });
    const worker = await lab.waitForPhase('ends', 'Running');
    const late = await lab.invoke(worker, { requestId: 'late', payload: { sleepMs: 5_000 } });
    expect(JSON.parse(late.body)).toEqual({
      errorType: 'Sandbox.Timedout',
      errorMessage: 'RequestId: late Error: Task timed out after 1.00 seconds',
    });
    const gone = await lab.invoke(worker, { requestId: 'gone', payload: { exit: true } });
    expect(JSON.parse(gone.body)).toEqual({
      errorType: 'Runtime.ExitError',
      errorMessage: 'RequestId: gone Error: Runtime exited with error: exit status 3',
    });
    expect(await lab.invoke(worker, { payload: { n: 4 } })).toMatchObject({ body: '{"n":4}' });
    const after = (await lab.worker('ends')).status;
    expect([after?.containerID, after?.restartCount]).toEqual([worker.status?.containerID, 0]);
    await lab.remove('ends');
  });

  it('goes on with a call when its agent is killed, and takes the next one after it', async () => {
    await lab.apply('long', { image, timeoutSeconds: 20 });
    const worker = await lab.waitForPhase('long', 'Running');
    const containerId = worker.status?.containerID ?? '';
    const log = () => readFile(join(lab.stateDir, 'logs', `${containerId}.log`), 'utf8');
    const lost = lab
      .invoke(worker, { requestId: 'lost', payload: { sleepMs: 4_000 } })
      .catch((error: unknown) => error as Error);
    await waitFor('the call to be in the worker', async () => (await log()).includes('began 4000'));
    await lab.killAgent();
    expect(await lost).toBeInstanceOf(Error);
    await lab.startAgent();
    await lab.untilServing();
    expect(await lab.invoke(worker, { payload: { n: 5 } })).toMatchObject({ body: '{"n":5}' });
    await waitFor('the end of the call', async () => (await log()).includes('REPORT RequestId: lost'));
    expect(await log()).toContain('ended 4000');
    await waitFor('the worker to be one again', async () => (await lab.worker('long')).status?.phase === 'Running');
    expect((await lab.worker('long')).status?.restartCount).toBe(0);
    await lab.remove('long');
  });

  it('says in the words of Lambda why it cannot be initialized, and is tried again', async () => {
    await lab.apply('broken', { image, env: [{ name: 'INIT', value: 'error' }] });
    const broken = await lab.waitForWorker(
      'broken',
      'to tell of it',
      ({ status }) =>
        (status?.restartCount ?? 0) > 0 && (status?.conditions ?? []).some(({ reason }) => reason === 'InitFailed'),
    );
    expect(broken.status?.lastTermination).toMatchObject({
      exitCode: 1,
      reason: 'Error',
      message: 'Function.Broken: no wand',
    });
    expect(broken.status?.conditions).toContainEqual(
      expect.objectContaining({ reason: 'InitFailed', message: expect.stringContaining('Function.Broken: no wand') }),
    );
    await lab.remove('broken');
  });

  it('keeps a call while its runtime starts again after a timeout, also where the agent is killed meanwhile', async () => {
    const spec = {
      image,
      timeoutSeconds: 1,
      env: [{ name: 'INIT', value: 'slow' }],
    } as const;
    await lab.apply('slow', spec);
    await waitFor('the first start', async () => (await lab.lab.leftovers()).some((name) => name.includes('slow')));
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    const slow = await lab.waitForPhase('slow', 'Running');
    expect(await lab.invoke(slow, { payload: { sleepMs: 3_000 } })).toMatchObject({
      outcome: 'FUNCTION_OUTCOME_TIMEOUT',
    });
    expect(await lab.invoke(slow, { payload: { n: 1 } })).toMatchObject({
      outcome: 'OUTCOME_ANSWERED',
      body: '{"n":1}',
    });
    expect(await lab.invoke(slow, { payload: { sleepMs: 3_000 } })).toMatchObject({
      outcome: 'FUNCTION_OUTCOME_TIMEOUT',
    });
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

  it.each([
    { name: 'hidden', before: 'Lambda', after: 'Lambda' },
    { name: 'changed', before: 'Emulator', after: 'Lambda' },
  ] as const)('has the next container where one was deleted while no agent ran: $name', async (each) => {
    const { after, before, name } = each;
    const both = lab.lab.registry.put('both:1', await emulatorImage());
    await lab.apply(name, { image: both, runtimeInterface: before });
    const worker = await lab.waitForPhase(name, 'Running');
    const containerId = worker.status?.containerID ?? '';
    await lab.killAgent();
    await lab.lab.ctr('tasks', 'rm', '-f', containerId);
    await lab.lab.ctr('containers', 'rm', containerId);
    await lab.patch(name, { spec: { runtimeInterface: after } });
    await lab.startAgent();
    await lab.untilServing();
    expect(await lab.invoke(worker, { payload: { n: 6 } })).toMatchObject({ body: '{"n":6}' });
    const address = await waitFor('the address of the next container', async () => {
      const { status } = await lab.worker(name);
      return status?.address?.port === undefined ? status?.address : undefined;
    });
    expect(address).toEqual({ ip: expect.stringMatching(/^10\.234\./) });
    await lab.remove(name);
  });

  it('goes without a trace', async () => {
    await lab.remove('hello');
    await waitFor('the end of all traces', async () => (await lab.lab.leftovers()).length === 0);
  });
});
