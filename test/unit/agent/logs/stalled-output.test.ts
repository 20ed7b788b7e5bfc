import { describe, expect, it } from 'vitest';
import { StalledOutput } from '../../../../src/agent/logs/stalled-output.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

const signal = new AbortController().signal;

async function world(...names: readonly string[]) {
  const lab = await FleetLab.with(desiredFixture());
  for (const name of names) {
    lab.fleet.apply(desiredFixture({ name, restingState: 'Paused' }));
  }
  await settle();
  let lost = 0;
  const check = new StalledOutput({
    runtime: lab.runtime,
    fleet: lab.fleet,
    clock: lab.clock,
    logger: silentLogger(),
    onLost: () => {
      lost += 1;
    },
  });
  return { lab, check, lost: () => lost };
}

describe('the check of the output of workers', () => {
  it('has nothing to do as long as no disk was full', async () => {
    const { check, lab } = await world();
    expect(check.told(true, lab.clock.now())).toBe(false);
    await check.run(signal);
    expect(lab.runtime.outputChecks).toEqual([]);
  });

  it('looks at every worker once when there is room again, those that run first', async () => {
    const { check, lab } = await world('asleep');
    expect(check.told(false, lab.clock.now())).toBe(false);
    expect(check.told(true, lab.clock.now())).toBe(true);
    await check.run(signal);
    expect(lab.runtime.outputChecks).toEqual([lab.container(), lab.container('asleep')]);
    expect(check.told(true, lab.clock.now())).toBe(false);
    expect(lab.runtime.count('destroy')).toBe(0);
  });

  it('has those made anew whose output is lost, and nobody else', async () => {
    const { check, lab, lost } = await world('asleep', 'other');
    lab.runtime.outputLost.add(lab.container('asleep'));
    check.told(false, lab.clock.now());
    check.told(true, lab.clock.now());
    await check.run(signal);
    await settle();
    const { operations } = lab.runtime;
    expect(operations.filter((each) => each.startsWith('destroy'))).toEqual([`destroy ${lab.container('asleep')}`]);
    // As it was: frozen, without a call.
    expect(lab.phase('asleep')).toBe('Paused');
    expect(lab.fleet.view('uid-of-asleep')?.restartCount).toBe(0);
    expect(lost()).toBe(1);
  });

  it('waits for the end of the call that is in the worker; the next one finds the new container', async () => {
    const { check, lab } = await world();
    const [first, second] = [lab.invoke(), lab.invoke()];
    await settle();
    lab.runtime.outputLost.add(lab.container());
    check.told(false, lab.clock.now());
    check.told(true, lab.clock.now());
    await check.run(signal);
    await settle();
    expect(lab.runtime.count('destroy')).toBe(0);
    lab.emulators.answerAll();
    await settle();
    expect((await first).kind).toBe('Answered');
    expect(lab.runtime.count('destroy')).toBe(1);
    expect(lab.runtime.count('ensure')).toBe(2);
    lab.emulators.answerAll();
    expect((await second).kind).toBe('Answered');
    expect(lab.emulators.violations).toEqual([]);
  });

  it('leaves alone what was made anew while it looked', async () => {
    const { lab } = await world();
    expect(lab.fleet.outputLost(lab.container(), 4711)).toBe(false);
    expect(lab.fleet.outputLost('nobody-00000000', 1)).toBe(false);
    await settle();
    expect(lab.runtime.count('destroy')).toBe(0);
  });

  it('writes nothing while the disk is full again, and begins anew after that', async () => {
    const { check, lab } = await world('asleep');
    check.told(false, lab.clock.now());
    check.told(true, lab.clock.now());
    const running = check.run(signal);
    check.told(false, lab.clock.now());
    await running;
    expect(lab.runtime.outputChecks).toEqual([]);
    expect(check.told(true, lab.clock.now())).toBe(true);
    await check.run(signal);
    expect(lab.runtime.outputChecks).toHaveLength(2);
  });

  it('counts from the last look with room, however late the next one, and an hour back without one', async () => {
    const { check, lab } = await world();
    for (const roomAt of [undefined, lab.clock.now()]) {
      await lab.clock.advance(9_000);
      check.told(false, roomAt);
      check.told(true, lab.clock.now());
      await check.run(signal);
    }
    const windows = lab.runtime.outputWindows.map(({ from, until }) => until - from);
    expect(windows).toEqual([3_600_000, 18_000]);
  });

  it('tries again when the runtime cannot say what there is', async () => {
    const { check, lab } = await world();
    lab.runtime.fail('list', { error: new EsbError('away', { code: 'RuntimeUnavailable' }) });
    check.told(false, lab.clock.now());
    check.told(true, lab.clock.now());
    const running = check.run(signal);
    await lab.clock.advance(5_000);
    await running;
    expect(lab.runtime.outputChecks).toEqual([lab.container()]);
  });
});
