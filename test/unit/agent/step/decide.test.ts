import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../../src/agent/model/desired-worker.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';
import { infoOf, roomyNode, WorkerSteps } from '../../../support/worker-steps.ts';
import { WorkerWorld } from '../../../support/worker-world.ts';
import { initChanges } from '../../../support/world-inits.ts';

type Step = (world: WorkerWorld) => void;

/** Steps of one kind, each of which a counterexample shows by its name. */
function stepsOf<T>(name: string, values: fc.Arbitrary<T>, take: (world: WorkerWorld, value: T) => void) {
  return values.map((value): Step => {
    const step: Step = (world) => take(world, value);
    return Object.assign(step, { [fc.toStringMethod]: () => `${name} ${JSON.stringify(value)}` });
  });
}

const invoke = stepsOf('invoke', fc.integer({ min: 1, max: 3 }), (world, calls) => {
  for (let call = 0; call < calls; call += 1) {
    world.invoke();
  }
});
const hangUp = stepsOf('hang up', fc.integer({ min: 1, max: 12 }), ({ worker }, id) => {
  worker.step({ kind: 'HungUp', id });
});
const endings = ['Answered', 'Answered', 'Unknown', 'TimedOut', 'CutOff', 'NotSent'] as const;
const ends = fc.tuple(fc.constantFrom(...endings), fc.boolean(), fc.nat(3));
const endCall = stepsOf('end call', ends, (world, [kind, own, at]) => world.endCall(kind, own, at));
const faults = ['None', 'None', 'None', 'NotBegun', 'Failed', 'FailedAfter', 'Down', 'Silent'] as const;
const endAction = stepsOf('end action', fc.tuple(fc.nat(3), fc.constantFrom(...faults)), (world, [at, fault]) =>
  world.endAction(at, fault),
);
const looks = stepsOf('end look', fc.boolean(), (world, works) => world.endLook(works));
const settles = stepsOf('end settling', fc.boolean(), (world, works) => world.endSettle(works));
const lefts = stepsOf('end left call', fc.boolean(), (world, seen) => world.endLeft(seen));
const exits = stepsOf('exit', fc.nat(3), (world, at) => world.exit(at));
const advance = stepsOf('advance', fc.constantFrom(1, 60, 1_000, 2_500, 16_000, 200_000), ({ worker }, ms) =>
  worker.advance(ms),
);
const changes = fc.record(
  {
    restingState: fc.constantFrom('Running' as const, 'Paused' as const, 'Absent' as const),
    shapeHash: fc.constantFrom('v1-a', 'v1-b'),
    warmUpPayload: fc.constant('{}'),
    pauseAfterSeconds: fc.constantFrom(1, 2),
    networkMode: fc.constantFrom('Bridge' as const, 'Host' as const),
  },
  { requiredKeys: [] },
);
const apply = stepsOf('apply', changes, (world, change) => world.apply(change, 1));
const room = stepsOf('room', fc.tuple(fc.boolean(), fc.boolean()), ({ worker }, [fits, later]) => {
  worker.node = { ...worker.node, fits: () => fits, mayFitLater: () => fits || later };
  worker.step({ kind: 'Retried' });
});
const turns = stepsOf('turns', fc.boolean(), ({ worker }, may) => {
  worker.node = { ...worker.node, mayReplace: () => may };
  worker.step({ kind: 'Ticked' });
});
const down = stepsOf('down', fc.boolean(), ({ worker }, runtimeDown) => {
  worker.node = { ...worker.node, runtimeDown };
  worker.step({ kind: 'Retried' });
});
const inits = stepsOf('init', fc.tuple(fc.nat(3), fc.constantFrom(...initChanges)), (world, [at, change]) =>
  world.changeInit(at, change),
);
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: inits },
  { weight: 5, arbitrary: invoke },
  { weight: 5, arbitrary: endCall },
  { weight: 9, arbitrary: endAction },
  { weight: 3, arbitrary: advance },
  { weight: 2, arbitrary: apply },
  { weight: 2, arbitrary: looks },
  { weight: 1, arbitrary: settles },
  { weight: 1, arbitrary: lefts },
  { weight: 1, arbitrary: exits },
  { weight: 1, arbitrary: hangUp },
  { weight: 1, arbitrary: fc.oneof(room, turns, down) },
);

/** A worker as an agent finds it: not there yet, running, frozen, or with a call that an agent before has left. */
const worlds = fc
  .record({
    desired: fc.record(
      {
        restingState: fc.constantFrom('Running' as const, 'Paused' as const, 'Absent' as const),
        warmUpPayload: fc.constant('{}'),
        runtimeInterface: fc.constantFrom('Lambda' as const, 'Emulator' as const),
        // Of no meaning with the emulator.
        perWorker: fc.constantFrom(2, 4),
      },
      { requiredKeys: [] },
    ),
    found: fc.constantFrom('None', 'Running', 'Paused', 'Left', 'Earlier' as const),
  })
  .map(({ desired: change, found }) =>
    Object.assign(worldOf(desiredFixture(change), found), {
      [fc.toStringMethod]: () => `${found} ${JSON.stringify(change)}`,
    }),
  );

