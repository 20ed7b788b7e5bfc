import { describe, expect, it } from 'vitest';
import { EsbError } from '../../../src/common/errors.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

const absent = desiredFixture({ restingState: 'Absent' });
const { image } = absent;

const missing = new EsbError(`pulling ${image}: the registry has no such image`, {
  code: 'ImageNotFound',
  retryable: true,
});

/** A node whose registry does not have the image until the returned function is called. */
async function without(
  error: EsbError,
  desired = absent,
): Promise<{ readonly lab: FleetLab; readonly mend: () => void }> {
  const lab = new FleetLab();
  lab.runtime.registry = () => Promise.reject(error);
  await lab.fleet.adopt();
  lab.fleet.apply(desired);
  await settle();
  return {
    lab,
    mend: () => {
      lab.runtime.registry = () => Promise.resolve();
    },
  };
}

describe('a worker that rests Absent', () => {
  it('is as its spec wishes once the registry has its image, which is asked once', async () => {
    const lab = new FleetLab();
    const answer = Promise.withResolvers<void>();
    lab.runtime.registry = () => answer.promise;
    await lab.fleet.adopt();
    lab.fleet.apply(absent);
    await settle();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ phase: 'Absent', transient: true });
    expect(lab.conditions()).toMatchObject({ Ready: { status: 'False', reason: 'Resolving' }, Reconciling: {} });
    answer.resolve();
    await settle();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ phase: 'Absent', transient: false });
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Absent' });
    expect(lab.conditions()).toMatchObject({ Callable: { status: 'True', reason: 'Absent' } });
    expect(lab.conditions()?.Reconciling).toBeUndefined();
    lab.fleet.apply(desiredFixture({ restingState: 'Absent', generation: 2, memoryMiB: 256 }));
    await lab.clock.advance(3_600_000);
    expect(lab.runtime.resolved).toEqual([image]);
  });

  it('with a misspelt image is stalled, asks less and less often, and is well once the image is there', async () => {
    const { lab, mend } = await without(missing);
    expect(lab.conditions()).toMatchObject({
      Ready: { status: 'False', reason: 'ImageNotFound', message: missing.message },
      Stalled: { status: 'True', reason: 'ImageNotFound' },
      Callable: { status: 'False', reason: 'ImageNotFound' },
      ImageReady: { status: 'False', reason: 'ImageNotFound' },
    });
    await lab.clock.advance(3_600_000);
    expect(lab.runtime.resolved.length).toBeGreaterThan(12);
    expect(lab.runtime.resolved.length).toBeLessThan(24);
    mend();
    await lab.clock.advance(300_000);
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Absent' });
    expect(lab.conditions()?.Stalled).toBeUndefined();
    expect(lab.conditions()?.ImageReady).toBeUndefined();
  });

  it('asks at once for another image, and waits for a registry that is away', async () => {
    const { lab, mend } = await without(missing);
    mend();
    lab.fleet.apply({ ...absent, generation: 2, image: 'registry.example/hello:2', shapeHash: 'v1-b' });
    await settle();
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Absent' });
    const away = new EsbError('the registry does not answer', { code: 'RegistryUnreachable', retryable: true });
    const { lab: cut } = await without(away);
    expect(cut.conditions()).toMatchObject({
      Ready: { status: 'False', reason: 'RegistryUnreachable' },
      Reconciling: {},
    });
    expect(cut.conditions()?.Stalled).toBeUndefined();
  });

  it('that is called all the same is told by its start', async () => {
    const { lab } = await without(missing);
    const call = lab.invoke();
    await settle();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await lab.clock.advance(20_000);
    expect(lab.phase()).toBe('Absent');
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Absent' });
  });

  it('is not asked about again by the next agent, nor where a container of it was made', async () => {
    const lab = await FleetLab.with(absent);
    await lab.recorded((record) => record.knownImage !== undefined);
    const again = await lab.restart();
    again.fleet.apply(absent);
    await settle();
    expect(again.ready()).toMatchObject({ status: 'True', reason: 'Absent' });
    expect(again.runtime.resolved).toEqual([image]);
    const idle = await FleetLab.with(desiredFixture({ removeAfterSeconds: 5 }));
    await idle.clock.advance(6_000);
    expect(idle.ready()).toMatchObject({ status: 'True', reason: 'RemovedIdle' });
    expect(idle.runtime.resolved).toEqual([]);
  });

  it('breaks the policy of workers, and is not ready for that', async () => {
    const permission = { kind: 'Refused', message: 'spec.network.mode is Host' } as const;
    const lab = await FleetLab.with({ ...absent, permission });
    expect(lab.conditions()).toMatchObject({
      Ready: { status: 'False', reason: 'PolicyRefused' },
      Stalled: { reason: 'PolicyRefused' },
    });
  });
});
