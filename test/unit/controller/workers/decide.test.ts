import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { conditionsOf, findCondition } from '../../../../src/api/condition.ts';
import type { LambdaWorker, LambdaWorkerStatus } from '../../../../src/api/lambda-worker.ts';
import type { Grant } from '../../../../src/controller/quota/quota-book.ts';
import type { Placement } from '../../../../src/controller/scheduling/place.ts';
import { decide } from '../../../../src/controller/workers/decide.ts';
import type { DecisionInput, LeftNode, WorkerDecision } from '../../../../src/controller/workers/decision.ts';
import { type WorkerFixture, workerFixture } from '../../../support/worker-fixture.ts';

const FINALIZER = 'esb.dev/worker';
const time = '2026-11-01T00:00:00Z';
const toNode2: Placement = { kind: 'placed', nodeName: 'node-2' };
const nowhere: Placement = {
  kind: 'refused',
  reason: 'NoneFits',
  message: 'no node will do: all full',
  detail: 'none of 1 nodes will do: 1 full',
  leaving: false,
};
const leaving: Placement = { ...nowhere, leaving: true };
type Conditions = NonNullable<LambdaWorkerStatus['conditions']>;
type Condition = Conditions[number];

const condition = (type: string, status: Condition['status'], reason: string, message = ''): Condition => ({
  type,
  status,
  reason,
  message,
  lastTransitionTime: time,
});
const scheduled = condition('Scheduled', 'True', 'Assigned', 'assigned to node node-1');

const assigned = (fixture: WorkerFixture & { conditions?: Conditions; phase?: LambdaWorkerStatus['phase'] } = {}) =>
  workerFixture({
    ...fixture,
    metadata: { finalizers: [FINALIZER], ...fixture.metadata },
    status: {
      assignment: { nodeName: 'node-1', epoch: 3 },
      phase: fixture.phase ?? 'Running',
      conditions: fixture.conditions ?? [scheduled, condition('Ready', 'True', 'Running')],
    },
  });

const decision = (worker: LambdaWorker, changes: Partial<Omit<DecisionInput, 'worker'>> = {}): WorkerDecision =>
  decide({
    worker,
    standing: { liveness: 'fresh' },
    left: [],
    deletingMs: 0,
    place: () => toNode2,
    grant: () => ({ kind: 'unbound' }),
    isLossTold: false,
    mayLeaveFullNode: true,
    mayLeave: () => true,
    ...changes,
  });

const deleting = { deletionTimestamp: time };
const gone = { liveness: 'lost', goneBecause: 'its LambdaNode was deleted' } as const;
const lost = { liveness: 'lost' } as const;

describe('a worker whose image is not made for the processor of its node', () => {
  const standing = { liveness: 'fresh', architecture: 'arm64' } as const;
  const wrong = { ...condition('Ready', 'False', 'ImageWrongPlatform'), observedGeneration: 1 };
  const worker = assigned({ conditions: [scheduled, wrong] });
  const known = { image: worker.spec.image, architectures: ['s390x'] };
  const asked = (one: LambdaWorker, changes: Partial<DecisionInput> = {}) => {
    const unfit: (readonly string[] | undefined)[] = [];
    const place = (_exclude?: string, architectures?: readonly string[]): Placement => {
      unfit.push(architectures);
      return toNode2;
    };
    return { made: decision(one, { standing, place, ...changes }), unfit };
  };

  it('moves to a node with another, and is kept off what it was found not to be made for', () => {
    const knowing = { ...worker, status: { ...worker.status, unfitArchitectures: known } };
    const { made, unfit } = asked(knowing);
    expect(made).toMatchObject({
      cause: 'moved',
      note: 'moved from node node-1 to node node-2, since the image is not made for arm64, the processor of node-1',
      status: { assignment: { nodeName: 'node-2', epoch: 4 }, unfitArchitectures: ['s390x', 'arm64'] },
    });
    expect(unfit).toEqual([['s390x', 'arm64']]);
  });

  it('forgets that with another image', () => {
    const before = { ...known, image: 'registry.example/hello:0' };
    const { made } = asked({ ...worker, status: { ...worker.status, unfitArchitectures: before } });
    expect(made).toMatchObject({ status: { unfitArchitectures: ['arm64'] } });
  });

  it('stays where no other node will do, where it is pinned, and until its agent has looked at the present spec', () => {
    expect(decision(worker, { standing, place: () => nowhere })).toEqual({ kind: 'nothing' });
    const pinned = { ...worker, spec: { ...worker.spec, nodeName: 'node-1' } };
    expect(asked(pinned).made).toEqual({ kind: 'nothing' });
    const changed = { ...worker, metadata: { ...worker.metadata, generation: 2 } };
    expect(asked(changed).made).toEqual({ kind: 'nothing' });
    expect(asked(worker, { standing: { liveness: 'fresh' } }).made).toEqual({ kind: 'nothing' });
  });
});