function worldOf(desired: DesiredWorker, found: 'None' | 'Running' | 'Paused' | 'Left' | 'Earlier'): () => WorkerWorld {
  return () => {
    const { id } = new WorkerSteps({ desired }).state.present.make;
    const task = found === 'Paused' ? 'Paused' : 'Running';
    const shape = found === 'Earlier' ? 'v0' : desired.shapeHash;
    const containers = found === 'None' ? [] : [infoOf(id, desired, { kind: task, pid: 1 }, shape)];
    const mark = {
      uid: desired.identity.uid,
      containerId: id,
      busy: true,
      call: {},
      stamp: undefined,
      left: [],
    };
    const world = new WorkerWorld(
      new WorkerSteps({ desired, containers, ...(found === 'Left' ? { mark } : {}) }),
      containers,
      found === 'Left' ? 'left-1' : undefined,
    );
    world.worker.step({ kind: 'Begun', unrecorded: true });
    return world;
  };
}

function play(make: () => WorkerWorld, sequence: readonly Step[]): WorkerWorld {
  const world = make();
  for (const step of sequence) {
    step(world);
  }
  return world;
}

const sequences = fc.array(steps, { minLength: 1, maxLength: 60 });

describe('decide', () => {
  it('touches no container with a call in it, sends each call once, tells each caller once, under any events', () => {
    fc.assert(
      fc.property(worlds, sequences, (make, sequence) => {
        expect(play(make, sequence).violations).toEqual([]);
      }),
      { numRuns: 1_500 },
    );
  }, 60_000);

  it('leaves no call without an outcome, and the worker at its rest, once all faults are gone', () => {
    fc.assert(
      fc.property(worlds, sequences, (make, sequence) => {
        const world = play(make, sequence);
        world.worker.node = roomyNode;
        world.apply({ restingState: 'Running', pauseAfterSeconds: 1e6, shapeHash: 'v1-c', networkMode: 'Bridge' }, 1);
        world.worker.step({ kind: 'Retried' });
        world.settle();
        expect(world.violations).toEqual([]);
        expect([...world.accepted].filter((id) => !world.results.has(id))).toEqual([]);
        expect([...world.tasks.values()]).toEqual(['Running']);
        expect(world.shapes.get(world.state.present.make.id)).toBe('v1-c');
        expect(world.state.others).toEqual([]);
      }),
      { numRuns: 500 },
    );
  }, 60_000);

  it('leaves nothing of a worker that is released, and says so once', () => {
    fc.assert(
      fc.property(worlds, sequences, (make, sequence) => {
        const world = play(make, sequence);
        world.worker.node = roomyNode;
        world.worker.step({ kind: 'Released' });
        world.settle();
        expect(world.violations).toEqual([]);
        expect([...world.accepted].filter((id) => !world.results.has(id))).toEqual([]);
        expect(world.tasks.size).toBe(0);
        expect(world.state.life).toBe('Gone');
        expect(world.worker.effects.filter(({ kind }) => kind === 'Forget')).toHaveLength(1);
      }),
      { numRuns: 500 },
    );
  }, 60_000);

  it('waits no more for a call that an agent before has left once its process was seen to end', () => {
    const world = worldOf(desiredFixture(), 'Left')();
    world.exit(0);
    world.endLook(true);
    world.endAction(0, 'FailedAfter');
    world.settle();
    expect([...world.tasks.values()]).toEqual(['Running']);
    expect(world.worker.effects.filter(({ kind }) => kind === 'Unmark')).toHaveLength(1);
  });

  it('removes a worker that is deleted with a call in it once its grace is over, and not before', () => {
    const world = worldOf(desiredFixture({ terminationGraceSeconds: 5 }), 'Running')();
    world.endAction(0, 'None');
    const id = world.invoke();
    expect(world.sent[0]?.id).toBe(id);
    world.apply({ deleting: true }, 0);
    world.worker.advance(4_900);
    expect(world.running.size).toBe(0);
    world.worker.advance(200);
    expect([...world.running.values()]).toEqual([{ kind: 'Destroy', why: 'Unwanted' }]);
    world.endCall('Unknown');
    expect(world.results.get(id)).toBe('Unknown');
  });

  it('does nothing to a worker whose containers are not listed yet, and refuses calls that wait for long', () => {
    const world = new WorkerWorld(new WorkerSteps({ listed: false }));
    world.worker.step({ kind: 'Begun', unrecorded: true });
    const id = world.invoke();
    world.worker.advance(4_900);
    expect(world.results.has(id)).toBe(false);
    world.worker.advance(1_200);
    expect(world.results.get(id)).toBe('Refused');
    expect(world.running.size).toBe(0);
  });

  it('begins nothing and sends nothing once the agent stops', () => {
    fc.assert(
      fc.property(worlds, sequences, sequences, (make, before, after) => {
        const world = play(make, before);
        world.worker.step({ kind: 'Refusing' });
        world.worker.step({ kind: 'Stopped', stamp: '', unsent: [] });
        const begun = world.worker.effects.length;
        for (const step of after) {
          step(world);
        }
        const kinds = new Set(world.worker.effects.slice(begun).map(({ kind }) => kind));
        expect([...kinds].filter((kind) => ['Run', 'Send', 'Settle', 'Look'].includes(kind))).toEqual([]);
        expect([...world.accepted].filter((id) => !world.results.has(id))).toEqual([]);
        expect(world.violations).toEqual([]);
      }),
      { numRuns: 300 },
    );
  }, 60_000);
});
