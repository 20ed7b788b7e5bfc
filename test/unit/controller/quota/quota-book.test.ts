import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LambdaQuota, LambdaQuotaSpec } from '../../../../src/api/lambda-quota.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { boundsOf, excessOf, statusOf } from '../../../../src/controller/quota/amounts.ts';
import {
  QUEUE_INDEX,
  QUOTA_INDEX,
  QuotaBook,
  queueIndex,
  quotaIndex,
} from '../../../../src/controller/quota/quota-book.ts';
import { AssignmentCache } from '../../../../src/controller/scheduling/assignment-cache.ts';
import { createObjectCache } from '../../../../src/kube/cache/object-cache.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const quota = (hard: LambdaQuotaSpec['hard'], name = 'team', namespace = 'default'): LambdaQuota => ({
  metadata: { name, namespace, uid: `uid-of-${name}`, generation: 1 },
  spec: { hard },
});

const sized = (name: string, memory: string, second = 0, cpu = '10m'): LambdaWorker =>
  workerFixture({
    name,
    metadata: { creationTimestamp: `2026-11-01T00:00:${String(second).padStart(2, '0')}Z` },
    spec: { resources: { limits: { memory }, requests: { cpu }, pids: 256 } },
  });

class Scene {
  readonly quotas = createObjectCache<LambdaQuota>({ [QUOTA_INDEX]: quotaIndex });
  readonly workers = createObjectCache<LambdaWorker>({ [QUEUE_INDEX]: queueIndex });
  readonly assignments = new AssignmentCache();
  readonly book = new QuotaBook(this);
  #epoch = 0;

  constructor(...quotas: LambdaQuota[]) {
    for (const one of quotas) {
      this.quotas.set(one);
    }
  }

  show(...workers: LambdaWorker[]): void {
    for (const worker of workers) {
      this.workers.set(worker);
      this.assignments.observe(worker);
    }
    this.book.note('default');
  }

