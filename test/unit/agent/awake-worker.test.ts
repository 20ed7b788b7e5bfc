import { describe, expect, it } from 'vitest';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

/** Woken from its rest by one call, and awake since. */
async function awake(pauseAfterSeconds = 60): Promise<FleetLab> {
  const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused', pauseAfterSeconds }));
  expect(lab.phase()).toBe('Paused');
  await answered(lab);
  return lab;
}

async function answered(lab: FleetLab): Promise<void> {
  const call = lab.invoke();
  await settle();
  lab.emulators.answerAll();
  expect(await call).toMatchObject({ kind: 'Answered' });
}

const settled = (lab: FleetLab): number =>
  lab.runtime.operations.filter((operation) => operation.startsWith('settle ')).length;

describe('a worker that stays awake', () => {
  it('is shown and written down as running a moment after its wake: the answer comes first', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused', pauseAfterSeconds: 60 }));
    await settle();
    const shown: string[] = [];
    lab.fleet.subscribe({ changed: ({ phase }) => shown.push(phase), removed: () => undefined });
    const call = lab.invoke();
    await lab.clock.advance(90);
    expect(lab.task()).toBe('Running');
    expect(shown).not.toContain('Running');
    await lab.clock.advance(20);
    expect(shown.at(-1)).toBe('Running');
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
  });

  it('is settled once', async () => {
    const lab = await awake();
    await lab.clock.advance(14_000);
    expect(settled(lab)).toBe(0);
    await lab.clock.advance(20_000);
    expect(settled(lab)).toBe(1);
    expect([lab.task(), lab.phase()]).toEqual(['Running', 'Running']);
  });

  it('is not settled when it is paused again before that', async () => {
    const lab = await awake(10);
    await lab.clock.advance(40_000);
    expect(lab.task()).toBe('Paused');
    expect(settled(lab)).toBe(0);
  });

  it('is not settled while a call is in it', async () => {
    const lab = await FleetLab.with(
      desiredFixture({ restingState: 'Paused', pauseAfterSeconds: 60, timeoutSeconds: 900 }),
    );
    const call = lab.invoke();
    await lab.clock.advance(40_000);
    expect(settled(lab)).toBe(0);
    lab.emulators.answerAll();
    await call;
    await lab.clock.advance(1_100);
    expect(settled(lab)).toBe(1);
  });

  it('takes a call in the middle of that, thawed, in the same turn', async () => {
    const lab = await awake();
    lab.runtime.before = (operation) =>
      operation === 'settle' ? new Promise<void>(() => undefined) : Promise.resolve();
    await lab.clock.advance(15_000);
    expect(lab.task()).toBe('Paused');
    const sent = lab.emulators.sent.length;
    const call = lab.invoke();
    await settle();
    expect(lab.emulators.sent.length).toBe(sent + 1);
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered', timings: { start: 'running' } });
    expect(lab.emulators.violations).toEqual([]);
    expect(lab.task()).toBe('Running');
  });

  it('is removed in the middle of that', async () => {
    const lab = await awake();
    lab.runtime.before = (operation) =>
      operation === 'settle' ? new Promise<void>(() => undefined) : Promise.resolve();
    await lab.clock.advance(15_000);
    lab.fleet.release('uid-of-hello');
    await lab.clock.advance(1_000);
    expect(lab.task()).toBeUndefined();
  });

  it('is paused in the middle of that when its time is over', async () => {
    const lab = await awake(20);
    lab.runtime.before = (operation) =>
      operation === 'settle' ? new Promise<void>(() => undefined) : Promise.resolve();
    await lab.clock.advance(21_000);
    expect([lab.task(), lab.phase()]).toEqual(['Paused', 'Paused']);
    lab.runtime.before = () => Promise.resolve();
    await answered(lab);
    expect(lab.emulators.violations).toEqual([]);
  });

  it('does not become paused in anybody’s eyes by being looked at meanwhile', async () => {
    const lab = await awake();
    const hold = Promise.withResolvers<void>();
    lab.runtime.before = (operation) => (operation === 'settle' ? hold.promise : Promise.resolve());
    await lab.clock.advance(15_000);
    lab.runtime.emit({ kind: 'OutOfMemory', containerId: lab.container() });
    hold.resolve();
    await settle();
    expect([lab.task(), lab.phase()]).toEqual(['Running', 'Running']);
  });
});
