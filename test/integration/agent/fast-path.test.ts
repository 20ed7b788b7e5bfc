import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a worker that stays awake', () => {
  let lab: AgentLab;

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
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

  it('is told to containerd, without a call being held up', async () => {
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
        // The pace of the calls.
        await delay(150);
        return (await told()) === 'RUNNING';
      },
      { timeoutMs: 60_000, everyMs: 50 },
    );
    expect(Math.max(...slow)).toBeLessThan(2_000);
    await lab.remove('awake');
    expect(await lab.lab.leftovers()).toEqual([]);
  });
});