describe('a worker of a namespace with quotas', () => {
  const granted = { memoryMiB: 192, milliCPU: 10 };
  const grant = () => ({ kind: 'granted', granted }) as const;
  const message = 'LambdaQuota team would be exceeded: requested memory 192Mi, used 192Mi, hard 200Mi';
  const refuse = () => ({ kind: 'refused', message }) as const;
  const on = (has: object) =>
    workerFixture({
      metadata: { finalizers: [FINALIZER] },
      status: {
        assignment: { nodeName: 'node-1', epoch: 3, ...has },
        phase: 'Running',
        conditions: [scheduled, condition('Ready', 'True', 'Running')],
      },
    });

  it('is assigned with what was granted, or told which quota it would exceed, without a look at the nodes', () => {
    const worker = workerFixture({ metadata: { finalizers: [FINALIZER] } });
    expect(decision(worker, { grant })).toMatchObject({
      status: { assignment: { nodeName: 'node-2', epoch: 1, granted } },
    });
    const place = () => {
      throw new Error('nodes were looked at');
    };
    expect(decision(worker, { grant: refuse, place })).toMatchObject({
      kind: 'write',
      cause: 'refused',
      status: { scheduled: { status: 'False', reason: 'QuotaExceeded', message } },
    });
  });

  it('takes its grant along to another node', () => {
    const standing = { liveness: 'fresh', leave: { kind: 'draining' } } as const;
    expect(decision(on({ granted }), { grant, standing })).toMatchObject({
      cause: 'moved',
      status: { assignment: { nodeName: 'node-2', epoch: 4, granted } },
    });
  });

  it('has its grant written where that has changed, and taken off with the last quota', () => {
    expect(decision(on({ granted }), { grant })).toEqual({ kind: 'nothing' });
    expect(decision(on({}), { grant })).toMatchObject({
      cause: 'told',
      status: { assignment: { nodeName: 'node-1', epoch: 3, granted } },
    });
    expect(decision(on({ granted }))).toMatchObject({ status: { assignment: { nodeName: 'node-1', epoch: 3 } } });
    expect(decision(on({ granted }))).not.toHaveProperty('status.assignment.granted');
  });

  it('is granted what it asks for also where it is to leave its node, which makes no container beyond the grant', () => {
    const larger = { memoryMiB: 320, milliCPU: 10 };
    const stays = condition('Scheduled', 'False', 'NoneFits');
    const full = on({ granted });
    const worker = {
      ...full,
      status: { ...full.status, conditions: [stays, condition('Ready', 'False', 'NodeFull')] },
    };
    const granting = { grant: () => ({ kind: 'granted', granted: larger }) as const, place: () => nowhere };
    const draining = { liveness: 'fresh', leave: { kind: 'draining' } } as const;
    for (const one of [decision(worker, granting), decision(worker, { ...granting, standing: draining })]) {
      expect(one).toMatchObject({
        cause: 'told',
        status: { assignment: { nodeName: 'node-1', epoch: 3, granted: larger }, scheduled: stays },
      });
    }
    expect(decision(worker, { ...granting, standing: lost })).not.toHaveProperty('status.assignment.granted', larger);
  });

  it('that asks for more than is left stays on its node with what it had, and is told so once', () => {
    const told = `${message}; it stays on node node-1 as it was`;
    const full = on({ granted });
    for (const worker of [
      on({ granted }),
      { ...full, status: { ...full.status, conditions: [scheduled, condition('Ready', 'False', 'NodeFull')] } },
      { ...full, spec: { ...full.spec, nodeName: 'node-2' } },
    ]) {
      expect(decision(worker, { grant: refuse })).toMatchObject({
        kind: 'write',
        cause: 'refused',
        status: {
          assignment: { nodeName: 'node-1', epoch: 3, granted },
          scheduled: { status: 'False', reason: 'QuotaExceeded', message: told },
        },
      });
    }
    const conditions = [condition('Scheduled', 'False', 'QuotaExceeded', told), condition('Ready', 'True', 'Running')];
    const worker = { ...full, status: { ...full.status, conditions } };
    expect(decision(worker, { grant: refuse })).toEqual({ kind: 'nothing' });
    expect(decision(worker, { grant })).toMatchObject({
      status: { scheduled: { status: 'True', reason: 'Assigned' } },
    });
  });

  it('that asks for more than is left gets no other node: it waits on its own, where it can', () => {
    const asked = (standing: DecisionInput['standing']) => decision(on({ granted }), { grant: refuse, standing });
    expect(asked({ liveness: 'fresh', leave: { kind: 'draining' } })).toMatchObject({
      status: { assignment: { nodeName: 'node-1', epoch: 3, granted }, scheduled: { reason: 'QuotaExceeded' } },
    });
    const away = asked({ liveness: 'fresh', leave: { kind: 'retired' } });
    expect(away).toMatchObject({ cause: 'unassigned', status: { lastEpoch: 3, scheduled: { message } } });
    expect(away).not.toHaveProperty('status.assignment');
  });
});

