import { describe, expect, it } from 'vitest';
import { capacityOf } from '../../../../src/agent/step/container.ts';
import { shareInForce } from '../../../../src/agent/step/share.ts';
import { inFlightOf, isWorn } from '../../../../src/agent/step/state.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';
import { infoOf, roomyNode, WorkerSteps } from '../../../support/worker-steps.ts';
import { WorkerWorld } from '../../../support/worker-world.ts';

const desired = desiredFixture({ runtimeInterface: 'Lambda', perWorker: 4 });

/** A worker that runs, and takes four calls at once. */
function running(): WorkerWorld {
  const world = new WorkerWorld(new WorkerSteps({ desired }));
  world.worker.step({ kind: 'Begun', unrecorded: true });
  start(world);
  return world;
}

/** Has the container that is being made come up. */
function start(world: WorkerWorld): void {
  world.endAction(0, 'None');
  world.endAction(0, 'None');
}

function invoke(world: WorkerWorld, calls: number): number[] {
  return Array.from({ length: calls }, () => world.invoke());
}

const sentTo = (world: WorkerWorld): string[] => world.sent.map(({ containerId }) => containerId);
const actions = (world: WorkerWorld) => [...world.running].map(([id, { kind }]) => [kind, id]);

describe('a worker that takes several calls at once', () => {
  it('gets as many as it has places, and the next one as soon as any of them has ended', () => {
    const world = running();
    const ids = invoke(world, 6);
    expect(world.sent.map(({ id }) => id)).toEqual(ids.slice(0, 4));
    world.endCall('Answered', true, 2);
    expect(world.sent.map(({ id }) => id)).toEqual([1, 2, 4, 5]);
    expect(world.results).toEqual(new Map([[3, 'Answered']]));
    expect(world.violations).toEqual([]);
  });

  it('gets no more than its runtime has shown to take, until that shows more', () => {
    const world = running();
    const { id: containerId } = world.state.present.make;
    const tell = (places: number): void => {
      const state = { phase: 'Ready', idle: false, initMs: 1, restarts: 0, places } as const;
      world.worker.step({
        kind: 'InitTold',
        containerId,
        word: { state, found: { running: 0, requestId: undefined } },
      });
    };
    tell(1);
    invoke(world, 6);
    expect(world.sent).toHaveLength(1);
    tell(3);
    expect(world.sent).toHaveLength(3);
    tell(1_600);
    expect(world.sent).toHaveLength(4);
  });

  it.each([1, 4])('that was made for %i has no more in it, whatever numbers its init says', (perWorker) => {
    const most = 999_999_999_999_999;
    for (const places of [0, 1, most]) {
      for (const held of [0, 1, most]) {
        for (const found of [0, 2_047]) {
          const shared = desiredFixture({ runtimeInterface: 'Lambda', perWorker, share: 1, epoch: 1 });
          const world = new WorkerWorld(new WorkerSteps({ desired: shared }));
          world.worker.step({ kind: 'Begun', unrecorded: true });
          start(world);
          const { id: containerId } = world.state.present.make;
          const state = { phase: 'Ready', idle: false, initMs: most, restarts: most, places, held } as const;
          const word = { state, found: { running: found, requestId: found === 0 ? undefined : 'x' } };
          world.worker.step({ kind: 'InitTold', containerId, word });
          expect(shareInForce(world.state)?.calls).toBeLessThanOrEqual(2 * perWorker);
          expect(capacityOf(world.state.present) > 0).toBe(perWorker === 1 || places > held);
          expect(capacityOf(world.state.present)).toBeLessThanOrEqual(perWorker);
          expect(isWorn(world.state, world.state.present)).toBe(
            perWorker > 1 && held * 2 >= Math.min(places, perWorker),
          );
        }
      }
    }
  });

  it('goes on with the places that are left while calls whose time is over hold fewer than half', () => {
    const world = running();
    world.changeInit(0, 'Hold');
    invoke(world, 6);
    expect(world.sent).toHaveLength(3);
    expect(actions(world)).toEqual([]);
    world.changeInit(0, 'LetGo');
    expect(world.sent).toHaveLength(4);
  });

  it('is replaced beside once they hold half of its places, while its calls go on', () => {
    const world = running();
    const before = world.state.present.make.id;
    invoke(world, 3);
    world.changeInit(0, 'Hold');
    world.changeInit(0, 'Hold');
    const next = world.state.others[0]?.make.id;
    world.endAction(0, 'None');
    expect(actions(world)).toEqual([['Ensure', next]]);
    expect(world.state.present.make.id).toBe(before);
    world.endAction(0, 'None');
    expect(world.state.present.make.id).toBe(next);
    invoke(world, 4);
    expect(sentTo(world).filter((id) => id === next)).toHaveLength(4);
    expect(actions(world)).toEqual([]);
    for (let call = 0; call < 3; call += 1) {
      world.endCall('Answered');
    }
    expect(actions(world)).toEqual([['Destroy', before]]);
    world.settle();
    expect([...world.tasks.keys()]).toEqual([next]);
    expect(world.violations).toEqual([]);
    expect(new Set(world.results.values())).toEqual(new Set(['Answered']));
  });

  it('serves on with the places that are left where there is no room beside it', () => {
    const world = running();
    world.worker.node = { ...roomyNode, fits: () => false };
    invoke(world, 8);
    world.changeInit(0, 'Hold');
    world.changeInit(0, 'Hold');
    for (let call = 0; call < 8; call += 1) {
      world.endCall('Answered');
    }
    expect([...world.results.values()]).toEqual(Array(8).fill('Answered'));
    expect(actions(world)).toEqual([]);
    expect(world.state.noRoomBeside).toContain('no room');
  });

  it('is replaced by one of another shape although it is never without a call', () => {
    const world = running();
    const before = world.state.present.make.id;
    invoke(world, 4);
    world.apply({ shapeHash: 'v1-b' }, 1);
    start(world);
    invoke(world, 2);
    expect(new Set(sentTo(world).slice(4))).toEqual(new Set([world.state.present.make.id]));
    expect(world.state.present.make.shapeHash).toBe('v1-b');
    expect(world.tasks.get(before)).toBe('Running');
    world.settle();
    expect([...world.tasks.keys()]).toEqual([world.state.present.make.id]);
    expect(world.violations).toEqual([]);
  });

  it('gets no more calls once it has to go before its successor can come', () => {
    const world = running();
    invoke(world, 2);
    world.worker.node = { ...roomyNode, fits: (id) => id === world.state.present.make.id };
    world.apply({ shapeHash: 'v1-b' }, 1);
    invoke(world, 2);
    expect(world.sent).toHaveLength(2);
    world.endCall('Answered');
    expect(actions(world)).toEqual([]);
    world.endCall('Answered');
    expect(actions(world)).toEqual([['Destroy', world.state.present.make.id]]);
    world.settle();
    expect([...world.results.values()]).toEqual(Array(4).fill('Answered'));
  });

  it('is not kept from calls by others in it once it must get no more', () => {
    const world = running();
    const before = world.state.present.make.id;
    invoke(world, 2);
    world.worker.step({ kind: 'OutputLost', containerId: before });
    invoke(world, 2);
    const next = world.state.present.make.id;
    expect(next).not.toBe(before);
    start(world);
    expect(sentTo(world)).toEqual([before, before, next, next]);
    world.settle();
    expect([...world.tasks.keys()]).toEqual([next]);
    expect(world.violations).toEqual([]);
  });

  it('is frozen only when no call is in it and all that is in it waits', () => {
    const world = running();
    invoke(world, 2);
    world.apply({ restingState: 'Paused' }, 1);
    world.endCall('Answered');
    world.worker.advance(60_000);
    expect(actions(world)).toEqual([]);
    world.endCall('Answered', true);
    world.changeInit(0, 'Linger');
    world.worker.advance(60_000);
    expect(actions(world)).toEqual([]);
    world.changeInit(0, 'Wait');
    expect(actions(world)).toEqual([['Pause', world.state.present.make.id]]);
  });

  it('has its other places for calls while one of an agent before goes on', () => {
    const { records, state } = running().worker;
    const [record] = records.slice(-1);
    const containers = [infoOf(state.present.make.id, desired, { kind: 'Running', pid: 1 })];
    const world = new WorkerWorld(
      new WorkerSteps({ desired, containers, ...(record === undefined ? {} : { record }) }),
      containers,
      'left-1',
    );
    world.changeInit(0, 'Connect');
    invoke(world, 5);
    expect(world.sent).toHaveLength(3);
    expect(inFlightOf(world.state)).toBe(6);
    world.changeInit(0, 'FoundEnds');
    expect(world.sent).toHaveLength(4);
  });

  it('loses all of its calls with its connection, by one look', () => {
    const world = running();
    const ids = invoke(world, 4);
    for (let call = 0; call < 4; call += 1) {
      world.endCall('Unknown');
    }
    expect(world.looks).toHaveLength(1);
    world.tasks.set(world.state.present.make.id, 'Stopped');
    world.endLook(true);
    expect(ids.map((id) => world.results.get(id))).toEqual(Array(4).fill('Unknown'));
    expect(world.state.places).toEqual([]);
  });

  it('leaves all of its calls to the next run of an agent that stops, but for those that were not sent', () => {
    const world = running();
    invoke(world, 5);
    world.worker.step({ kind: 'Refusing' });
    world.worker.step({ kind: 'Stopped', stamp: '', unsent: [2] });
    const told = [1, 2, 3, 4, 5].map((id) => world.results.get(id));
    expect(told).toEqual(['Unknown', 'Refused', 'Unknown', 'Unknown', 'Refused']);
  });
});
