import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../../src/agent/model/desired-worker.ts';
import { desiredFixture, FleetLab, type LabOptions } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

/** Milliseconds that the first call of the worker below may take. */
const boundMs = 3_000 + 1_500 + 10_000;

/** A worker whose agent was killed, or stopped, while the call `long` was in it. */
async function leftBehind(
  change: Partial<DesiredWorker> = {},
  options: LabOptions & { readonly end?: (lab: FleetLab) => Promise<unknown> } = {},
): Promise<FleetLab> {
  const before = await FleetLab.with(desiredFixture(change), options);
  await before.recorded((record) => record.startedAt !== undefined || record.rest !== 'Running');
  void before.invoke({ requestId: 'long' });
  await before.clock.advance(200);
  await options.end?.(before);
  return await before.restart(options);
}

const calls = (lab: FleetLab): readonly string[] => lab.emulators.calls.map(({ request }) => request.requestId);
const done = (lab: FleetLab): readonly string[] => lab.runtime.operations.slice(1);

/** A replaced container goes once the record says so on the disk, which takes real time. */
const until = (lab: FleetLab, holds: () => boolean): Promise<unknown> =>
  waitFor(
    'what was replaced to go',
    async () => {
      await lab.clock.advance(1);
      return holds();
    },
    { everyMs: 2, timeoutMs: 5_000 },
  );

describe('a call that was answered just before its agent is killed', () => {
  it('is in no mark: the worker is called again, and neither made anew nor given another container', async () => {
    const before = await FleetLab.with(desiredFixture());
    await before.recorded((record) => record.startedAt !== undefined);
    const call = before.invoke();
    before.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    const lab = await before.restart();
    lab.emulators.onCall = (each) => each.answer();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ containerId: lab.container(), inFlight: 0 });
    const next = lab.invoke({ requestId: 'next' });
    await lab.clock.advance(boundMs + 1_000);
    expect(await next).toMatchObject({ kind: 'Answered' });
    expect(done(lab)).toEqual([]);
  });
});

