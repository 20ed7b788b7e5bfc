import { readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('what other systems fell over on a node:', () => {
  let lab: AgentLab;

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent(['--log-level', 'info']);
    await lab.untilServing();
  });
  afterAll(() => lab?.close());

  const containers = async (): Promise<readonly string[]> =>
    (await lab.lab.ctr('containers', 'list', '-q')).split('\n').filter((line) => line !== '');
  /** How often the agent has thawed a worker, as it counts itself. */
  const resumes = async (): Promise<number> => {
    const page = await lab.health('/metrics');
    const counts = page.matchAll(/^esb_agent_action_seconds_count\{[^}]*action="Resume"[^}]*\} (\d+)/gm);
    return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  const answered = async (worker: LambdaWorker): Promise<number> => {
    const answer = await lab.invoke(worker);
    expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    return (JSON.parse(answer.body) as { readonly counter: number }).counter;
  };

  it('a worker is deleted and made again under its name, at once and over and over', {
    tags: ['M18'],
  }, async () => {
    let previous = '';
    for (let round = 0; round < 5; round += 1) {
      await lab.apply('phoenix', { desiredState: round % 2 === 0 ? 'Running' : 'Paused' });
      const worker = await lab.waitForPhase('phoenix', round % 2 === 0 ? 'Running' : 'Paused');
      // Nothing of the one before: neither its process nor its story.
      expect(await answered(worker)).toBe(1);
      expect(worker.metadata.uid).not.toBe(previous);
      expect(worker.status?.restartCount ?? 0).toBe(0);
      expect(worker.status?.lastTermination).toBeUndefined();
      previous = worker.metadata.uid ?? '';
      await lab.api.kubectl(['delete', 'lw', 'phoenix', '--wait=false']);
      // Not cleaned up yet for the API server, and its successor is told to be there as soon as the name is free.
      await lab.patch('phoenix', { metadata: { finalizers: null } });
    }
    await waitFor('nothing to be left', async () => (await containers()).length === 0, { timeoutMs: 60_000 });
  });

  it.each([0, 30, 100, 300])('the agent is killed %i ms into a deletion', { tags: ['M6'] }, async (ms) => {
    await lab.apply('doomed', { desiredState: ms % 100 === 0 ? 'Paused' : 'Running' });
    await lab.waitForPhase('doomed', ms % 100 === 0 ? 'Paused' : 'Running');
    await lab.api.kubectl(['delete', 'lw', 'doomed', '--wait=false']);
    // Faults and calls come at any moment.
    await delay(ms);
    await lab.killAgent();
    await lab.startAgent(['--log-level', 'info']);
    await lab.untilServing();
    await lab.waitForWorker('doomed', 'to be cleaned up', ({ status }) =>
      (status?.conditions ?? []).some(({ type, status: is }) => type === 'CleanedUp' && is === 'True'),
    );
    await lab.patch('doomed', { metadata: { finalizers: null } });
    // A record is removed from the disk beside everything else, without a signal when it is gone.
    await waitFor(
      'nothing to be left',
      async () => (await containers()).length === 0 && readdirSync(`${lab.stateDir}/workers`).length === 0,
    );
  });

  it('a hundred callers of one paused worker thaw it once, and run one after the other', {
    tags: ['M12'],
  }, async () => {
    await lab.apply('popular', { desiredState: 'Paused' });
    const worker = await lab.waitForPhase('popular', 'Paused');
    const before = await resumes();
    const answers = await Promise.all(Array.from({ length: 100 }, () => lab.invoke(worker)));
    const taken = answers.filter(({ outcome }) => outcome === 'OUTCOME_ANSWERED');
    // The queue is bounded: who finds it full is refused, and has run nowhere.
    expect(answers.filter(({ outcome }) => outcome !== 'OUTCOME_ANSWERED')).toEqual(
      Array.from({ length: 100 - taken.length }, () =>
        expect.objectContaining({ outcome: 'OUTCOME_REFUSED', reason: 'QueueFull' }),
      ),
    );
    expect(taken.length).toBeGreaterThan(10);
    const bodies = taken.map(({ body }) => JSON.parse(body) as { counter: number; boot: string });
    expect(new Set(bodies.map(({ boot }) => boot)).size).toBe(1);
    expect(bodies.map(({ counter }) => counter).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: taken.length }, (_, index) => index + 1),
    );
    expect((await resumes()) - before).toBe(1);
    await lab.remove('popular');
  });

  it('a hundred paused workers are all woken at once', { tags: ['M12'], timeout: 300_000 }, async () => {
    const client = createKubeClient({
      source: createKubeConnectionSource({ kubeconfig: lab.api.adminKubeconfig }),
    });
    onTestFinished(() => client.close());
    const names = Array.from({ length: 100 }, (_, number) => `sleeper-${number}`);
    const spec = {
      image: lab.lab.image,
      desiredState: 'Paused',
      resources: { limits: { memory: '32Mi' } },
      ephemeralStorage: '4Mi',
    };
    for (const name of names) {
      const key = { namespace: 'default', name };
      await client.create(lambdaWorkers, {
        apiVersion: 'esb.dev/v1alpha1',
        kind: 'LambdaWorker',
        metadata: { ...key, finalizers: ['esb.dev/worker'] },
        spec: spec as unknown as LambdaWorker['spec'],
      });
      const assignment = { nodeName: lab.nodeName, epoch: 1 };
      await client.patch(
        lambdaWorkers,
        key,
        { kind: 'merge', body: { status: { assignment } }, fieldManager: 'test' },
        { subresource: 'status' },
      );
    }
    const sleepers = async (): Promise<readonly LambdaWorker[]> =>
      (await client.list(lambdaWorkers, { namespace: 'default' })).items.filter(({ metadata }) =>
        metadata.name.startsWith('sleeper-'),
      );
    const workers = await waitFor(
      'all to be paused',
      async () => {
        const found = await sleepers();
        return found.every(({ status }) => status?.phase === 'Paused') ? found : undefined;
      },
      { timeoutMs: 180_000, everyMs: 500 },
    );
    const before = await resumes();
    const answers = await Promise.all(workers.map((worker) => lab.invoke(worker)));
    expect(answers.map(({ outcome, start }) => `${outcome} ${start}`)).toEqual(
      names.map(() => 'OUTCOME_ANSWERED paused'),
    );
    expect((await resumes()) - before).toBe(names.length);
    for (const name of names) {
      await client.delete(lambdaWorkers, { namespace: 'default', name });
    }
    await waitFor(
      'all to be cleaned up',
      async () =>
        (await sleepers()).every(({ status }) =>
          (status?.conditions ?? []).some(({ type, status: is }) => type === 'CleanedUp' && is === 'True'),
        ),
      { timeoutMs: 180_000, everyMs: 500 },
    );
    for (const name of names) {
      const body = { metadata: { finalizers: null } };
      const patch = { kind: 'merge', body, fieldManager: 'test' } as const;
      await client.patch(lambdaWorkers, { namespace: 'default', name }, patch);
    }
    expect(await containers()).toEqual([]);
  });
});
