import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import type { LambdaFunction } from '../../../src/api/lambda-function.ts';
import type { LambdaNode } from '../../../src/api/lambda-node.ts';
import type { LambdaVersion } from '../../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { EsbError } from '../../../src/common/errors.ts';
import type { Placement } from '../../../src/controller/scheduling/place.ts';
import { WorkerExitError } from '../../../src/runtime/contract/worker-exit-error.ts';
import { healthByLua } from '../../support/argo-health.ts';
import { desiredFixture, FleetLab, type LabOptions } from '../../support/fleet-lab.ts';
import { condition, functionFixture, ownedFixture } from '../../support/function-fixture.ts';
import { counted, created, decided, found, patched, reported, told, versioned } from '../../support/judged-objects.ts';
import { kstatusProgram } from '../../support/kstatus-program.ts';
import { settle } from '../../support/manual-clock.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

type Verdict = 'Current' | 'InProgress' | 'Failed' | 'Terminating';
type Judged = LambdaFunction | LambdaNode | LambdaVersion | LambdaWorker;

const fresh = { generation: 2, shapeHash: 'v1-b' } as const;
const never = (): Promise<void> => new Promise(() => undefined);
const error = (code: ConstructorParameters<typeof EsbError>[1]['code']): EsbError =>
  new EsbError('as it is', { code, retryable: true });
const exited = new WorkerExitError('hello', { exitCode: 7, oomKilled: false, finishedAt: new Date(0), output: 'oh\n' });
const refused = (reason: (Placement & { kind: 'refused' })['reason']) => () =>
  ({ kind: 'refused', reason, message: reason, detail: reason, leaving: false }) as const;

/** A worker that was applied on a node made as `prepare` says. */
async function worker(
  change: Partial<DesiredWorker>,
  prepare: (lab: FleetLab) => void = () => undefined,
  options: LabOptions = {},
): Promise<FleetLab> {
  const lab = new FleetLab(options);
  await lab.fleet.adopt();
  prepare(lab);
  lab.fleet.apply(desiredFixture(change));
  await settle();
  return lab;
}

const failing =
  (...errors: readonly Error[]) =>
  (lab: FleetLab): void =>
    lab.runtime.fail('ensure', ...errors.map((each) => ({ error: each })));
const absentBut =
  (code: Parameters<typeof error>[0]) =>
  (lab: FleetLab): void => {
    lab.runtime.registry = () => Promise.reject(error(code));
  };

const asking = ({ runtime }: FleetLab): void => {
  runtime.registry = never;
};
const held = ({ runtime }: FleetLab): void => {
  runtime.before = (operation) => (['ensure', 'destroy'].includes(operation) ? never() : Promise.resolve());
};
const pulling = ({ runtime }: FleetLab): void => {
  runtime.pull = never;
};

/** A worker that serves, and whose next shape is wanted. */
async function changed(
  prepare: (lab: FleetLab) => void,
  change: Partial<DesiredWorker> = {},
  options: LabOptions = {},
): Promise<FleetLab> {
  const lab = await worker({}, undefined, options);
  prepare(lab);
  lab.fleet.apply(desiredFixture({ ...fresh, ...change }));
  await settle();
  return lab;
}

