import { describe, expect, it } from 'vitest';
import { infoOf, WorkerSteps } from '../../../support/worker-steps.ts';
import { WorkerWorld } from '../../../support/worker-world.ts';

/** A worker that runs, with nothing to be done. */
function running(): WorkerWorld {
  const { desired, state } = new WorkerSteps();
  const containers = [infoOf(state.present.make.id, desired, { kind: 'Running', pid: 1 })];
  const world = new WorkerWorld(new WorkerSteps({ containers }), containers);
  world.worker.step({ kind: 'Begun', unrecorded: false });
  world.endAction(0, 'None');
  expect(world.running.size).toBe(0);
  return world;
}

function stopped(world: WorkerWorld): void {
  world.tasks.set(world.state.present.make.id, 'Stopped');
}

function deepFreeze(value: unknown): void {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value) && !Buffer.isBuffer(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
}

describe('reduce', () => {
  it('changes no state that it was given', () => {
    const world = running();
    const step = world.worker.step.bind(world.worker);
    world.worker.step = (event) => {
      deepFreeze(world.worker.state);
      return step(event);
    };
    world.invoke();
    world.endCall('NotSent');
    world.endLook(true);
    world.endAction(0, 'None');
    world.endCall('Unknown');
    world.exit(0);
    world.apply({ shapeHash: 'v1-b', restingState: 'Paused' }, 1);
    world.settle();
    world.worker.step({ kind: 'Released' });
    world.settle();
    expect(world.state.life).toBe('Gone');
  });

  it('takes no word of a look that an action has overtaken', () => {
    const world = running();
    const { id } = world.state.present.make;
    const { turn } = world.state.present;
    world.apply({ restingState: 'Absent' }, 1);
    expect([...world.running.values()]).toEqual([{ kind: 'Destroy', why: 'Unwanted' }]);
    const before = world.state.present.sight;
    world.worker.step({
      kind: 'Looked',
      containerId: id,
      turn,
      purpose: 'Verify',
      seen: { info: undefined, lost: false, output: '' },
    });
    expect(world.state.present.sight).toBe(before);
  });

  it('counts an exit once, also where two looks find it', () => {
    const world = running();
    const { id } = world.state.present.make;
    stopped(world);
    world.worker.step({ kind: 'Hinted', containerId: id, event: 'Exited' });
    world.worker.step({ kind: 'Hinted', containerId: id, event: 'OutOfMemory' });
    world.endLook(true);
    world.endLook(true);
    expect(world.state.present.setbacks.crashes.failures).toBe(1);
    world.settle();
    expect(world.state.restartCount).toBe(1);
  });

  it('refuses a call of which three times not a byte was sent, and makes the container again', () => {
    const world = running();
    const id = world.invoke();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      expect(world.sent[0]?.id).toBe(id);
      world.endCall('NotSent');
      world.endAction(0, 'None');
    }
    expect(world.results.get(id)).toBe('Refused');
    expect([...world.running.values()]).toEqual([{ kind: 'Destroy', why: 'Unusable' }]);
  });

  it('lets the container be where the node itself could not send', () => {
    const world = running();
    const id = world.invoke();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      world.endCall('NotSent', true);
    }
    expect(world.results.get(id)).toBe('Refused');
    expect(world.state.present.unusable).toBeUndefined();
    expect(world.running.size).toBe(0);
  });

  it.each([
    { what: 'that the worker exited, by a look', ended: true, reason: 'WorkerExited' },
    { what: 'that the connection was lost, after three looks', ended: false, reason: 'ConnectionLost' },
  ])('tells the caller of a call that broke $what', ({ ended, reason }) => {
    const world = running();
    const id = world.invoke();
    world.endCall('Unknown');
    expect(world.looks).toMatchObject([{ purpose: 'Diagnose', delayMs: 0 }]);
    if (ended) {
      stopped(world);
    }
    for (let look = 0; look < 3; look += 1) {
      world.endLook(true);
    }
    const answer = world.worker.effects.find((effect) => effect.kind === 'Answer' && effect.id === id);
    expect(answer).toMatchObject({ result: { kind: 'Unknown', reason } });
    expect(world.state.places).toEqual([]);
  });

  it('gives a container up once its shim is to blame, and not while the kernel says that it runs', () => {
    const world = running();
    const { id } = world.state.present.make;
    const { desired } = world.worker;
    const silent = infoOf(id, desired, { kind: 'Unanswering', kernel: 'Running' });
    const see = (lost: boolean): void => {
      const news = [{ containerId: id, sighting: { info: silent, lost } }];
      world.worker.step({ kind: 'Listed', own: [silent], news });
    };
    see(false);
    expect(world.state.present.sight).toMatchObject({ kind: 'Known', shim: 'Silent' });
    const call = world.invoke();
    expect(world.sent[0]?.id).toBe(call);
    world.endCall('Answered');
    see(true);
    expect(world.state.present.sight).toMatchObject({ kind: 'Unknown', shim: 'Lost' });
    expect([...world.running.values()]).toEqual([{ kind: 'Destroy', why: 'Unusable' }]);
  });
});
