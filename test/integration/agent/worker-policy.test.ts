import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { objectsIn, renderChart } from '../../support/chart.ts';

const breaking = { readOnlyRootFilesystem: false } as const;
const condition = (worker: LambdaWorker, type: string) =>
  worker.status?.conditions?.find((found) => found.type === type);

/** The admission policy is not there, as if somebody had deleted it: what agents know of it is. */
describe('without the admission policy, an agent', () => {
  let lab: AgentLab;

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
    await lab.untilServing();
    await lab.apply('before', breaking);
    const before = await lab.waitForPhase('before', 'Running');
    // Times of creation are whole seconds: the policy has to come in a later one than the worker.
    await setTimeout(Math.max(0, Date.parse(before.metadata.creationTimestamp ?? '') + 1000 - Date.now()));
    const known = objectsIn(await renderChart(['--show-only=templates/worker-policy.yaml'])).find(
      ({ kind }) => kind === 'ConfigMap',
    );
    await lab.api.kubectl(['create', '-f', '-'], JSON.stringify(known));
  });

  afterAll(() => lab.close());

  it('runs on what was made before, and tells of it', async () => {
    const worker = await lab.waitForWorker(
      'before',
      'to be told of',
      (found) => condition(found, 'WithinPolicy')?.reason === 'MadeBeforePolicy',
    );
    expect(condition(worker, 'Ready')?.status).toBe('True');
    expect((await lab.invoke(worker)).outcome).toBe('OUTCOME_ANSWERED');
    const { containerID } = worker.status ?? {};
    await lab.killAgent();
    await lab.startAgent();
    await lab.untilServing();
    const after = await lab.worker('before');
    expect(after.status?.containerID).toBe(containerID);
    expect((await lab.invoke(after)).outcome).toBe('OUTCOME_ANSWERED');
  });

  it('makes no container of what was made since, until its namespace is let', { tags: ['T18'] }, async () => {
    await lab.apply('since', breaking);
    const refused = await lab.waitForWorker(
      'since',
      'to be refused',
      (found) => condition(found, 'Ready')?.reason === 'PolicyRefused',
    );
    expect(refused.status?.containerID).toBeUndefined();
    expect(condition(refused, 'WithinPolicy')?.message).toContain('spec.readOnlyRootFilesystem is false');
    expect((await lab.lab.ctr('containers', 'list', '-q')).split('\n').filter((id) => id.startsWith('since'))).toEqual(
      [],
    );
    // Agents look at the labels again when they start, and every minute.
    await lab.api.kubectl(['label', 'namespace', 'default', 'esb.dev/privileged-workers=true']);
    await lab.stopAgent();
    await lab.startAgent();
    await lab.untilServing();
    const running = await lab.waitForWorker('since', 'to run', ({ status }) => status?.phase === 'Running');
    expect(condition(running, 'WithinPolicy')).toBeUndefined();
    await lab.waitForWorker(
      'before',
      'to be told of no more',
      (found) => condition(found, 'WithinPolicy') === undefined,
    );
    await lab.remove('since');
    await lab.remove('before');
  });
});