describe('a worker without assignment', () => {
  it('gets the finalizer before its first assignment', () => {
    expect(decision(workerFixture())).toEqual({ kind: 'addFinalizer' });
    expect(decision(workerFixture({ metadata: { finalizers: [FINALIZER] } }))).toMatchObject({
      kind: 'write',
      cause: 'assigned',
      status: {
        assignment: { nodeName: 'node-2', epoch: 1 },
        scheduled: { status: 'True', reason: 'Assigned' },
      },
    });
  });

  it('is told why it cannot be assigned, once, and gets no finalizer', () => {
    const refusal = decision(workerFixture(), { place: () => nowhere });
    expect(refusal).toMatchObject({
      kind: 'write',
      cause: 'refused',
      note: 'none of 1 nodes will do: 1 full',
      status: {
        scheduled: { status: 'False', reason: 'NoneFits', message: 'no node will do: all full' },
        ready: { status: 'False', reason: 'NoneFits', message: 'no node will do: all full' },
        observedGeneration: 1,
      },
    });
    const told = (observedGeneration: number): LambdaWorker =>
      workerFixture({
        status: {
          observedGeneration,
          conditions: [
            condition('Scheduled', 'False', 'NoneFits', 'no node will do: all full'),
            condition('Ready', 'False', 'NoneFits', 'no node will do: all full'),
          ],
        },
      });
    expect(decision(told(1), { place: () => nowhere })).toEqual({ kind: 'nothing' });
    expect(decision(told(0), { place: () => nowhere }), 'of a spec before').toMatchObject({ kind: 'write' });
  });

  it('is told of, until its agent speaks, in the write that assigns it', () => {
    expect(decision(workerFixture({ metadata: { finalizers: [FINALIZER] } }))).toMatchObject({
      status: { ready: { status: 'Unknown', reason: 'Pending' }, observedGeneration: 1 },
    });
  });

  describe('that had one', () => {
    const left = (finalizers: readonly string[], conditions: Conditions = []) =>
      workerFixture({ metadata: { finalizers }, status: { lastEpoch: 3, observedGeneration: 1, conditions } });

    it('goes on with the epochs where it left off', () => {
      expect(decision(left([FINALIZER]))).toMatchObject({
        cause: 'assigned',
        status: {
          assignment: { nodeName: 'node-2', epoch: 4 },
          ready: { status: 'Unknown', reason: 'Reassigned' },
          phase: 'Unknown',
        },
      });
    });

    it('keeps its last epoch and its finalizer while it waits for one of the nodes', () => {
      const refusal = decision(left([FINALIZER]), { place: () => nowhere });
      expect(refusal).toMatchObject({ cause: 'refused', status: { lastEpoch: 3, phase: 'Pending' } });
      const told = [
        condition('Scheduled', 'False', 'NoneFits', 'no node will do: all full'),
        condition('Ready', 'False', 'Unassigned', 'taken away from its node: no node will do: all full'),
      ];
      expect(decision(left([FINALIZER], told), { place: () => nowhere })).toEqual({ kind: 'nothing' });
      expect(decision(left([], told), { place: () => nowhere })).toEqual({ kind: 'nothing' });
      expect(decision(left([], told))).toEqual({ kind: 'addFinalizer' });
    });

    it('loses the finalizer before anything else once ESB leaves every node', () => {
      expect(decision(left([FINALIZER]), { place: () => leaving })).toEqual({
        kind: 'removeFinalizer',
        because: 'it is assigned to no node',
        isNodeGone: false,
      });
      expect(decision(left([]), { place: () => leaving })).toMatchObject({ cause: 'refused' });
    });
  });

  it('is let go when it is deleted', () => {
    expect(decision(workerFixture({ metadata: { ...deleting, finalizers: [FINALIZER] } }))).toMatchObject({
      kind: 'removeFinalizer',
      isNodeGone: false,
    });
  });
});

