import { describe, expect, it } from 'vitest';
import type { Verdict } from '../../../src/api/condition.ts';
import { EsbError } from '../../../src/common/errors.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

const uid = 'uid-of-hello';
const fresh = { generation: 2, shapeHash: 'v1-b' } as const;

function upToDate(lab: FleetLab): Verdict | undefined {
  return lab.fleet.view(uid)?.conditions.UpToDate;
}

/** Holds every operation of the container of the second shape until it is released. */
function holdFresh(lab: FleetLab): () => Promise<void> {
  const gate = Promise.withResolvers<void>();
  lab.runtime.before = (operation, containerId) =>
    operation === 'ensure' && containerId === lab.container('hello', 'v1-b') ? gate.promise : Promise.resolve();
  return async () => {
    gate.resolve();
    await settle();
  };
}

describe('UpToDate', () => {
  it('is False while a container of the earlier generation answers, and True once the new one does', async () => {
    const lab = await FleetLab.with(desiredFixture());
    expect(upToDate(lab)).toMatchObject({ status: 'True', reason: 'UpToDate' });
    const release = holdFresh(lab);
    lab.fleet.apply(desiredFixture(fresh));
    await settle();
    expect(lab.fleet.view(uid)).toMatchObject({ observedGeneration: 2 });
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'Replacing' });
    expect(lab.conditions()).toMatchObject({ Callable: { status: 'True' }, Reconciling: { status: 'True' } });
    expect(upToDate(lab)).toMatchObject({ status: 'False', reason: 'Replacing' });
    await release();
    expect(upToDate(lab)).toMatchObject({ status: 'True', reason: 'UpToDate' });
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Running' });
    expect(lab.conditions()?.Reconciling).toBeUndefined();
  });

  it('says why the new generation cannot serve', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.fail('ensure', {
      error: new EsbError('no such image', { code: 'ImageNotFound', retryable: true }),
    });
    lab.fleet.apply(desiredFixture(fresh));
    await settle();
    expect(lab.conditions()).toMatchObject({
      Ready: { status: 'False', reason: 'ReplacementFailed' },
      Stalled: { status: 'True', reason: 'ImageNotFound' },
      Callable: { status: 'True' },
    });
    expect(upToDate(lab)).toMatchObject({ status: 'False', reason: 'ReplacementFailed' });
    expect(upToDate(lab)?.message).toMatch(/^ImageNotFound: no such image; /);
  });

  it('is False where a Secret of the new generation may not be read', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const env = [{ name: 'PASSWORD', secret: { name: 'letters', key: 'password' } }];
    lab.fleet.apply(desiredFixture({ ...fresh, env }));
    await settle();
    expect(upToDate(lab)).toMatchObject({ status: 'False', reason: 'ReplacementFailed' });
    expect(upToDate(lab)?.message).toMatch(/^SecretMissing: the variable PASSWORD /);
    lab.secrets.set('default/letters/password', 'secret');
    await lab.clock.advance(2_100);
    expect(upToDate(lab)).toMatchObject({ status: 'True' });
  });

  it('is False where the node has no room for the new container', async () => {
    const lab = await FleetLab.with(desiredFixture(), { capacity: { memoryMiB: 300, workers: 10 } });
    lab.fleet.apply(desiredFixture({ ...fresh, memoryMiB: 400 }));
    await settle();
    expect(upToDate(lab)).toMatchObject({ status: 'False', reason: 'NodeFull' });
  });

  it('counts a worker that rests Absent, and tells what keeps the first container from running', async () => {
    const absent = await FleetLab.with(desiredFixture({ restingState: 'Absent' }));
    expect(upToDate(absent)).toMatchObject({ status: 'True', reason: 'Absent' });
    const lab = new FleetLab();
    await lab.fleet.adopt();
    lab.runtime.fail('ensure', { error: new EsbError('refused', { code: 'RegistryUnreachable' }) });
    lab.fleet.apply(desiredFixture());
    await settle();
    expect(upToDate(lab)).toEqual(lab.ready());
    expect(upToDate(lab)).toMatchObject({ status: 'False', reason: 'RegistryUnreachable' });
  });

  it('is not claimed by an agent that starts again before the new container serves', async () => {
    const lab = await FleetLab.with(desiredFixture());
    await lab.recorded((record) => record.container?.shapeHash === 'v1-a');
    const release = holdFresh(lab);
    lab.fleet.apply(desiredFixture(fresh));
    await lab.recorded((record) => record.desired.shapeHash === 'v1-b');
    lab.runtime.down = true;
    const again = await lab.restart();
    expect(upToDate(again)?.status).not.toBe('True');
    lab.runtime.down = false;
    await again.clock.advance(5_000);
    expect(again.fleet.view(uid)?.phase).toBe('Running');
    expect(upToDate(again)?.status).toBe('False');
    await release();
    expect(upToDate(again)).toMatchObject({ status: 'True', reason: 'UpToDate' });
  });

  it('is gone with the worker', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.fleet.apply(desiredFixture({ deleting: true }));
    expect(upToDate(lab)).toBeUndefined();
  });
});