const workers: Readonly<Record<string, readonly [Verdict, () => Promise<LambdaWorker> | LambdaWorker]>> = {
  'created, and nobody has looked': ['InProgress', () => created('LambdaWorker')],
  'assigned, and not reported yet': ['InProgress', async () => decided(await created('LambdaWorker'), {})],
  'without any node': ['InProgress', async () => decided(await created('LambdaWorker'), { place: refused('NoNodes') })],
  'for which no node has room': [
    'InProgress',
    async () => decided(await created('LambdaWorker'), { place: refused('NoneFits') }),
  ],
  'for which no node has the labels': [
    'Failed',
    async () => decided(await created('LambdaWorker'), { place: refused('NoneMatches') }),
  ],
  'pinned to a node that does not exist': [
    'Failed',
    async () => decided(await created('LambdaWorker'), { place: refused('PinnedNodeMissing') }),
  ],
  'refused before, whose spec was changed since': [
    'InProgress',
    async () => {
      const before = decided(await created('LambdaWorker'), { place: refused('NoneMatches') });
      return { ...before, metadata: { ...before.metadata, generation: 2 } };
    },
  ],
  'refused before, and assigned now': [
    'InProgress',
    async () => {
      const before = decided(await created('LambdaWorker'), { place: refused('NoneMatches') });
      // A condition that the controller does not apply any more is gone, since no other has it.
      const conditions = before.status?.conditions?.filter(({ type }) => type !== 'Stalled') ?? [];
      return decided({ ...before, status: { ...before.status, conditions } }, {});
    },
  ],
  'that runs': ['Current', async () => told(await worker({}))],
  'that is frozen': ['Current', async () => told(await worker({ restingState: 'Paused' }))],
  'frozen, and kept so by its owner': [
    'Current',
    async () => told(await worker({ restingState: 'Paused', wakePolicy: 'Never' })),
  ],
  'that rests Absent': ['Current', async () => told(await worker({ restingState: 'Absent' }))],
  'that rests Absent, and is kept so': [
    'Current',
    async () => told(await worker({ restingState: 'Absent', wakePolicy: 'Never' })),
  ],
  'removed by its idle policy': [
    'Current',
    async () => {
      const lab = await worker({ removeAfterSeconds: 5 });
      await lab.clock.advance(6_000);
      return told(lab);
    },
  ],
  'Absent, and its registry is being asked': [
    'InProgress',
    async () => told(await worker({ restingState: 'Absent' }, asking)),
  ],
  'Absent with a misspelt image': [
    'Failed',
    async () => told(await worker({ restingState: 'Absent' }, absentBut('ImageNotFound'))),
  ],
  'Absent with an image for another processor': [
    'Failed',
    async () => told(await worker({ restingState: 'Absent' }, absentBut('ImageInvalid'))),
  ],
  'Absent while its registry is away': [
    'InProgress',
    async () => told(await worker({ restingState: 'Absent' }, absentBut('RegistryUnreachable'))),
  ],
  'Absent, and against the policy': [
    'Failed',
    async () => told(await worker({ restingState: 'Absent', permission: { kind: 'Refused', message: 'no' } })),
  ],
  'that is being made': ['InProgress', async () => told(await worker({}, held))],
  'whose image is being pulled': ['InProgress', async () => told(await worker({}, pulling))],
  'that is being warmed up': ['InProgress', async () => told(await worker({ warmUpPayload: '{}' }))],
  'whose image does not exist': ['Failed', async () => told(await worker({}, failing(error('ImageNotFound'))))],
  'whose registry is away': ['InProgress', async () => told(await worker({}, failing(error('RegistryUnreachable'))))],
  'whose node has no network': ['InProgress', async () => told(await worker({}, failing(error('NetworkFailed'))))],
  'whose Secret does not exist': [
    'Failed',
    async () => told(await worker({ env: [{ name: 'A', secret: { name: 'vault', key: 'a' } }] })),
  ],
  'that does not listen': ['Failed', async () => told(await worker({}, failing(error('NotListening'))))],
  'whose memory is too small': ['Failed', async () => told(await worker({}, failing(error('MemoryTooSmall'))))],
  'that ended once': [
    'InProgress',
    async () => {
      const lab = await worker({});
      held(lab);
      lab.runtime.exit(lab.container(), 7);
      await settle();
      return told(lab);
    },
  ],
  'that ends again and again': ['Failed', async () => told(await worker({}, failing(exited, exited)))],
  'that is tried again after failures': [
    'Failed',
    async () => {
      const lab = await worker({}, failing(exited, exited));
      held(lab);
      await lab.clock.advance(10_100);
      return told(lab);
    },
  ],
  'whose spec was changed after failures': [
    'InProgress',
    async () => {
      const lab = await worker({}, failing(exited, exited));
      held(lab);
      lab.fleet.apply(desiredFixture(fresh));
      await settle();
      return told(lab);
    },
  ],
  'whose node is full': [
    'InProgress',
    async () => told(await worker({}, undefined, { capacity: { memoryMiB: 64, workers: 1 } })),
  ],
  'of which nothing is known': [
    'InProgress',
    async () => {
      const lab = await worker({}, ({ runtime }) => {
        runtime.down = true;
      });
      await lab.clock.advance(7_000);
      return told(lab);
    },
  ],
  'whose new spec no agent has seen': [
    'InProgress',
    async () => told(await worker({}), workerFixture({ metadata: { generation: 2 } })),
  ],
  'whose next container is being made': ['InProgress', async () => told(await changed(held))],
  'whose next image is being pulled': ['InProgress', async () => told(await changed(pulling))],
  'whose next image does not exist': ['Failed', async () => told(await changed(failing(error('ImageNotFound'))))],
  'whose next container ends again and again': ['Failed', async () => told(await changed(failing(exited, exited)))],
  'whose next image is in a registry that is away': [
    'InProgress',
    async () => told(await changed(failing(error('RegistryUnreachable')))),
  ],
  'whose next container has no room': [
    'InProgress',
    async () => told(await changed(() => undefined, { memoryMiB: 400 }, { capacity: { memoryMiB: 300, workers: 10 } })),
  ],
  'whose next container serves': ['Current', async () => told(await changed(() => undefined))],
  'whose node is lost': [
    'InProgress',
    async () => {
      const assigned = decided(await created('LambdaWorker'), {});
      return decided(told(await worker({}), assigned), { standing: { liveness: 'lost' }, place: refused('NoneFits') });
    },
  ],
  'that was moved': [
    'InProgress',
    async () => {
      const assigned = decided(await created('LambdaWorker'), {});
      return decided(told(await worker({}), assigned), {
        standing: { liveness: 'lost' },
        place: () => ({ kind: 'placed', nodeName: 'node-2' }),
      });
    },
  ],
  'taken away, with room for it nowhere': [
    'InProgress',
    async () => {
      const assigned = decided(await created('LambdaWorker'), {});
      const leave = { kind: 'retired' } as const;
      const crashing = told(await worker({}, failing(exited, exited)), assigned);
      return decided(crashing, { standing: { liveness: 'fresh', leave }, place: refused('NoneFits') });
    },
  ],
  'that is being deleted': [
    'Terminating',
    async () => {
      const lab = await worker({});
      held(lab);
      lab.fleet.apply(desiredFixture({ deleting: true }));
      await settle();
      return told(lab, workerFixture({ metadata: { deletionTimestamp: '2026-11-02T00:00:00Z' } }));
    },
  ],
};