describe('an assigned worker', () => {
  it('is left alone, however quiet its node', () => {
    expect(decision(assigned())).toEqual({ kind: 'nothing' });
    expect(decision(assigned(), { standing: { liveness: 'quiet' } })).toEqual({ kind: 'nothing' });
    expect(decision(assigned({ metadata: { generation: 9 } }))).toEqual({ kind: 'nothing' });
  });

  it('gets back a finalizer that was taken away', () => {
    expect(decision(assigned({ metadata: { finalizers: [] } }))).toEqual({ kind: 'addFinalizer' });
  });

  it('is moved with a higher epoch when its node is lost', () => {
    const excluded: (string | undefined)[] = [];
    const place = (exclude?: string): Placement => {
      excluded.push(exclude);
      return toNode2;
    };
    expect(decision(assigned(), { standing: lost, place })).toMatchObject({
      kind: 'write',
      cause: 'moved',
      status: {
        assignment: { nodeName: 'node-2', epoch: 4 },
        scheduled: { message: 'assigned to node node-2' },
        ready: { status: 'Unknown', reason: 'Reassigned' },
        phase: 'Unknown',
      },
    });
    expect(excluded).toEqual(['node-1']);
  });

  it('keeps its assignment when its node is lost and there is no other, and is told once', () => {
    const first = decision(assigned(), { standing: lost, place: () => nowhere });
    expect(first).toMatchObject({
      kind: 'write',
      cause: 'lost',
      status: {
        assignment: { nodeName: 'node-1', epoch: 3 },
        scheduled: { status: 'True', reason: 'Assigned' },
        ready: { status: 'Unknown', reason: 'NodeLost' },
        phase: 'Unknown',
      },
    });
    const message = first.kind === 'write' ? (first.status.ready?.message ?? '') : '';
    const told = assigned({
      phase: 'Unknown',
      conditions: [scheduled, condition('Ready', 'Unknown', 'NodeLost', message)],
    });
    expect(decision(told, { standing: lost, place: () => nowhere })).toEqual({ kind: 'nothing' });
    // Its agent writes again although its Lease is not renewed: no quarrel about it.
    expect(decision(assigned(), { standing: lost, place: () => nowhere, isLossTold: true })).toEqual({
      kind: 'nothing',
    });
  });

  it.each<[string, DecisionInput['standing'], string]>([
    ['is gone for good', gone, 'its LambdaNode was deleted'],
    ['is retired', { liveness: 'fresh', leave: { kind: 'retired' } }, 'node-1 is retired'],
    [
      'has a taint that it does not tolerate',
      { liveness: 'fresh', leave: { kind: 'tainted', taint: 'broken:NoExecute' } },
      'node-1 has the taint broken:NoExecute',
    ],
  ])('is moved when its node %s, and taken away where there is no other', (_when, standing, note) => {
    expect(decision(assigned(), { standing })).toMatchObject({
      cause: 'moved',
      status: { assignment: { nodeName: 'node-2', epoch: 4 } },
      note: expect.stringContaining(note) as string,
    });
    const away = decision(assigned(), { standing, place: () => nowhere });
    expect(away).toMatchObject({
      cause: 'unassigned',
      status: {
        lastEpoch: 3,
        scheduled: { status: 'False', reason: 'NoneFits', message: 'no node will do: all full' },
        ready: { status: 'False', reason: 'Unassigned' },
        phase: 'Pending',
      },
      note: expect.stringContaining(note) as string,
    });
    expect(away).not.toHaveProperty('status.assignment');
  });

  it('asks for a second look before it takes a node for gone', () => {
    expect(decision(assigned(), { standing: gone })).toMatchObject({ goneNode: 'node-1' });
    expect(decision(assigned(), { standing: gone, place: () => nowhere })).toMatchObject({
      goneNode: 'node-1',
    });
  });

  it('leaves a node that is being drained as soon as there is another, and stays and says so until then', () => {
    const standing = { liveness: 'fresh', leave: { kind: 'draining' } } as const;
    expect(decision(assigned(), { standing })).toMatchObject({
      cause: 'moved',
      status: { assignment: { nodeName: 'node-2', epoch: 4 } },
    });
    const staying = decision(assigned(), { standing, place: () => nowhere });
    expect(staying).toMatchObject({
      cause: 'told',
      status: {
        assignment: { nodeName: 'node-1', epoch: 3 },
        scheduled: {
          status: 'False',
          reason: 'NoneFits',
          message: expect.stringMatching(/node-1 is being drained.*stays there/) as string,
        },
      },
    });
    const told = assigned({
      conditions: [condition('Scheduled', 'False', 'NoneFits', staying.kind === 'write' ? staying.note : '')],
    });
    expect(decision(told, { standing, place: () => nowhere })).toEqual({ kind: 'nothing' });
    // The drain is called off.
    expect(decision(told)).toMatchObject({ cause: 'told', status: { scheduled: { status: 'True' } } });
    // Nothing else will ever do for one that is pinned there.
    const pinned = assigned({ spec: { nodeName: 'node-1' } });
    expect(decision(pinned, { standing, place: () => nowhere })).toMatchObject({ cause: 'unassigned' });
  });

  it('waits for its turn to leave a node that is drained or retired, and for nothing elsewhere', () => {
    const mayLeave = () => false;
    for (const kind of ['draining', 'retired'] as const) {
      const standing = { liveness: 'fresh', leave: { kind } } as const;
      expect(decision(assigned(), { standing, mayLeave })).toEqual({ kind: 'nothing' });
    }
    const tainted = { kind: 'tainted', taint: 'broken:NoExecute' } as const;
    expect(decision(assigned(), { standing: { liveness: 'fresh', leave: tainted }, mayLeave })).toMatchObject({
      cause: 'moved',
    });
    expect(decision(assigned(), { standing: lost, mayLeave })).toMatchObject({ cause: 'moved' });
    // Where there is no other node, a wait serves no worker.
    const retired = { liveness: 'fresh', leave: { kind: 'retired' } } as const;
    expect(decision(assigned(), { standing: retired, mayLeave, place: () => nowhere })).toMatchObject({
      cause: 'unassigned',
    });
  });

  it.each(['AgentStarting', 'ManyUnreachable', 'RateLimited'] as const)(
    'stays on a node that is unreachable and is told so once (%s)',
    (stays) => {
      const standing = { liveness: 'unreachable', stays } as const;
      const first = decision(assigned(), { standing });
      expect(first).toMatchObject({
        kind: 'write',
        cause: 'lost',
        status: {
          assignment: { nodeName: 'node-1', epoch: 3 },
          ready: { status: 'Unknown', reason: 'NodeLost' },
          phase: 'Unknown',
        },
      });
      const message = first.kind === 'write' ? (first.status.ready?.message ?? '') : '';
      const conditions = [scheduled, condition('Ready', 'Unknown', 'NodeLost', message)];
      expect(decision(assigned({ phase: 'Unknown', conditions }), { standing })).toEqual({ kind: 'nothing' });
      expect(decision(assigned(), { standing, isLossTold: true })).toEqual({ kind: 'nothing' });
    },
  );

  it('is left alone while no node is heard at all, deleted or not', () => {
    const standing = { liveness: 'unreachable', stays: 'NoNodeHeard' } as const;
    expect(decision(assigned(), { standing })).toEqual({ kind: 'nothing' });
    expect(decision(assigned({ metadata: deleting }), { standing })).toEqual({ kind: 'nothing' });
  });

  it('leaves an unreachable node that is drained or retired, and follows its pin', () => {
    for (const kind of ['draining', 'retired'] as const) {
      const standing = { liveness: 'unreachable', stays: 'ManyUnreachable', leave: { kind } } as const;
      expect(decision(assigned(), { standing })).toMatchObject({ cause: 'moved' });
    }
    const standing = { liveness: 'unreachable', stays: 'ManyUnreachable' } as const;
    expect(decision(assigned({ spec: { nodeName: 'node-2' } }), { standing })).toMatchObject({ cause: 'moved' });
  });

  it('is taken for lost, whatever else its node is', () => {
    const standing = { liveness: 'lost', leave: { kind: 'retired' } } as const;
    expect(decision(assigned(), { standing, place: () => nowhere })).toMatchObject({
      cause: 'lost',
      status: { assignment: { nodeName: 'node-1', epoch: 3 } },
    });
  });

  it('is moved when its agent has no room to wake it, unless it is pinned or was moved just now', () => {
    const conditions = [scheduled, condition('Ready', 'False', 'NodeFull')];
    const full = assigned({ phase: 'Absent', conditions });
    expect(decision(full)).toMatchObject({
      cause: 'moved',
      status: { assignment: { nodeName: 'node-2', epoch: 4 } },
    });
    expect(decision(full, { mayLeaveFullNode: false })).toEqual({ kind: 'nothing' });
    // Its node is about to have more room.
    expect(decision(full, { standing: { liveness: 'fresh', growing: true } })).toEqual({ kind: 'nothing' });
    expect(decision(full, { place: () => nowhere })).toEqual({ kind: 'nothing' });
    expect(decision(assigned({ phase: 'Absent', conditions, spec: { nodeName: 'node-1' } }))).toEqual({
      kind: 'nothing',
    });
  });

  it('follows its pin, and stays and says so while the pinned node cannot take it', () => {
    const pinned = assigned({ spec: { nodeName: 'node-2' } });
    expect(decision(pinned)).toMatchObject({
      cause: 'moved',
      status: { assignment: { nodeName: 'node-2', epoch: 4 } },
    });
    expect(decision(pinned, { place: () => nowhere })).toMatchObject({
      cause: 'told',
      status: {
        assignment: { nodeName: 'node-1', epoch: 3 },
        scheduled: { status: 'False', message: expect.stringContaining('it stays on node node-1') as string },
      },
    });
  });
});

