import { readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { readySlots } from '../../support/network-footprint.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('an agent that is killed and started again', () => {
  let lab: AgentLab;
  let running: LambdaWorker;
  let paused: LambdaWorker;

  const idOf = (worker: LambdaWorker): string => worker.status?.containerID ?? '';
  const untilInWorker = async (worker: LambdaWorker): Promise<void> => {
    await waitFor('the call to be in the worker', async () => {
      const { workers } = (await lab.unary('list', {})) as unknown as {
        readonly workers: readonly { readonly worker: { readonly uid: string }; readonly inFlight: number }[];
      };
      return workers.some((each) => each.worker.uid === worker.metadata.uid && each.inFlight > 0);
    });
    // In flight begins in the queue.
    await delay(500);
  };
  const counterOf = async (worker: LambdaWorker): Promise<number> => {
    const answer = await lab.invoke(worker);
    expect(answer.outcome).toBe('OUTCOME_ANSWERED');
    return (JSON.parse(answer.body) as { readonly counter: number }).counter;
  };

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
    await lab.untilServing();
    await Promise.all([
      lab.apply('runs'),
      lab.apply('sleeps', { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } }),
    ]);
    running = await lab.waitForPhase('runs', 'Running');
    paused = await lab.waitForPhase('sleeps', 'Paused');
  });
  afterEach(async () => {
    lab.api.continue();
    await lab.api.bringUp();
  });
  afterAll(() => lab?.close());

  it('adopts everything, wakes nothing and serves', { tags: ['P27', 'P29'] }, async () => {
    const before = await lab.tasks();
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    // Nothing may happen meanwhile.
    await delay(2_000);
    expect(await lab.tasks()).toEqual(before);
    const counter = await counterOf(running);
    expect(await counterOf(running)).toBe(counter + 1);
    expect(await lab.invoke(paused)).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'paused' });
    await waitFor('the worker to rest again', async () => (await lab.taskState(idOf(paused))) === 'PAUSED');
    expect((await lab.worker('runs')).status?.address).toEqual(running.status?.address);
    expect((await lab.worker('sleeps')).status?.address).toEqual(paused.status?.address);
  });

  it.each([
    ['gone', () => lab.api.takeDown()],
    ['frozen', async () => lab.api.pause()],
  ])('serves at once while the API server is %s', async (_, breakIt) => {
    const before = await lab.tasks();
    await lab.killAgent();
    await breakIt();
    await lab.startAgent();
    // The API server stays away all the while.
    await lab.untilServing();
    expect(await lab.tasks()).toEqual(before);
    const counter = await counterOf(running);
    expect(counter).toBeGreaterThan(0);
    expect(await lab.invoke(paused)).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'paused' });
    await waitFor('the worker to rest again', async () => (await lab.taskState(idOf(paused))) === 'PAUSED');
  });

  it('catches up with what happened while the API server was away', async () => {
    await lab.api.takeDown();
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    await lab.api.bringUp();
    await lab.apply('late');
    const late = await lab.waitForPhase('late', 'Running');
    expect((await lab.invoke(late)).outcome).toBe('OUTCOME_ANSWERED');
    await lab.remove('late');
  });

  /** Kills the agent in the middle of a call; gives the number that the next call of that worker has. */
  async function counterAfterKill(worker: LambdaWorker): Promise<number> {
    const call = lab.invoke(worker, { payload: { sleepMs: 2_500 } }).catch((error: unknown) => error);
    await untilInWorker(worker);
    await lab.killAgent();
    expect(await call).toBeInstanceOf(Error);
    await lab.startAgent();
    await lab.untilServing();
    return await waitFor('an answer', async () => {
      const answer = await lab.invoke(worker);
      return answer.outcome === 'OUTCOME_ANSWERED'
        ? (JSON.parse(answer.body) as { readonly counter: number }).counter
        : undefined;
    });
  }

  it('calls a worker that it left in the middle of a call once that is over', async () => {
    const counter = await counterOf(running);
    expect(await counterAfterKill(running)).toBe(counter + 2);
  });

  it('calls another container of a worker with an emulator that it left in the middle of a call', async () => {
    await lab.apply('emulated', { runtimeInterface: 'Emulator' });
    const emulated = await lab.waitForPhase('emulated', 'Running');
    await counterOf(emulated);
    expect(await counterAfterKill(emulated)).toBe(1);
    await lab.remove('emulated');
  });

  it.each([20, 100, 200, 400])(
    'finishes what it was killed in the middle of making, after %i ms',
    { tags: ['M6'] },
    async (ms) => {
      await lab.apply('half');
      // Faults and calls come at any moment.
      await delay(ms);
      await lab.killAgent();
      await lab.startAgent();
      await lab.untilServing();
      const half = await lab.waitForPhase('half', 'Running');
      expect((await lab.invoke(half)).outcome).toBe('OUTCOME_ANSWERED');
      await lab.remove('half');
      await waitFor('it to be gone', async () => !(await lab.lab.ctr('containers', 'list', '-q')).includes('half'));
    },
  );

  it('removes a worker that was deleted in its absence', async () => {
    await lab.apply('orphan');
    const orphan = await lab.waitForPhase('orphan', 'Running');
    await lab.killAgent();
    await lab.api.kubectl(['delete', 'lw', 'orphan', '--wait=false']);
    await lab.patch('orphan', { metadata: { finalizers: null } });
    await lab.startAgent();
    await waitFor('it to be removed', async () => (await lab.taskState(idOf(orphan))) === undefined, {
      timeoutMs: 60_000,
    });
  });

  it('lets the calls in its workers finish when it is stopped', async () => {
    await lab.untilServing();
    const worker = await lab.waitForPhase('runs', 'Running');
    const call = lab.invoke(worker, { payload: { sleepMs: 2_000 } });
    await untilInWorker(worker);
    const before = await lab.tasks();
    await lab.stopAgent();
    expect((await call).outcome).toBe('OUTCOME_ANSWERED');
    expect(await lab.tasks()).toEqual(before);
    await lab.startAgent();
    await lab.untilServing();
  });

  it('waits no longer for them than it is told, and says that their outcome is unknown', async () => {
    await lab.stopAgent();
    await lab.startAgent(['--drain', '1']);
    await lab.untilServing();
    const worker = await lab.waitForPhase('runs', 'Running');
    const call = lab.invoke(worker, { payload: { sleepMs: 30_000 } });
    await untilInWorker(worker);
    const stoppedAt = performance.now();
    await lab.stopAgent();
    expect(performance.now() - stoppedAt).toBeLessThan(25_000);
    expect((await call).outcome).toBe('OUTCOME_UNKNOWN');
    await lab.startAgent();
    await lab.untilServing();
  });

  it('leaves nothing behind after all of that', async () => {
    await Promise.all(['runs', 'sleeps'].map((name) => lab.remove(name)));
    await waitFor('everything to be gone', async () => {
      const containers = await lab.lab.ctr('containers', 'list', '-q');
      const snapshots = (await lab.lab.ctr('snapshots', 'list')).split('\n').filter((line) => line.endsWith(' Active'));
      return containers === '' && snapshots.length === 0;
    });
    expect(readdirSync(`${lab.stateDir}/workers`)).toEqual([]);
    expect(readdirSync(lab.runDir).filter((file) => file.endsWith('.mark'))).toEqual([]);
    // Prepared slots alone are left.
    await waitFor('the attachments to go', async () => {
      const links = (await lab.onNode('ip', '-o', 'link', 'show', 'type', 'veth')).trim().split('\n');
      return links.filter((link) => link.includes('esb0')).length === (await readySlots(lab.stateDir)).length;
    });
  });
});
