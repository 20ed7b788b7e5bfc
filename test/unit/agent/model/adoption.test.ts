import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { WorkerRecord } from '../../../../src/agent/model/worker-record.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

const records = (lab: FleetLab): readonly string[] => readdirSync(join(lab.folder, 'state', 'workers'));
const pathOf = (lab: FleetLab, name: string): string => join(lab.folder, 'state', 'workers', `uid-of-${name}.json`);
const recordOf = (lab: FleetLab, name: string): WorkerRecord =>
  JSON.parse(readFileSync(pathOf(lab, name), 'utf8')) as WorkerRecord;
const writeRecord = (lab: FleetLab, name: string, record: WorkerRecord): void =>
  writeFileSync(pathOf(lab, name), JSON.stringify(record));

/** Gives the container of a worker another id, as if it had been made under that. */
function rename(lab: FleetLab, name: string, containerId: string): void {
  const former = lab.container(name);
  const info = lab.runtime.containers.get(former);
  const record = recordOf(lab, name);
  if (info === undefined) {
    throw new Error(`${name} has no container`);
  }
  lab.runtime.containers.delete(former);
  lab.runtime.put({ ...info, containerId });
  writeRecord(lab, name, { ...record, container: { ...containerOf(record), id: containerId } });
}

function containerOf({ container }: WorkerRecord): NonNullable<WorkerRecord['container']> {
  if (container === undefined) {
    throw new Error('the record names no container');
  }
  return container;
}

describe('an agent that starts again', () => {
  it('serves a running worker as it was, without a word from the API', async () => {
    const before = await FleetLab.with(desiredFixture());
    await before.recorded((record) => record.startedAt !== undefined);
    const operations = before.runtime.operations.length;
    const lab = await before.restart();
    expect(lab.phase()).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({
      containerId: before.container(),
      address: { ip: '10.234.0.2', port: 8080 },
      startedAt: before.fleet.view('uid-of-hello')?.startedAt,
    });
    lab.emulators.onCall = (call) => call.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    expect(lab.runtime.operations).toHaveLength(operations);
  });

  it('wakes nothing that is idle, and starts nothing that was removed for being idle', {
    tags: ['P27'],
  }, async () => {
    const before = await FleetLab.with(desiredFixture({ pauseAfterSeconds: 2, removeAfterSeconds: 60 }));
    await before.clock.advance(2_000);
    expect(before.phase()).toBe('Paused');
    await before.recorded((record) => record.rest === 'Paused');
    const second = await before.restart();
    expect(second.phase()).toBe('Paused');
    expect(second.runtime.count('resume')).toBe(0);
    await second.clock.advance(58_100);
    expect(second.phase()).toBe('Absent');
    await second.recorded((record) => record.rest === 'Absent');
    const third = await second.restart();
    expect(third.phase()).toBe('Absent');
    expect(third.runtime.count('ensure')).toBe(1);
    const call = third.invoke();
    await settle();
    third.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
  });

  it('leaves a worker alone whose last call was answered', async () => {
    const before = await FleetLab.with(desiredFixture());
    await before.recorded((record) => record.startedAt !== undefined);
    before.emulators.onCall = (call) => call.answer();
    await before.invoke();
    await before.clock.advance(20);
    const lab = await before.restart();
    expect(lab.runtime.count('destroy')).toBe(0);
  });

  it('takes a restart of the machine for an ordinary start, and rests what rested', async () => {
    const before = await FleetLab.with(desiredFixture());
    before.fleet.apply(desiredFixture({ name: 'frozen', restingState: 'Paused' }));
    before.fleet.apply(desiredFixture({ name: 'away', restingState: 'Absent' }));
    await settle();
    await before.recorded((record) => record.startedAt !== undefined);
    await before.recorded((record) => record.rest === 'Paused', 'frozen');
    await before.recorded((record) => record.rest === 'Absent', 'away');
    before.runtime.reboot();
    const lab = await before.restart();
    expect(lab.phase()).toBe('Running');
    expect(lab.phase('frozen')).toBe('Paused');
    expect(lab.phase('away')).toBe('Absent');
    expect(lab.fleet.view('uid-of-hello')?.restartCount).toBe(0);
  });

  it('takes over a container without a record as soon as its resource is known', async () => {
    const before = await FleetLab.with(desiredFixture());
    await before.recorded((record) => record.startedAt !== undefined);
    writeFileSync(join(before.folder, 'state', 'workers', 'uid-of-hello.json'), '{"version":1,');
    const lab = await before.restart();
    expect(lab.fleet.views()).toEqual([]);
    expect(records(lab)).toEqual(['uid-of-hello.json.unreadable']);
    expect(lab.task(), 'nothing adoptable is ended').toBe('Running');
    const operations = lab.runtime.operations.length;
    const present = lab.runtime.containers.get(lab.container());
    lab.fleet.apply(desiredFixture());
    await settle();
    expect(lab.phase()).toBe('Running');
    expect(lab.runtime.operations.slice(operations), 'whether its port is open is looked at').toEqual([
      `ensure ${lab.container()}`,
    ]);
    expect(lab.runtime.containers.get(lab.container())).toEqual(present);
  });

  it('serves a container whose id is of the short form of an earlier version', async () => {
    const before = await FleetLab.with(desiredFixture());
    await before.recorded((record) => record.startedAt !== undefined);
    rename(before, 'hello', 'hello-0a1b2c3d');
    const operations = before.runtime.operations.length;
    const lab = await before.restart();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({
      phase: 'Running',
      containerId: 'hello-0a1b2c3d',
      startedAt: before.fleet.view('uid-of-hello')?.startedAt,
    });
    lab.emulators.onCall = (call) => call.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    expect(lab.runtime.operations).toHaveLength(operations);
  });

  it('leaves a container alone that another worker has, whatever a record says', async () => {
    const before = await FleetLab.with(desiredFixture());
    before.fleet.apply(desiredFixture({ name: 'victim' }));
    await settle();
    await before.recorded((record) => record.startedAt !== undefined);
    await before.recorded((record) => record.startedAt !== undefined, 'victim');
    const victim = recordOf(before, 'victim');
    before.runtime.containers.delete(before.container());
    writeRecord(before, 'hello', { ...recordOf(before, 'hello'), container: containerOf(victim) });
    const lab = await before.restart();
    expect(lab.fleet.view('uid-of-victim')).toMatchObject({
      phase: 'Running',
      containerId: lab.container('victim'),
    });
    expect(lab.phase()).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')?.containerId).not.toBe(lab.container('victim'));
    lab.fleet.release('uid-of-hello');
    await settle();
    expect(lab.task('victim')).toBe('Running');
    expect(lab.runtime.operations).not.toContain(`destroy ${lab.container('victim')}`);
  });

  it('while the runtime does not answer serves once it does, and wakes nobody then', async () => {
    const before = await FleetLab.with(desiredFixture({ restingState: 'Paused' }));
    await before.recorded((record) => record.rest === 'Paused' && record.pausedAt !== undefined);
    before.runtime.down = true;
    const lab = await before.restart();
    expect(lab.fleet.views()).toHaveLength(1);
    await lab.clock.advance(5_000);
    lab.runtime.down = false;
    await lab.clock.advance(2_000);
    expect(lab.phase()).toBe('Paused');
    expect(lab.runtime.count('resume')).toBe(0);
  });

  it('keeps counting restarts and goes on putting off what crashes', async () => {
    const before = await FleetLab.with(desiredFixture());
    for (let each = 0; each < 2; each += 1) {
      before.runtime.exit(before.container(), 1);
      await settle();
    }
    expect(before.ready()?.reason).toBe('CrashLoopBackOff');
    await before.recorded((record) => record.restartCount === 1 && record.crashes.failures === 2);
    await before.clock.advance(1_000);
    const ensured = before.runtime.count('ensure');
    const lab = await before.restart();
    await lab.clock.advance(5_000);
    expect(lab.runtime.count('ensure')).toBe(ensured);
    await lab.clock.advance(5_000);
    expect(lab.runtime.count('ensure')).toBe(ensured + 1);
    expect(lab.fleet.view('uid-of-hello')?.restartCount).toBe(2);
  });
});