describe('an assigned worker that is deleted', () => {
  it('is let go once its node has cleaned up', () => {
    expect(decision(assigned({ metadata: deleting }))).toEqual({ kind: 'nothing' });
    const clean = assigned({ metadata: deleting, conditions: [condition('CleanedUp', 'True', 'CleanedUp')] });
    expect(decision(clean)).toMatchObject({ kind: 'removeFinalizer', isNodeGone: false });
  });

  it('is let go when its node is gone for good', () => {
    expect(decision(assigned({ metadata: deleting }), { standing: gone })).toEqual({
      kind: 'removeFinalizer',
      because: 'its LambdaNode was deleted',
      isNodeGone: true,
    });
  });

  it('is kept, and told, while its node is only silent', () => {
    expect(decision(assigned({ metadata: deleting }), { standing: lost })).toMatchObject({
      kind: 'write',
      cause: 'lost',
      status: { assignment: { nodeName: 'node-1', epoch: 3 }, ready: { reason: 'NodeLost' } },
    });
    expect(decision(assigned({ metadata: deleting }), { standing: lost, isLossTold: true })).toEqual({
      kind: 'nothing',
    });
  });

  it('needs nothing once our finalizer is off', () => {
    expect(decision(assigned({ metadata: { ...deleting, finalizers: ['other'] } }))).toEqual({
      kind: 'nothing',
    });
  });
});