const down = (reason: 'RuntimeTooOld' | 'RuntimeUnavailable' | 'Retired' | 'Starting') =>
  ({ ok: false, reason, message: 'as it is' }) as const;

const nodes: Readonly<Record<string, readonly [Verdict, () => Promise<LambdaNode>]>> = {
  'created, and no agent has looked': ['InProgress', () => created('LambdaNode')],
  'that serves': ['Current', async () => reported(await created('LambdaNode'))],
  'whose agent begins': ['InProgress', async () => reported(await created('LambdaNode'), { note: down('Starting') })],
  'whose containerd is away': [
    'InProgress',
    async () => reported(await created('LambdaNode'), { containerd: down('RuntimeUnavailable') }),
  ],
  'whose containerd is too old': [
    'Failed',
    async () => reported(await created('LambdaNode'), { containerd: down('RuntimeTooOld') }),
  ],
  'that is lost': [
    'InProgress',
    async () =>
      found(await reported(await created('LambdaNode')), {
        life: { kind: 'lost', isConfirmed: true },
        closure: undefined,
      }),
  ],
  'that ESB leaves': ['InProgress', async () => reported(await created('LambdaNode'), { note: down('Retired') })],
  'that ESB has left': [
    'Current',
    async () => reported(await created('LambdaNode'), { note: down('Retired'), retirement: { ok: true } }),
  ],
};