  /** Assigns the worker as the reconciler does, if the quotas let it. */
  try(worker: LambdaWorker): string {
    const grant = this.book.grant(worker);
    if (grant.kind === 'refused') {
      return grant.message;
    }
    const { nodeName, epoch } = worker.status?.assignment ?? { nodeName: 'node-1', epoch: ++this.#epoch };
    const granted = grant.kind === 'granted' ? { granted: grant.granted } : {};
    this.assignments.assume(worker, { nodeName, epoch, ...granted });
    return grant.kind;
  }
}

describe('the bounds of a quota', () => {
  it('are read in the units of workers, and what is not named is not bounded', () => {
    expect(boundsOf(quota({ memory: '1Gi', cpu: '1500m', workers: 5 }))).toEqual({
      name: 'team',
      hard: { memoryMiB: 1_024, milliCPU: 1_500, workers: 5 },
    });
    expect(boundsOf(quota({ memory: 3 * 2 ** 20 + 1 })).hard).toEqual({ memoryMiB: 3 });
  });

  it('judge only what more is asked for of', () => {
    const bounds = [boundsOf(quota({ memory: '100Mi', workers: 1 }))];
    const used = { memoryMiB: 500, milliCPU: 0, workers: 1 };
    expect(excessOf(bounds, used, { memoryMiB: 0, milliCPU: 900, workers: 0 })).toBeUndefined();
    expect(excessOf(bounds, used, { memoryMiB: -5, milliCPU: 0, workers: 1 })?.text).toBe(
      'LambdaQuota team would be exceeded: requested workers 1, used 1, hard 1',
    );
  });

  it('are told with what is used of them', () => {
    const used = { memoryMiB: 384, milliCPU: 20, workers: 2 };
    expect(statusOf(quota({ memory: '1Gi', workers: 5 }), used)).toEqual({
      observedGeneration: 1,
      hard: { memory: '1024Mi', workers: 5 },
      used: { memory: '384Mi', workers: 2 },
    });
  });
});

describe('a worker', () => {
  it('of a namespace without a quota is not bound, and one of another namespace uses none of it', () => {
    const scene = new Scene(quota({ workers: 0 }, 'other', 'elsewhere'));
    expect(scene.try(sized('a', '128Mi'))).toBe('unbound');
  });

  it('beyond a quota is refused with its name, what is used and what is allowed, and all quotas hold', () => {
    const scene = new Scene(quota({ workers: 2 }, 'number'), quota({ memory: '400Mi' }, 'memory'));
    const [a, b, c] = ['a', 'b', 'c'].map((name) => sized(name, '128Mi')) as [LambdaWorker, LambdaWorker, LambdaWorker];
    scene.show(a, b, c);
    expect(scene.try(a)).toBe('granted');
    expect(scene.try(b)).toBe('granted');
    expect(scene.try(c)).toBe('LambdaQuota memory would be exceeded: requested memory 192Mi, used 384Mi, hard 400Mi');
  });

  it('that rests Absent counts as one that runs', () => {
    const scene = new Scene(quota({ cpu: '15m' }));
    const resting = sized('a', '128Mi');
    expect(scene.try({ ...resting, spec: { ...resting.spec, desiredState: 'Absent' } })).toBe('granted');
    expect(scene.try(sized('b', '128Mi'))).toContain('requested cpu 10m, used 10m, hard 15m');
  });

  it('waits for older ones that have room, and not for those that have none', () => {
    const scene = new Scene(quota({ memory: '600Mi' }));
    const old = sized('z', '128Mi', 1);
    const large = sized('large', '1Gi', 0);
    const [young, younger] = [sized('a', '128Mi', 2), sized('b', '128Mi', 3)];
    const last = sized('c', '128Mi', 4);
    scene.show(large, old, young, younger, last);
    expect(scene.try(last)).toBe(
      'older workers go first: LambdaQuota team would be exceeded: requested memory 192Mi, used 576Mi, hard 600Mi',
    );
    expect(scene.try(younger)).toBe('granted');
    expect(scene.try(old)).toBe('granted');
    expect(scene.try(large)).toContain('would be exceeded');
    expect(scene.try(last)).toContain('older workers go first');
    expect(scene.try(young)).toBe('granted');
    expect(scene.assignments.usage('default')).toMatchObject({ memoryMiB: 576, workers: 3 });
  });

  it('that waits for a node holds up nobody, and goes behind older ones itself', () => {
    const scene = new Scene(quota({ workers: 1 }));
    const nowhere = { type: 'Scheduled', status: 'False', reason: 'NoneFits', message: '' } as const;
    const unplaced = {
      ...sized('unplaced', '128Mi', 1),
      status: { conditions: [{ ...nowhere, lastTransitionTime: '2026-11-01T00:00:00Z' }] },
    };
    const [older, younger] = [sized('older', '128Mi', 0), sized('younger', '128Mi', 2)];
    scene.show(unplaced, younger);
    expect(scene.book.grant(younger).kind).toBe('granted');
    scene.show(older);
    expect(scene.book.grant(unplaced)).toMatchObject({ kind: 'refused' });
  });
});

describe('an assigned worker', () => {
  const assignment = { nodeName: 'node-1', epoch: 1 };
  const granted = { memoryMiB: 192, milliCPU: 10 };
  const on = (worker: LambdaWorker, grant: typeof granted | 'none' = granted): LambdaWorker => ({
    ...worker,
    status: { assignment: { ...assignment, ...(grant === 'none' ? {} : { granted: grant }) }, phase: 'Running' },
  });

  it('stays when the quota is lowered, and others wait', () => {
    const scene = new Scene(quota({ memory: '100Mi' }));
    const worker = on(sized('a', '128Mi'));
    scene.show(worker);
    expect(scene.try(worker)).toBe('granted');
    expect(scene.try(sized('b', '128Mi'))).toContain('used 192Mi, hard 100Mi');
  });

  it('that no quota has counted yet keeps what it has', () => {
    const scene = new Scene(quota({ memory: '100Mi' }));
    const worker = on(sized('a', '1Gi'), 'none');
    scene.show(worker);
    expect(scene.book.grant(worker)).toEqual({ kind: 'granted', granted: { memoryMiB: 1_088, milliCPU: 10 } });
  });

  it('grows as far as there is room, shrinks at any time, and counts as granted until then', () => {
    const scene = new Scene(quota({ memory: '500Mi' }));
    const [grown, beyond] = [on(sized('a', '400Mi')), on(sized('a', '500Mi'))];
    scene.show(grown);
    expect(scene.assignments.usage('default').memoryMiB).toBe(192);
    expect(scene.book.grant(beyond)).toMatchObject({ kind: 'refused' });
    expect(scene.try(grown)).toBe('granted');
    expect(scene.assignments.usage('default').memoryMiB).toBe(464);
    // A decision counts at once, although the cache shows the worker as it was.
    scene.assignments.observe(grown);
    expect(scene.assignments.usage('default').memoryMiB).toBe(464);
    scene.assignments.observe(on(sized('a', '400Mi'), { memoryMiB: 464, milliCPU: 10 }));
    expect(scene.assignments.assumed('uid-of-a')).toBeUndefined();
    expect(scene.book.grant(on(sized('a', '64Mi'), { memoryMiB: 464, milliCPU: 10 }))).toMatchObject({
      granted: { memoryMiB: 128 },
    });
  });
});

describe('an assigned worker whose growth is refused', () => {
  const assignment = { nodeName: 'node-1', epoch: 1, granted: { memoryMiB: 192, milliCPU: 10 } };
  const refused = { type: 'Scheduled', status: 'False', reason: 'QuotaExceeded', message: '' } as const;
  const waiting = (name: string, memory: string, second: number): LambdaWorker => ({
    ...sized(name, memory, second),
    status: { assignment, phase: 'Running', conditions: [{ ...refused, lastTransitionTime: '2026-11-01T00:00:00Z' }] },
  });

  it('has its turn by its age, for what it asks beyond its grant', () => {
    const scene = new Scene(quota({ memory: '500Mi' }));
    const grower = waiting('grower', '256Mi', 1);
    const [older, younger] = [sized('older', '128Mi', 0), sized('younger', '128Mi', 2)];
    scene.show(grower, younger);
    // 192 of 500 MiB are used: 128 more fit, and 192 do not fit after them.
    expect(scene.try(younger)).toContain('older workers go first');
    expect(scene.book.grant(grower)).toMatchObject({ kind: 'granted', granted: { memoryMiB: 320 } });
    scene.show(older);
    expect(scene.try(grower)).toContain('older workers go first');
    expect(scene.try(older)).toBe('granted');
    expect(scene.try(grower)).toContain('requested memory 128Mi, used 384Mi, hard 500Mi');
  });

  it("stands in no other worker's way once it asks for no more", () => {
    const scene = new Scene(quota({ memory: '400Mi' }));
    scene.show(waiting('grower', '128Mi', 1));
    expect(scene.try(sized('younger', '128Mi', 2))).toBe('granted');
  });
});

describe('quotas, in whatever order workers come, grow and go', () => {
  const steps = fc.array(
    fc.record({
      kind: fc.constantFrom('create', 'create', 'try', 'try', 'grow', 'delete', 'catch up'),
      worker: fc.nat(9),
      memoryMiB: fc.integer({ min: 6, max: 400 }),
    }),
    { maxLength: 60 },
  );

  it('never have more used than they allow', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 100, max: 1_500 }), fc.nat(6), (list, mib, workers) => {
        const scene = new Scene(quota({ memory: `${mib}Mi` }, 'memory'), quota({ workers }, 'number'));
        const present = new Map<number, LambdaWorker>();
        for (const { kind, worker, memoryMiB } of list) {
          const one = present.get(worker);
          const name = `w${worker}`;
          if (kind === 'create' && one === undefined) {
            present.set(worker, sized(name, `${memoryMiB}Mi`, worker));
            scene.show(present.get(worker) as LambdaWorker);
          } else if (one !== undefined && kind === 'grow') {
            const { resources } = sized(name, `${memoryMiB}Mi`).spec;
            present.set(worker, { ...one, spec: { ...one.spec, ...(resources === undefined ? {} : { resources }) } });
            scene.show(present.get(worker) as LambdaWorker);
          } else if (one !== undefined && kind === 'delete') {
            present.delete(worker);
            scene.workers.replace(scene.workers.list().filter(({ metadata }) => metadata.name !== name));
            scene.assignments.forget(one.metadata.uid ?? '');
            scene.book.note('default');
          } else if (
            one !== undefined &&
            kind === 'try' &&
            scene.assignments.assumed(one.metadata.uid ?? '') === undefined
          ) {
            const grant = scene.book.grant(one);
            if (grant.kind === 'granted') {
              const assigned = { nodeName: 'node-1', epoch: 1, granted: grant.granted };
              scene.assignments.assume(one, assigned);
              present.set(worker, { ...one, status: { assignment: assigned, phase: 'Running' } });
            }
          } else if (kind === 'catch up') {
            scene.show(...present.values());
          }
          const used = scene.assignments.usage('default');
          expect(used.memoryMiB).toBeLessThanOrEqual(mib);
          expect(used.workers).toBeLessThanOrEqual(workers);
        }
      }),
    );
  });
});