describe('a worker that is deleted after it left a node', () => {
  const node = (change: Partial<LeftNode> = {}): LeftNode => ({
    liveness: 'fresh',
    lists: false,
    leftMs: 60_000,
    ...change,
  });
  const taken = workerFixture({
    metadata: { ...deleting, finalizers: [FINALIZER] },
    spec: { timeoutSeconds: 60, terminationGracePeriodSeconds: 10 },
    status: { lastEpoch: 3 },
  });
  const moved = assigned({ metadata: deleting, conditions: [condition('CleanedUp', 'True', 'CleanedUp')] });

  it.each([
    ['taken away', taken],
    ['moved', moved],
  ])('waits for a node that says that a container is left, when it was %s', (_, worker) => {
    expect(decision(worker, { left: [node({ lists: true })] })).toMatchObject({ kind: 'wait' });
    expect(decision(worker, { left: [node({ lists: true, liveness: 'quiet' })] })).toMatchObject({
      kind: 'wait',
    });
    expect(decision(worker, { left: [node(), node({ lists: true })] })).toMatchObject({ kind: 'wait' });
    expect(decision(worker, { left: [node()] })).toMatchObject({ kind: 'removeFinalizer' });
  });

  it('waits for the word of a node for thirty seconds after it was taken away from there', () => {
    expect(decision(taken, { left: [node({ leftMs: 0 })] })).toEqual({ kind: 'wait', forMs: 30_000 });
    expect(decision(taken, { left: [node({ leftMs: 29_000 })] })).toEqual({ kind: 'wait', forMs: 1_000 });
    expect(decision(taken, { left: [node({ leftMs: 30_000 })] })).toMatchObject({ kind: 'removeFinalizer' });
  });

  it.each<[string, Partial<LeftNode>]>([
    ['is lost', { liveness: 'lost', lists: true, leftMs: 0 }],
    ['is gone', { goneBecause: 'its LambdaNode was deleted', leftMs: 0 }],
  ])('does not wait for a node that %s', (_, change) => {
    expect(decision(taken, { left: [node(change)] })).toMatchObject({ kind: 'removeFinalizer' });
  });

  it('waits for no node longer than a call, the grace period and five minutes', () => {
    const left = [node({ lists: true })];
    expect(decision(taken, { left, deletingMs: 369_000 })).toEqual({ kind: 'wait', forMs: 1_000 });
    expect(decision(taken, { left, deletingMs: 370_000 })).toMatchObject({ kind: 'removeFinalizer' });
  });

  it('waits for its present node first', () => {
    const left = [node({ lists: true })];
    expect(decision(assigned({ metadata: deleting }), { left })).toEqual({ kind: 'nothing' });
  });
});

