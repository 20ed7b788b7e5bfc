import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('an agent that prepares workers', () => {
  let lab: AgentLab;

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent(['--prepared-workers', '1']);
    await lab.untilServing();
  });
  afterAll(async () => {
    await lab?.close();
  });

  const tasks = async (): Promise<readonly { id: string; state: string }[]> =>
    (await lab.lab.ctr('tasks', 'list'))
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .flatMap(([id = '', , state = '']) => (id === '' ? [] : [{ id, state }]));
  /** Waits for the one task there is to be a prepared one, other than `before`. */
  const untilPrepared = (before?: string): Promise<string> =>
    waitFor(
      'a prepared worker',
      async () => {
        const [one, ...others] = await tasks();
        return others.length === 0 && one?.state === 'CREATED' && one.id !== before ? one.id : undefined;
      },
      { timeoutMs: 60_000, everyMs: 200 },
    );

  it('tells containerd of a worker that stays awake, without a call being held up', async () => {
    await lab.apply('awake', { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 60 } });
    const worker = await lab.waitForPhase('awake', 'Paused');
    const containerId = worker.status?.containerID ?? '';
    const told = async (): Promise<string | undefined> => (await tasks()).find(({ id }) => id === containerId)?.state;
    expect(await lab.invoke(worker)).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'paused' });
    expect([await told(), await lab.taskState(containerId)]).toEqual(['PAUSED', 'RUNNING']);
    const slow: number[] = [];
    await waitFor(
      'containerd to know',
      async () => {
        const began = performance.now();
        expect(await lab.invoke(worker)).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'running' });
        slow.push(performance.now() - began);
        await delay(150);
        return (await told()) === 'RUNNING';
      },
      { timeoutMs: 60_000, everyMs: 50 },
    );
    expect(Math.max(...slow)).toBeLessThan(2_000);
    await lab.remove('awake');
  });

  it('makes the container of one that rests Absent, and shows nothing of it', async () => {
    await lab.apply('idler', {
      desiredState: 'Absent',
      idlePolicy: { pauseAfterSeconds: 1, removeAfterSeconds: 2 },
    });
    await untilPrepared();
    const worker = await lab.waitForPhase('idler', 'Absent');
    expect(worker.status?.containerID).toBeUndefined();
    expect(worker.status?.address).toBeUndefined();
  });

  it('starts it when it is called, and makes another once it is gone', async () => {
    const worker = await lab.worker('idler');
    const id = await untilPrepared();
    expect(await lab.invoke(worker)).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'absent' });
    // Paused again a second later, which may have come by the time that containerd is asked.
    expect(await tasks()).toEqual([{ id, state: expect.stringMatching(/^(RUNNING|PAUSED)$/) }]);
    expect(await untilPrepared()).toBe(id);
    await lab.waitForPhase('idler', 'Absent');
  });

  it('replaces it when its shape changes', { tags: ['G9'] }, async () => {
    const before = await untilPrepared();
    await lab.patch('idler', { spec: { env: [{ name: 'GREETING', value: 'new' }] } });
    expect(await untilPrepared(before)).not.toBe(before);
    expect((await lab.invoke(await lab.worker('idler'))).body).toContain('"GREETING":"new"');
  });

  it('looks after what a killed agent left prepared', async () => {
    await untilPrepared();
    await lab.killAgent();
    await lab.startAgent(['--prepared-workers', '1']);
    await lab.untilServing();
    await untilPrepared();
    expect(await lab.invoke(await lab.worker('idler'))).toMatchObject({
      outcome: 'OUTCOME_ANSWERED',
      start: 'absent',
    });
  });

  it('removes it where none are wanted any more', async () => {
    await untilPrepared();
    await lab.stopAgent();
    await lab.startAgent();
    await lab.untilServing();
    await waitFor('it to be removed', async () => (await tasks()).length === 0, { timeoutMs: 60_000 });
    await lab.stopAgent();
    await lab.startAgent(['--prepared-workers', '1']);
    await lab.untilServing();
    await untilPrepared();
  });

  it('removes it with its worker', async () => {
    await lab.remove('idler');
    expect(await lab.lab.leftovers()).toEqual([]);
  });
});