const functions: Readonly<Record<string, readonly [Verdict, () => Promise<LambdaFunction>]>> = {
  'created, and no controller has looked': ['InProgress', () => created('LambdaFunction')],
  'whose workers are being made': ['InProgress', async () => counted(await created('LambdaFunction'), [])],
  'whose workers are there': [
    'Current',
    async () => {
      const owner = await created('LambdaFunction');
      return counted(owner, [ownedFixture(owner, 0), ownedFixture(owner, 1)]);
    },
  ],
  'of which a worker is stalled': [
    'Failed',
    async () => {
      const owner = await created('LambdaFunction');
      const conditions = [condition('Ready', 'False', 'ImageNotFound'), condition('Stalled', 'True', 'ImageNotFound')];
      return counted(owner, [ownedFixture(owner, 0), ownedFixture(owner, 1, { status: { conditions } })]);
    },
  ],
  'of which the API server takes no worker': [
    'Failed',
    async () => counted(await created('LambdaFunction'), [], 'the policy says no'),
  ],
  'whose new template no controller has seen': [
    'InProgress',
    async () => {
      const owner = await created('LambdaFunction');
      const whole = counted(owner, [ownedFixture(owner, 0), ownedFixture(owner, 1)]);
      return { ...whole, metadata: { ...whole.metadata, generation: 2 } };
    },
  ],
};

const versions: Readonly<Record<string, readonly [Verdict, () => Promise<LambdaVersion>]>> = {
  'published, and not looked at yet': ['InProgress', () => created('LambdaVersion')],
  'whose first worker is being made': ['InProgress', async () => versioned(await created('LambdaVersion'), [], 1)],
  'whose first worker is stalled': [
    'Failed',
    async () => {
      const version = await created('LambdaVersion');
      const conditions = [condition('Ready', 'False', 'ImageNotFound'), condition('Stalled', 'True', 'ImageNotFound')];
      return versioned(version, [ownedFixture(functionFixture(), 0, { version, status: { conditions } })], 1);
    },
  ],
  'that serves': [
    'Current',
    async () => {
      const version = await created('LambdaVersion');
      return versioned(version, [ownedFixture(functionFixture(), 0, { version })], 1);
    },
  ],
  'that was active, and that no alias names': [
    'Current',
    async () => {
      const version = await created('LambdaVersion');
      return versioned({ ...version, status: { ...version.status, state: 'Active' } }, [], 0);
    },
  ],
};

type Case = readonly [Verdict, () => Promise<Judged> | Judged];

/** Health of Argo CD that stands for a verdict: it has no word for a deletion, and shows one by itself. */
const argo: Readonly<Record<Verdict, string>> = {
  Current: 'Healthy',
  InProgress: 'Progressing',
  Failed: 'Degraded',
  Terminating: 'Progressing',
};

describe('kstatus and Argo CD', () => {
  it('take each state for what it is', async () => {
    const cases = [workers, nodes, functions, versions].flatMap((kind) => Object.entries<Case>(kind));
    const objects: Judged[] = [];
    for (const [, [, make]] of cases) {
      objects.push(await make());
    }
    const program = await kstatusProgram();
    const output = execFileSync(program, { input: JSON.stringify(objects), encoding: 'utf8' });
    const verdicts = JSON.parse(output) as readonly { readonly status: string }[];
    const health = await healthByLua(objects);
    const isTerminating = (object: Judged): boolean => object.metadata.deletionTimestamp !== undefined;
    const name = (index: number): string => `a ${objects[index]?.kind} ${cases[index]?.[0]}`;
    const got = objects.map((object, index) => [
      name(index),
      verdicts[index]?.status,
      isTerminating(object) ? argo.Terminating : health[index]?.status,
    ]);
    expect(got).toEqual(cases.map(([, [wanted]], index) => [name(index), wanted, argo[wanted]]));
    expect(cases.length).toBeGreaterThan(50);
  });

  it('are told why in one word, and where nothing is wrong in none', async () => {
    const crashing = told(await worker({}, failing(exited, exited)));
    const [health] = await healthByLua([crashing]);
    expect(health?.message).toMatch(/^CrashLoopBackOff: starts again in \d+ s/);
    const types = (object: LambdaWorker): readonly string[] =>
      (object.status?.conditions ?? []).map(({ type }) => type);
    expect(types(crashing)).toContain('Stalled');
    expect(types(told(await worker({})))).not.toEqual(expect.arrayContaining(['Stalled']));
    expect(types(told(await worker({})))).not.toEqual(expect.arrayContaining(['Reconciling']));
    expect(patched(crashing, { kind: 'merge', body: {} })).toEqual(crashing);
  });
});
