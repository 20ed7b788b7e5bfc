import { describe, expect, it } from 'vitest';
import { isCallable } from '../../../../src/api/condition.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { created, decided, told } from '../../../support/judged-objects.ts';

const typesOf = (worker: LambdaWorker): readonly string[] => (worker.status?.conditions ?? []).map(({ type }) => type);
const ready = (worker: LambdaWorker) => worker.status?.conditions?.find(({ type }) => type === 'Ready');
const refused = () =>
  ({ kind: 'refused', reason: 'NoneMatches', message: 'no', detail: 'no', leaving: false }) as const;

describe("the controller's part of a worker's status", () => {
  it('begins with the write that assigns the worker, and has no condition that an agent could leave behind', async () => {
    const assigned = decided(await created('LambdaWorker'), {});
    expect(typesOf(assigned)).toEqual(['Scheduled', 'Ready']);
    expect(ready(assigned)).toMatchObject({ status: 'Unknown', reason: 'Pending' });
    expect(assigned.status?.observedGeneration).toBe(1);
  });

  it('without a node has the verdict as well', async () => {
    const waiting = decided(await created('LambdaWorker'), { place: refused });
    expect(typesOf(waiting)).toEqual(['Scheduled', 'Ready', 'Stalled']);
    expect(ready(waiting)).toMatchObject({ status: 'False', reason: 'NoneMatches' });
  });

  it('keeps the word about a worker that no agent has reported yet', async () => {
    const assigned = decided(await created('LambdaWorker'), {});
    const pinned = { ...assigned, spec: { ...assigned.spec, nodeName: 'node-2' } };
    const stays = decided(pinned, { place: refused });
    expect(stays.status?.conditions).toMatchObject([
      { type: 'Scheduled', status: 'False', reason: 'NoneMatches' },
      { type: 'Ready', status: 'Unknown', reason: 'Pending' },
    ]);
  });

  it('tells of a loss by Ready alone, and leaves the words of the agent about the rest', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const serves = told(lab, decided(await created('LambdaWorker'), {}));
    const lost = decided(serves, { standing: { liveness: 'lost' }, place: refused });
    expect(ready(lost)).toMatchObject({ status: 'Unknown', reason: 'NodeLost' });
    expect(isCallable(serves.status?.conditions)).toBe(true);
    expect(isCallable(lost.status?.conditions)).toBe(false);
    expect(lost.status?.conditions?.find(({ type }) => type === 'UpToDate')?.status).toBe('True');
  });

  it('takes away the verdict of the last agent with the node', async () => {
    const lab = await FleetLab.with(desiredFixture({ env: [{ name: 'A', secret: { name: 'vault', key: 'a' } }] }));
    const stalled = told(lab, decided(await created('LambdaWorker'), {}));
    expect(typesOf(stalled)).toContain('Stalled');
    const full = () => ({ ...refused(), reason: 'NoneFits' }) as const;
    const away = decided(stalled, { standing: { liveness: 'fresh', leave: { kind: 'retired' } }, place: full });
    for (const type of ['Stalled', 'Reconciling', 'Callable']) {
      expect(typesOf(away), 'what an agent has applied as well').not.toContain(type);
    }
    expect(ready(away)).toMatchObject({ status: 'False', reason: 'Unassigned' });
  });
});