describe('an agent that stops', () => {
  it('serves everybody until the calls in its workers are over, then refuses those that wait', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.fleet.apply(desiredFixture({ name: 'other' }));
    await settle();
    const running = lab.invoke({ requestId: 'running' });
    const next = lab.invoke({ requestId: 'next' });
    const waiting = lab.invoke({ requestId: 'waiting' });
    const operations = lab.runtime.operations.length;
    let refusing = false;
    const stopped = lab.fleet.stop(10_000, () => {
      refusing = true;
    });
    await lab.clock.advance(7_000);
    const short = lab.invoke({ name: 'other' });
    lab.emulators.calls.find(({ request }) => request.requestId !== 'running')?.answer();
    expect(await short).toMatchObject({ kind: 'Answered' });
    expect(refusing).toBe(false);
    lab.emulators.calls[0]?.answer();
    expect(await running).toMatchObject({ kind: 'Answered' });
    expect(await waiting).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    expect(refusing).toBe(true);
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    lab.emulators.answerAll();
    expect(await next, 'it was in the worker already').toMatchObject({ kind: 'Answered' });
    await stopped;
    expect(lab.runtime.operations).toHaveLength(operations);
    expect(lab.clock.pending()).toBe(0);
  });

  it('lets nobody else wait for a call that takes longer than it may', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.fleet.apply(desiredFixture({ name: 'other' }));
    await settle();
    const long = lab.invoke();
    let refusing = false;
    const stopped = lab.fleet.stop(10_000, () => {
      refusing = true;
    });
    await lab.clock.advance(8_900);
    const short = lab.invoke({ name: 'other' });
    expect(refusing).toBe(false);
    await lab.clock.advance(200);
    expect(refusing).toBe(true);
    lab.emulators.calls.find(({ request }) => request.requestId === 'request-2')?.answer();
    expect(await short).toMatchObject({ kind: 'Answered' });
    await stopped;
    expect(await long).toMatchObject({ kind: 'Unknown', reason: 'AgentStopped' });
    expect(lab.task()).toBe('Running');
  });

  it('tells a caller whose call does not finish that the outcome is unknown', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const inside = lab.invoke();
    const stopped = lab.fleet.stop(1_000);
    await lab.clock.advance(1_100);
    await stopped;
    expect(await inside).toMatchObject({ kind: 'Unknown', reason: 'AgentStopped' });
    const next = await lab.restart();
    expect(next.runtime.count('destroy'), 'the next run lets the worker end it').toBe(0);
  });

  it.each([
    ['waits to be sent again', false],
    ['waits for what its log holds before it', true],
  ])('refuses a call that %s, and never sends it', async (_, tailLog) => {
    const lab = await FleetLab.with(desiredFixture());
    const { promise: logs, resolve } = Promise.withResolvers<number>();
    lab.runtime.logOffset = () => logs;
    lab.emulators.stateOf = () => (tailLog ? 'Running' : 'Gone');
    const call = lab.invoke({ tailLog });
    await settle();
    const stopped = lab.fleet.stop(0);
    expect(await call).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    resolve(0);
    lab.emulators.stateOf = () => 'Running';
    await lab.clock.advance(1_000);
    await stopped;
    expect(lab.emulators.sent).toEqual([]);
  });
});