describe('a call that is in a worker when its agent ends', () => {
  it.each([
    ['is killed', undefined],
    [
      'stops',
      async (lab: FleetLab) => {
        const stopped = lab.fleet.stop(1_000);
        await lab.clock.advance(1_100);
        await stopped;
      },
    ],
  ])('is left in it when the agent %s, and the worker is called again after it', async (_, end) => {
    const lab = await leftBehind({}, end === undefined ? {} : { end });
    await lab.clock.advance(2_000);
    expect(lab.task()).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ phase: 'Running', inFlight: 1 });
    lab.endLeft('long');
    await lab.clock.advance(500);
    expect(lab.fleet.view('uid-of-hello')?.inFlight).toBe(0);
    const next = lab.invoke({ requestId: 'next' });
    expect(calls(lab)).toEqual(['next']);
    lab.emulators.answerAll();
    expect(await next).toMatchObject({ kind: 'Answered' });
    expect(done(lab), 'nothing was made or ended').toEqual([]);
    expect(lab.emulators.violations).toEqual([]);
  });

  it('is over at its time where its last line is not seen, and the worker is made anew', async () => {
    const lab = await leftBehind();
    lab.runtime.logs.set(lab.container(), 'REPORT RequestId: long-ago\nREPORT RequestId: lon\n');
    await lab.clock.advance(boundMs - 300);
    expect(done(lab)).toEqual([]);
    await lab.clock.advance(200);
    expect(done(lab)).toEqual([`destroy ${lab.container()}`, `ensure ${lab.container()}`]);
  });

  it('is over at its time also when the wall clock was set meanwhile', async () => {
    const lab = await leftBehind({}, { end: async (before) => before.clock.step(-3_600_000) });
    await lab.clock.advance(boundMs - 100);
    expect(done(lab)).toEqual([]);
    await lab.clock.advance(200);
    expect(done(lab)).toEqual([`destroy ${lab.container()}`, `ensure ${lab.container()}`]);
  });

  it('keeps nobody waiting: another container takes calls beside it, and what is not needed goes', async () => {
    const lab = await leftBehind();
    const beside = lab.container('hello', 'v1-a', 1);
    const next = lab.invoke({ requestId: 'next' });
    await settle();
    expect(calls(lab)).toEqual(['next']);
    lab.emulators.answerAll();
    expect(await next).toMatchObject({ kind: 'Answered' });
    expect(lab.fleet.view('uid-of-hello')?.containerId).toBe(beside);
    await lab.clock.advance(5_000);
    expect(done(lab)).toEqual([`ensure ${beside}`]);
    lab.endLeft('long');
    await lab.clock.advance(500);
    await until(lab, () => lab.task() === undefined);
    expect(done(lab)).toEqual([`ensure ${beside}`, `destroy ${lab.container()}`]);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
    expect(lab.emulators.violations).toEqual([]);
  });

  it('that ends before the other container is ready is followed by those that wait', async () => {
    const lab = await leftBehind();
    const made = Promise.withResolvers<void>();
    lab.runtime.before = (operation) => (operation === 'ensure' ? made.promise : Promise.resolve());
    const next = lab.invoke({ requestId: 'next' });
    await settle();
    expect(calls(lab)).toEqual([]);
    lab.endLeft('long');
    await lab.clock.advance(500);
    expect(calls(lab)).toEqual(['next']);
    expect(lab.fleet.view('uid-of-hello')?.containerId).toBe(lab.container());
    lab.emulators.answerAll();
    expect(await next).toMatchObject({ kind: 'Answered' });
    made.resolve();
    await until(lab, () => lab.runtime.containers.size === 1);
    expect([...lab.runtime.containers.keys()]).toEqual([lab.container()]);
  });

  it.each([
    ['without room for another container', {}, { capacity: { memoryMiB: 200, workers: 9 } }],
    ['on the network of the host', { networkMode: 'Host' as const }, {}],
  ])('is waited for %s', async (_, change, options) => {
    const lab = await leftBehind(change, options);
    const next = lab.invoke({ requestId: 'next' });
    await lab.clock.advance(6_000);
    expect(calls(lab)).toEqual([]);
    expect(done(lab)).toEqual([]);
    lab.endLeft('long');
    await lab.clock.advance(500);
    expect(calls(lab)).toEqual(['next']);
    lab.emulators.answerAll();
    expect(await next).toMatchObject({ kind: 'Answered' });
  });

  it('keeps nobody waiting once there is room for another container', async () => {
    const capacity = { memoryMiB: 300, workers: 9 };
    const before = await FleetLab.with(desiredFixture(), { capacity });
    before.fleet.apply(desiredFixture({ name: 'other' }));
    await before.recorded((record) => record.startedAt !== undefined);
    await before.recorded((record) => record.startedAt !== undefined, 'other');
    void before.invoke({ requestId: 'long' });
    await settle();
    const lab = await before.restart({ capacity });
    void lab.invoke({ requestId: 'next' });
    await lab.clock.advance(1_000);
    expect(calls(lab)).toEqual([]);
    lab.fleet.release('uid-of-other');
    await lab.clock.advance(100);
    expect(calls(lab)).toEqual(['next']);
  });

  it.each(['with its record', 'without a record'])(
    'keeps the time of the shape that it is in, however short that of the next one, %s',
    async (how) => {
      const second = await leftBehind({ timeoutSeconds: 600 });
      second.fleet.apply(desiredFixture({ generation: 2, shapeHash: 'v1-b', timeoutSeconds: 3 }));
      const next = second.container('hello', 'v1-b');
      await waitFor('the next shape', () => second.runtime.taskOf(next) === 'Running');
      await second.recorded((record) => record.container?.id === next && record.startedAt !== undefined);
      if (how === 'without a record') {
        rmSync(join(second.folder, 'state', 'workers', 'uid-of-hello.json'));
      }
      const lab = await second.restart();
      lab.fleet.apply(desiredFixture({ generation: 2, shapeHash: 'v1-b', timeoutSeconds: 3 }));
      await lab.clock.advance(120_000);
      expect(lab.runtime.count('destroy')).toBe(0);
      lab.endLeft('long');
      await lab.clock.advance(500);
      await until(lab, () => lab.task() === undefined);
      expect(lab.runtime.taskOf(next)).toBe('Running');
    },
  );

  it('is in no mark any more once it is over, though the container beside it was frozen meanwhile', async () => {
    const lab = await leftBehind({ timeoutSeconds: 600, pauseAfterSeconds: 5 });
    lab.emulators.onCall = (call) => call.answer();
    const next = lab.invoke();
    await lab.clock.advance(10_000);
    expect(await next).toMatchObject({ kind: 'Answered' });
    expect(lab.phase()).toBe('Paused');
    lab.endLeft('long');
    await lab.clock.advance(1_000);
    const mark = join(lab.folder, 'run', 'uid-of-hello.mark');
    const [text] = existsSync(mark) ? readFileSync(mark, 'latin1').split('\n\n') : [];
    expect(text ?? '').not.toContain('long');
  });

  it('is left by a stop in the middle of a call to warm up, which takes no longer for it', async () => {
    const before = await FleetLab.with(desiredFixture({ warmUpPayload: '{}', timeoutSeconds: 600 }));
    expect(before.emulators.calls).toHaveLength(1);
    const stopped = before.fleet.stop(1_000);
    await before.clock.advance(1_000);
    await stopped;
    const lab = await before.restart();
    await lab.clock.advance(100_000);
    expect(done(lab), 'it has the time of any call').toEqual([]);
    expect(lab.fleet.view('uid-of-hello')?.inFlight).toBe(1);
  });

  it('is left by the agent after that one too, and gets no more time for it', async () => {
    const second = await leftBehind();
    await second.clock.advance(3_000);
    void second.invoke({ requestId: 'next' });
    await settle();
    await second.clock.advance(2_000);
    const beside = second.container('hello', 'v1-a', 1);
    await second.recorded((record) => record.container?.id === beside);
    const lab = await second.restart();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ containerId: beside, inFlight: 2 });
    await lab.clock.advance(boundMs - 5_500);
    expect(done(lab)).toEqual([`ensure ${beside}`]);
    await lab.clock.advance(500);
    await until(lab, () => lab.task() === undefined);
    expect(done(lab), 'the other call has its own time').toEqual([`ensure ${beside}`, `destroy ${lab.container()}`]);
    lab.endLeft('next');
    await lab.clock.advance(500);
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ containerId: beside, inFlight: 0 });
    expect(lab.fleet.allocation().workers).toBe(1);
  });

  it('that ran out of time is known of, also where another container was called since and no record is left', async () => {
    const desired = desiredFixture({ shapeHash: 'v1-b', generation: 2 });
    const before = await FleetLab.with(desiredFixture());
    const silent = before.invoke({ requestId: 'silent' });
    before.fleet.apply(desired);
    await settle();
    before.runtime.before = (operation) => (operation === 'destroy' ? new Promise(() => undefined) : Promise.resolve());
    const [inside] = before.emulators.calls;
    inside?.end({ kind: 'TimedOut' });
    before.emulators.left.push(...(inside === undefined ? [] : [inside]));
    expect(await silent).toMatchObject({ kind: 'TimedOut' });
    before.emulators.onCall = (call) => call.answer();
    expect(await before.invoke()).toMatchObject({ kind: 'Answered' });
    await before.recorded(({ container }) => container?.id === before.container('hello', 'v1-b'));
    rmSync(join(before.folder, 'state', 'workers', 'uid-of-hello.json'));
    const lab = await before.restart();
    lab.runtime.before = () => Promise.resolve();
    lab.fleet.apply(desired);
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    expect(lab.emulators.violations).toEqual([]);
    await lab.clock.advance(boundMs);
    await until(lab, () => lab.task() === undefined);
    const [mark] = readFileSync(join(lab.folder, 'run', 'uid-of-hello.mark'), 'latin1').split('\n\n', 1);
    expect(mark).not.toContain('silent');
  });

  it('keeps its worker from being frozen or removed, however idle that is', async () => {
    const lab = await leftBehind({ restingState: 'Absent', pauseAfterSeconds: 1, removeAfterSeconds: 2 });
    await lab.clock.advance(9_000);
    expect(lab.task()).toBe('Running');
    lab.endLeft('long');
    await lab.clock.advance(600);
    expect(lab.task()).toBe('Running');
    await lab.clock.advance(1_000);
    expect(lab.task()).toBe('Paused');
    await lab.clock.advance(1_000);
    expect(lab.task()).toBeUndefined();
  });

  it('does not keep a new shape from being made ready, which takes the calls', async () => {
    const lab = await leftBehind();
    lab.fleet.apply(desiredFixture({ shapeHash: 'v1-b', generation: 2 }));
    await settle();
    const fresh = lab.container('hello', 'v1-b');
    expect(lab.fleet.view('uid-of-hello')?.containerId).toBe(fresh);
    await lab.clock.advance(3_000);
    expect(lab.task(), 'the call goes on').toBe('Running');
    lab.endLeft('long');
    await lab.clock.advance(500);
    await until(lab, () => lab.task() === undefined);
    expect([...lab.runtime.containers.keys()]).toEqual([fresh]);
  });

  it('is waited for when its worker has moved to another node meanwhile', async () => {
    const lab = await leftBehind();
    lab.fleet.release('uid-of-hello');
    await lab.clock.advance(5_000);
    expect(lab.task()).toBe('Running');
    expect(lab.fleet.leaving()).toHaveLength(1);
    lab.endLeft('long');
    await lab.clock.advance(500);
    expect(lab.fleet.views()).toEqual([]);
    expect(lab.runtime.containers.size).toBe(0);
  });

  it('ends with the grace of the worker when that is deleted', async () => {
    const lab = await leftBehind({ terminationGraceSeconds: 2 });
    lab.fleet.apply(desiredFixture({ terminationGraceSeconds: 2, deleting: true }));
    await lab.clock.advance(1_900);
    expect(lab.task()).toBe('Running');
    await lab.clock.advance(200);
    expect(lab.task()).toBeUndefined();
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('True');
  });

  it('of which an agent before an upgrade has left a mark gets the time of any call', async () => {
    const before = await FleetLab.with(desiredFixture());
    await before.recorded((record) => record.startedAt !== undefined);
    const folder = join(before.folder, 'run');
    writeFileSync(join(folder, 'uid-of-hello.mark'), `1 ${before.container()} ${'-'.repeat(27)}\n`);
    const lab = await before.restart();
    await lab.clock.advance(boundMs - 100);
    expect(done(lab)).toEqual([]);
    await lab.clock.advance(200);
    expect(done(lab)).toEqual([`destroy ${lab.container()}`, `ensure ${lab.container()}`]);
    expect(readdirSync(folder).filter((name) => name.endsWith('.mark'))).toEqual([]);
  });

  it('leaves a mark that an agent before the upgrade reads as a call', async () => {
    const lab = await FleetLab.with(desiredFixture());
    void lab.invoke({ requestId: 'long' });
    const text = readFileSync(join(lab.folder, 'run', 'uid-of-hello.mark'), 'latin1');
    // That one splits at spaces, and looks at the first three words.
    expect(text.trim().split(' ').slice(0, 3)).toEqual(['1', lab.container(), '-'.repeat(27)]);
  });
});