describe('whatever is known', () => {
  const workers = fc
    .record({
      hasFinalizer: fc.boolean(),
      isDeleting: fc.boolean(),
      epoch: fc.option(fc.integer({ min: 1, max: 9 }), { nil: undefined }),
      pin: fc.constantFrom(undefined, 'node-1', 'node-2'),
      phase: fc.constantFrom<LambdaWorkerStatus['phase']>('Running', 'Paused', 'Absent', 'Unknown', undefined),
      conditions: fc.subarray<Condition>([
        scheduled,
        condition('CleanedUp', 'True', 'CleanedUp'),
        condition('Ready', 'False', 'NodeFull'),
      ]),
    })
    .map(({ hasFinalizer, isDeleting, epoch, pin, phase, conditions }) =>
      workerFixture({
        metadata: { finalizers: hasFinalizer ? [FINALIZER] : [], ...(isDeleting ? deleting : {}) },
        ...(pin === undefined ? {} : { spec: { nodeName: pin } }),
        status: {
          ...(epoch === undefined ? {} : { assignment: { nodeName: 'node-1', epoch } }),
          ...(phase === undefined ? {} : { phase }),
          conditions,
        },
      }),
    );
  const inputs: fc.Arbitrary<DecisionInput> = fc
    .record({
      worker: workers,
      standing: fc.constantFrom<DecisionInput['standing']>(
        { liveness: 'fresh' },
        { liveness: 'quiet' },
        { liveness: 'unreachable', stays: 'RateLimited' },
        { liveness: 'unreachable', stays: 'NoNodeHeard' },
        lost,
        gone,
        { liveness: 'fresh', leave: { kind: 'retired' } },
        { liveness: 'fresh', leave: { kind: 'draining' } },
        { liveness: 'quiet', leave: { kind: 'tainted', taint: 'broken:NoExecute' } },
      ),
      hasRoom: fc.boolean(),
      isLossTold: fc.boolean(),
      mayLeaveFullNode: fc.boolean(),
      isItsTurn: fc.boolean(),
      answer: fc.constantFrom<Grant>(
        { kind: 'unbound' },
        { kind: 'granted', granted: { memoryMiB: 192, milliCPU: 10 } },
        { kind: 'refused', message: 'LambdaQuota team would be exceeded' },
      ),
      deletingMs: fc.constantFrom(0, 400_000),
      left: fc.array(
        fc.record({
          liveness: fc.constantFrom('fresh' as const, 'quiet' as const, 'unreachable' as const, 'lost' as const),
          lists: fc.boolean(),
          leftMs: fc.constantFrom(0, 60_000),
        }),
        { maxLength: 2 },
      ),
    })
    .map(({ answer, hasRoom, isItsTurn, ...input }) => ({
      ...input,
      grant: () => answer,
      mayLeave: () => isItsTurn,
      // As placement does, it honours the pin.
      place: () => (hasRoom && input.worker.spec.nodeName !== 'node-1' ? toNode2 : nowhere),
    }));

  it('an assignment is written only with the finalizer on, and never to a worker that is being deleted', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const made = decide(input);
        const before = input.worker.status?.assignment;
        const after = made.kind === 'write' ? made.status.assignment : undefined;
        if (made.kind === 'write' && after !== undefined && after.nodeName !== before?.nodeName) {
          expect(input.worker.metadata.finalizers).toContain(FINALIZER);
          expect(input.worker.metadata.deletionTimestamp).toBeUndefined();
          expect(made.status.assignment?.epoch).toBe((before?.epoch ?? 0) + 1);
        }
      }),
    );
  });

  it('an epoch is never lowered nor forgotten, and an assignment only dropped where the node must be left', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const made = decide(input);
        const before = input.worker.status?.assignment;
        if (made.kind === 'write' && before !== undefined) {
          const { assignment, lastEpoch } = made.status;
          expect(assignment?.epoch ?? lastEpoch).toBeGreaterThanOrEqual(before.epoch);
          if (assignment === undefined) {
            const { goneBecause, leave } = input.standing;
            expect(goneBecause ?? leave).toBeDefined();
          }
        }
      }),
    );
  });

  it('the finalizer is taken off only when the node has cleaned up, never had the worker, or is gone for good', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const { worker, standing } = input;
        if (decide(input).kind === 'removeFinalizer') {
          const isAlive = worker.metadata.deletionTimestamp === undefined;
          expect(isAlive && worker.status?.assignment !== undefined).toBe(false);
          const isClean = worker.status?.conditions?.some((one) => one.type === 'CleanedUp') === true;
          expect(worker.status?.assignment === undefined || isClean || standing.goneBecause !== undefined).toBe(true);
        }
      }),
    );
  });

  it('a worker is let go while a node that is alive says that it has a container only once its time is over', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const { worker, left, deletingMs } = input;
        const isHeld = left.some(({ liveness, lists }) => liveness !== 'lost' && lists === true);
        const isDeleting = worker.metadata.deletionTimestamp !== undefined;
        if (isDeleting && isHeld && decide(input).kind === 'removeFinalizer') {
          expect(deletingMs).toBe(400_000);
        }
      }),
    );
  });

  it('a worker stays on a node that is alive, unless its pin or want of room says otherwise', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        const { worker, standing } = input;
        const isFull = worker.status?.conditions?.some((one) => one.reason === 'NodeFull') === true;
        const before = worker.status?.assignment;
        const made = decide(input);
        if (
          before !== undefined &&
          standing.liveness !== 'lost' &&
          standing.leave === undefined &&
          !isFull &&
          worker.spec.nodeName !== 'node-2'
        ) {
          const { nodeName, epoch } = before;
          expect(made.kind === 'write' ? made.status.assignment : before).toMatchObject({ nodeName, epoch });
        }
      }),
    );
  });

  it('what is written leads to rest: the next decision about the result is nothing, or the next step', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        let { worker } = input;
        for (let step = 0; step < 5; step++) {
          // A move ends at node-2, which is alive.
          const onNode1 = worker.status?.assignment?.nodeName === 'node-1';
          const made = decide({
            ...input,
            worker,
            standing: onNode1 ? input.standing : { liveness: 'fresh' },
          });
          const isLetGo = made.kind === 'removeFinalizer' && worker.metadata.deletionTimestamp !== undefined;
          if (made.kind === 'nothing' || made.kind === 'wait' || isLetGo) {
            return;
          }
          worker = applied(worker, made);
        }
        throw new Error('never comes to rest');
      }),
    );
  });
});

function applied(worker: LambdaWorker, made: WorkerDecision): LambdaWorker {
  if (made.kind === 'addFinalizer') {
    return { ...worker, metadata: { ...worker.metadata, finalizers: [FINALIZER] } };
  }
  if (made.kind === 'removeFinalizer') {
    return { ...worker, metadata: { ...worker.metadata, finalizers: [] } };
  }
  if (made.kind !== 'write') {
    return worker;
  }
  const { assignment, lastEpoch, observedGeneration, phase, scheduled, ready } = made.status;
  const { conditions: present = [] } = worker.status ?? {};
  const { generation } = worker.metadata;
  const told = conditionsOf({ Scheduled: scheduled, Ready: ready }, { present, generation, now: Date.parse(time) });
  const kept = present.filter(({ type }) => findCondition(told, type) === undefined);
  return {
    ...worker,
    status: {
      ...(worker.status?.phase === undefined ? {} : { phase: worker.status.phase }),
      ...(lastEpoch === undefined ? {} : { lastEpoch }),
      ...(assignment === undefined ? {} : { assignment }),
      ...(phase === undefined ? {} : { phase }),
      ...(observedGeneration === undefined ? {} : { observedGeneration }),
      conditions: [...kept, ...told],
    },
  };
}
