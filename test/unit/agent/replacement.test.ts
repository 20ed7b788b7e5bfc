import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import type { WorkerRecord } from '../../../src/agent/model/worker-record.ts';
import { EsbError } from '../../../src/common/errors.ts';
import { WorkerExitError } from '../../../src/runtime/contract/worker-exit-error.ts';
import type { FakeOperation } from '../../support/fake-runtime.ts';
import { watchFileSyncs } from '../../support/file-syncs.ts';
import { desiredFixture, FleetLab, type LabOptions } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const uid = 'uid-of-hello';
const old = desiredFixture();
const fresh = desiredFixture({ generation: 2, shapeHash: 'v1-b' });
const resting: Partial<DesiredWorker> = { restingState: 'Paused' };

/** Holds operations back until they are let go, as slow ones are. */
class Gate {
  #open = Promise.withResolvers<void>();
  readonly #operation: FakeOperation;
  readonly #containerId: string | undefined;

  constructor(operation: FakeOperation, containerId?: string) {
    this.#operation = operation;
    this.#containerId = containerId;
  }

  readonly hold = (operation: FakeOperation, containerId: string): Promise<void> =>
    operation === this.#operation && (this.#containerId ?? containerId) === containerId
      ? this.#open.promise
      : Promise.resolve();

  async release(): Promise<void> {
    this.#open.resolve();
    await settle();
  }
}

async function start(desired: DesiredWorker = old, options: LabOptions = {}): Promise<FleetLab> {
  const lab = await FleetLab.with(desired, options);
  await lab.recorded((record) => record.container?.shapeHash === desired.shapeHash);
  return lab;
}

const a = (lab: FleetLab): string => lab.container('hello', 'v1-a');
const b = (lab: FleetLab): string => lab.container('hello', 'v1-b');

/** A replaced container goes once the record is on the disk, which takes real time. */
async function untilOnly(lab: FleetLab, containerId: string): Promise<void> {
  await waitFor(
    `${containerId} to be the only one`,
    async () => {
      await lab.clock.advance(10);
      return [...lab.runtime.containers.keys()].join() === containerId;
    },
    { everyMs: 2 },
  );
}

describe('a replacement', () => {
  it('does not wait for the record of another worker', async () => {
    const lab = await start();
    const disk = Promise.withResolvers<void>();
    await watchFileSyncs((path) => (path.includes('uid-of-other') ? disk.promise : Promise.resolve()));
    lab.fleet.apply(desiredFixture({ name: 'other', restingState: 'Absent' }));
    lab.fleet.apply(fresh);
    await untilOnly(lab, b(lab));
    disk.resolve();
    await lab.fleet.stop(0);
  });

  it('is made ready beside the container that serves, which then goes', async () => {
    const lab = await start();
    const gate = new Gate('ensure');
    lab.runtime.before = gate.hold;
    lab.emulators.onCall = (call) => call.answer();
    lab.fleet.apply(fresh);
    for (let each = 0; each < 10; each += 1) {
      expect(await lab.invoke()).toMatchObject({ kind: 'Answered', timings: { start: 'running' } });
    }
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', transient: true, containerId: a(lab) });
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'Replacing' });
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 288, workers: 2 });
    await gate.release();
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', transient: false, containerId: b(lab) });
    expect(lab.fleet.view(uid)?.address?.ip).toBe('10.234.0.3');
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Running' });
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    await untilOnly(lab, b(lab));
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
    expect(lab.fleet.view(uid)?.restartCount).toBe(0);
    expect(lab.phases.get('hello')?.slice(-1)).toEqual(['Running']);
    expect(lab.emulators.violations).toEqual([]);
  });

  it('lets the call in the earlier container finish there; the next goes to the new one', async () => {
    const lab = await start();
    const first = lab.invoke();
    lab.fleet.apply(fresh);
    const second = lab.invoke();
    await lab.clock.advance(5_000);
    expect(lab.emulators.calls.map((call) => call.address.ip)).toEqual(['10.234.0.2']);
    expect(lab.runtime.taskOf(b(lab))).toBe('Running');
    lab.emulators.answerAll();
    expect(await first).toMatchObject({ kind: 'Answered' });
    expect(lab.emulators.calls.map((call) => call.address.ip)).toEqual(['10.234.0.3']);
    lab.emulators.answerAll();
    expect(await second).toMatchObject({ kind: 'Answered' });
    await untilOnly(lab, b(lab));
  });

  it('does not end the earlier container before it is written down that the new one serves', async () => {
    const lab = await start();
    const written: unknown[] = [];
    lab.runtime.before = (operation) => {
      if (operation === 'destroy') {
        const file = readFileSync(join(lab.folder, 'state', 'workers', `${uid}.json`), 'utf8');
        written.push((JSON.parse(file) as WorkerRecord).container?.id);
      }
      return Promise.resolve();
    };
    lab.fleet.apply(fresh);
    await untilOnly(lab, b(lab));
    expect(written).toEqual([b(lab)]);
  });

  it('is warmed up before it serves, with the earlier one serving meanwhile', async () => {
    const warm = { warmUpPayload: '{"warm":1}' };
    const lab = new FleetLab();
    lab.emulators.onCall = (call) => call.answer();
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture(warm));
    await settle();
    lab.emulators.onCall = () => undefined;
    lab.fleet.apply(desiredFixture({ ...fresh, ...warm }));
    await settle();
    const [warming] = lab.emulators.calls;
    expect(warming?.request.payload.toString()).toBe('{"warm":1}');
    const call = lab.invoke();
    expect(lab.emulators.calls.map(({ address }) => address.ip)).toEqual(['10.234.0.3', '10.234.0.2']);
    lab.emulators.calls[1]?.answer();
    expect(await call).toMatchObject({ kind: 'Answered' });
    expect(lab.fleet.view(uid)?.containerId).toBe(a(lab));
    warming?.answer();
    await settle();
    expect(lab.fleet.view(uid)?.containerId).toBe(b(lab));
  });

  it('of a paused worker is made ready and paused before the earlier container goes', async () => {
    const lab = await start(desiredFixture(resting));
    lab.fleet.apply(desiredFixture({ ...fresh, ...resting }));
    await settle();
    expect(lab.runtime.operations.slice(2, 4)).toEqual([`ensure ${b(lab)}`, `pause ${b(lab)}`]);
    await untilOnly(lab, b(lab));
    expect(lab.runtime.taskOf(b(lab))).toBe('Paused');
    expect(lab.runtime.count('resume')).toBe(0);
    expect(lab.phases.get('hello')?.slice(-1)).toEqual(['Paused']);
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Paused' });
    expect(lab.fleet.view(uid)?.pausedAt).toBeDefined();
  });

  it('of a paused worker lets a call wake the earlier container meanwhile', async () => {
    const lab = await start(desiredFixture(resting));
    const gate = new Gate('ensure');
    lab.runtime.before = gate.hold;
    lab.fleet.apply(desiredFixture({ ...fresh, ...resting }));
    const call = lab.invoke();
    await settle();
    expect(lab.emulators.calls.map(({ address }) => address.ip)).toEqual(['10.234.0.2']);
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered', timings: { start: 'paused' } });
    await gate.release();
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', containerId: b(lab) });
    await lab.clock.advance(10_100);
    await untilOnly(lab, b(lab));
    expect(lab.runtime.taskOf(b(lab))).toBe('Paused');
  });

  it('of an absent worker is nothing at all', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Absent' }));
    lab.fleet.apply(desiredFixture({ ...fresh, restingState: 'Absent' }));
    await settle();
    expect(lab.runtime.operations).toEqual([]);
  });

  it('that fails leaves the earlier container serving, tells of it, and is tried again later and later', async () => {
    const lab = await start();
    lab.emulators.onCall = (call) => call.answer();
    const error = new EsbError('no such image registry.example/hello:2', { code: 'ImageNotFound' });
    lab.runtime.fail('ensure', { error }, { error });
    lab.fleet.apply(fresh);
    await settle();
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', transient: false, containerId: a(lab) });
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'ReplacementFailed' });
    expect(lab.ready()?.message).toMatch(/^ImageNotFound: no such image.*; .* tried again in 2 s$/);
    expect(lab.fleet.view(uid)?.conditions.ImageReady).toMatchObject({
      status: 'False',
      reason: 'ImageNotFound',
    });
    expect(lab.fleet.allocation(), 'what is not there takes nothing').toEqual({ memoryMiB: 144, workers: 1 });
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered', timings: { start: 'running' } });
    await lab.clock.advance(2_100);
    expect(lab.runtime.count('ensure')).toBe(3);
    await lab.clock.advance(3_000);
    expect(lab.runtime.count('ensure')).toBe(3);
    await lab.clock.advance(1_100);
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', containerId: b(lab) });
    expect(lab.ready()?.reason).toBe('Running');
    expect(lab.fleet.view(uid)?.conditions.ImageReady?.status).toBe('True');
  });

  it('whose process ends at once is not counted as a restart of what serves', async () => {
    const lab = await start();
    const exit = { exitCode: 7, oomKilled: false, finishedAt: new Date(), output: 'no wand\n' };
    lab.runtime.fail('ensure', { error: new WorkerExitError('hello', exit) });
    lab.runtime.fail('ensure', { error: new WorkerExitError('hello', exit) });
    lab.fleet.apply(fresh);
    await settle();
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'ReplacementFailed' });
    expect(lab.ready()?.message).toMatch(/^CrashLoopBackOff: exited with code 7 \(Error\)[\s\S]*tried again in 10 s$/);
    expect(lab.ready()?.message).toContain('no wand');
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', restartCount: 0 });
    expect(lab.fleet.view(uid)?.lastTermination).toBeUndefined();
    await lab.clock.advance(10_100);
    expect(lab.fleet.view(uid)).toMatchObject({ containerId: b(lab), restartCount: 0 });
  });

  it('that ends while it is paused beside the earlier container is made again', async () => {
    const lab = await start(desiredFixture(resting));
    const gate = new Gate('pause');
    lab.runtime.before = gate.hold;
    lab.fleet.apply(desiredFixture({ ...fresh, ...resting }));
    await settle();
    lab.runtime.exit(b(lab), 1);
    await gate.release();
    await lab.clock.advance(1_000);
    await untilOnly(lab, b(lab));
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Paused' });
  });

  it('is given up when the earlier shape is wanted again, and its attempts leave nothing', async () => {
    const lab = await start();
    const error = new EsbError('exited at once', { code: 'CreateFailed' });
    lab.runtime.fail('ensure', { error });
    lab.fleet.apply(fresh);
    await settle();
    lab.fleet.apply(desiredFixture({ generation: 3 }));
    await waitFor('the log of the attempt to go', () => lab.runtime.operations.at(-1) === `destroy ${b(lab)}`, {
      everyMs: 1,
    });
    await untilOnly(lab, a(lab));
    expect(lab.ready()?.reason).toBe('Running');
    expect(lab.runtime.count('destroy')).toBe(1);
  });

  it('back to a container that is being removed makes that anew, and what serves goes on until then', async () => {
    const lab = await start();
    lab.emulators.onCall = (call) => call.answer();
    const gate = new Gate('destroy', a(lab));
    lab.runtime.before = gate.hold;
    lab.fleet.apply(fresh);
    await waitFor('the end to begin', () => lab.runtime.count('destroy') === 1, { everyMs: 1 });
    lab.fleet.apply(desiredFixture({ generation: 3 }));
    await settle();
    expect(lab.fleet.view(uid)?.containerId).toBe(b(lab));
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered', timings: { start: 'running' } });
    await gate.release();
    await untilOnly(lab, a(lab));
    expect(lab.runtime.operations).toEqual([
      `ensure ${a(lab)}`,
      `ensure ${b(lab)}`,
      `destroy ${a(lab)}`,
      `ensure ${a(lab)}`,
      `destroy ${b(lab)}`,
    ]);
    expect(lab.ready()?.reason).toBe('Running');
  });

  it('that is under way when the earlier shape is wanted again is ended', async () => {
    const lab = await start();
    const gate = new Gate('ensure');
    lab.runtime.before = gate.hold;
    lab.fleet.apply(fresh);
    await settle();
    lab.fleet.apply(desiredFixture({ generation: 3 }));
    await untilOnly(lab, a(lab));
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', containerId: a(lab) });
  });

  it('by another one, changed in its middle, ends with the last', async () => {
    const lab = await start();
    lab.emulators.onCall = (call) => call.answer();
    const gate = new Gate('ensure', b(lab));
    lab.runtime.before = gate.hold;
    lab.fleet.apply(fresh);
    await settle();
    lab.fleet.apply(desiredFixture({ generation: 3, shapeHash: 'v1-c' }));
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    await untilOnly(lab, lab.container('hello', 'v1-c'));
    expect(lab.ready()?.reason).toBe('Running');
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
  });

  it('takes over at once when the earlier container ends by itself', async () => {
    const lab = await start();
    const gate = new Gate('ensure', b(lab));
    lab.runtime.before = gate.hold;
    lab.fleet.apply(fresh);
    await settle();
    lab.runtime.exit(a(lab), 1);
    await settle();
    const call = lab.invoke();
    await settle();
    expect(lab.phase()).toBe('Creating');
    await gate.release();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await untilOnly(lab, b(lab));
  });

  it('keeps the timeout of the earlier shape for the calls that go there', async () => {
    const lab = await start(desiredFixture({ timeoutSeconds: 60 }));
    const gate = new Gate('ensure');
    lab.runtime.before = gate.hold;
    lab.fleet.apply(desiredFixture({ ...fresh, timeoutSeconds: 1 }));
    const call = lab.invoke();
    await settle();
    expect(lab.emulators.calls[0]?.request.timeoutMs).toBe(71_500);
    lab.emulators.answerAll();
    await call;
    await gate.release();
    void lab.invoke();
    await settle();
    expect(lab.emulators.calls[0]?.request.timeoutMs).toBe(12_500);
  });
});

describe('room for a replacement', () => {
  it('that the node has not: the earlier container is removed first, after the call that is in it', async () => {
    const lab = await start(old, { capacity: { memoryMiB: 200, workers: 10 } });
    const first = lab.invoke();
    lab.fleet.apply(fresh);
    const second = lab.invoke();
    await settle();
    expect(lab.runtime.operations).toEqual([`ensure ${a(lab)}`]);
    lab.emulators.answerAll();
    expect(await first).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.runtime.operations.slice(1)).toEqual([`destroy ${a(lab)}`, `ensure ${b(lab)}`]);
    lab.emulators.answerAll();
    expect(await second).toMatchObject({ kind: 'Answered' });
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
  });

  it('that the node would not have even then: the earlier container serves on until there is', async () => {
    const lab = await start(old, { capacity: { memoryMiB: 300, workers: 10 } });
    lab.emulators.onCall = (call) => call.answer();
    lab.fleet.apply(desiredFixture({ name: 'other' }));
    await settle();
    lab.fleet.apply(desiredFixture({ ...fresh, memoryMiB: 250 }));
    await settle();
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'ReplacementFailed' });
    expect(lab.ready()?.message).toContain('no room for 250 MiB of memory and 16 MiB of /tmp');
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    lab.fleet.release('uid-of-other');
    await settle();
    await lab.clock.advance(1);
    await untilOnly(lab, b(lab));
    expect(lab.ready()?.reason).toBe('Running');
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 266, workers: 1 });
  });

  it('is not looked for on the network of the node', async () => {
    const lab = await start(desiredFixture({ networkMode: 'Host' }));
    lab.fleet.apply(desiredFixture({ ...fresh, networkMode: 'Host' }));
    await settle();
    expect(lab.runtime.operations.slice(1)).toEqual([`destroy ${a(lab)}`, `ensure ${b(lab)}`]);
  });

  it('is taken by a few resting workers at a time, and by another when one of them fails', async () => {
    const lab = new FleetLab({ limits: { replacements: { resting: 2, active: 16 } } });
    await lab.fleet.adopt();
    const names = ['r0', 'r1', 'r2', 'r3', 'r4'];
    for (const name of names) {
      lab.fleet.apply(desiredFixture({ name, ...resting }));
    }
    await settle();
    const gates = new Map(names.map((name) => [name, new Gate('ensure', lab.container(name, 'v1-b'))]));
    lab.runtime.before = async (operation, containerId) => {
      await Promise.all([...gates.values()].map((gate) => gate.hold(operation, containerId)));
    };
    const begun = (): readonly string[] =>
      names.filter((name) => lab.runtime.operations.includes(`ensure ${lab.container(name, 'v1-b')}`));
    for (const name of names) {
      lab.fleet.apply(desiredFixture({ name, ...resting, generation: 2, shapeHash: 'v1-b' }));
    }
    await settle();
    expect(begun()).toEqual(['r0', 'r1']);
    lab.runtime.fail('ensure', { error: new EsbError('no', { code: 'CreateFailed' }) });
    await gates.get('r0')?.release();
    await lab.clock.advance(1);
    expect(begun()).toEqual(['r0', 'r1', 'r2']);
    await gates.get('r1')?.release();
    await waitFor(
      'the next to begin',
      async () => {
        await lab.clock.advance(1);
        return begun().includes('r3');
      },
      { everyMs: 2 },
    );
    for (const gate of gates.values()) {
      await gate.release();
    }
    await waitFor(
      'all to be replaced',
      async () => {
        await lab.clock.advance(1_000);
        return names.every(
          (name) =>
            lab.runtime.taskOf(lab.container(name, 'v1-b')) === 'Paused' &&
            lab.runtime.taskOf(lab.container(name, 'v1-a')) === undefined,
        );
      },
      { everyMs: 2 },
    );
    expect(lab.runtime.count('resume')).toBe(0);
  });

  it('does not wait for its turn when a call waits for nothing else', async () => {
    const lab = new FleetLab({ limits: { replacements: { resting: 1, active: 1 } } });
    lab.emulators.onCall = (call) => call.answer();
    await lab.fleet.adopt();
    for (const name of ['r0', 'r1']) {
      lab.fleet.apply(desiredFixture({ name, ...resting }));
    }
    await settle();
    const gate = new Gate('ensure');
    lab.runtime.before = gate.hold;
    for (const name of ['r0', 'r1']) {
      lab.fleet.apply(desiredFixture({ name, ...resting, generation: 2, shapeHash: 'v1-b' }));
    }
    expect(await lab.invoke({ name: 'r1' })).toMatchObject({
      kind: 'Answered',
      timings: { start: 'paused' },
    });
  });
});

describe('an agent that starts again in the middle of a replacement', () => {
  /** Where the agent ends: the operation that is under way then. */
  const points = [
    ['new container is begun', 'ensure', false],
    ['new container runs and nobody has seen it ready', 'ensure', true],
    ['new container is to be frozen', 'pause', false],
    ['new container was frozen unseen', 'pause', true],
    ['earlier one is to be removed', 'destroy', false],
  ] as const;

  for (const state of ['Running', 'Paused'] as const) {
    it.each(points)(`finishes that of a worker that rests ${state} when the %s`, async (_, operation, unseen) => {
      const before = await start(desiredFixture({ restingState: state }));
      const reached = Promise.withResolvers<void>();
      before.runtime.before = (each, containerId) => {
        if (each !== operation || (operation !== 'destroy' && containerId !== b(before))) {
          return Promise.resolve();
        }
        reached.resolve();
        return new Promise(() => undefined);
      };
      before.fleet.apply(desiredFixture({ ...fresh, restingState: state }));
      if (operation === 'pause' && state === 'Running') {
        await settle();
      } else {
        await reached.promise;
      }
      before.runtime.before = () => Promise.resolve();
      const present = before.runtime.containers.get(a(before));
      if (unseen && operation === 'ensure' && present !== undefined) {
        before.runtime.put({
          ...present,
          containerId: b(before),
          shapeHash: 'v1-b',
          address: { ip: '10.234.0.9', port: 8080 },
          task: { kind: 'Running', pid: 2 },
        });
      } else if (unseen && before.runtime.taskOf(b(before)) === 'Running') {
        before.runtime.foreign('Paused', b(before));
      }
      await before.recorded((record) => record.desired.shapeHash === 'v1-b');
      const lab = await before.restart();
      lab.emulators.onCall = (call) => call.answer();
      expect(lab.fleet.view(uid)?.conditions.Ready.status).toBe('True');
      await untilOnly(lab, b(lab));
      await lab.clock.advance(1_000);
      expect(lab.phase()).toBe(state);
      expect(lab.runtime.taskOf(b(lab))).toBe(state);
      expect(lab.fleet.view(uid)).toMatchObject({ containerId: b(lab), restartCount: 0 });
      expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
      expect(lab.emulators.violations).toEqual([]);
    });
  }

  it('loses nothing with its record: the earlier one serves until the new one is seen ready', async () => {
    const before = await start();
    before.runtime.before = new Gate('destroy').hold;
    before.fleet.apply(fresh);
    await before.recorded((record) => record.container?.id === b(before));
    before.runtime.before = () => Promise.resolve();
    const both = [...before.runtime.containers.keys()];
    expect(both).toHaveLength(2);
    rmSync(join(before.folder, 'state', 'workers', `${uid}.json`), { force: true });
    const lab = await before.restart();
    expect([...lab.runtime.containers.keys()], 'nobody claims them yet, nobody removes them').toEqual(both);
    lab.emulators.onCall = (call) => call.answer();
    const gate = new Gate('ensure');
    lab.runtime.before = gate.hold;
    lab.fleet.apply(fresh);
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered', timings: { start: 'running' } });
    expect(lab.fleet.view(uid)?.containerId).toBe(a(lab));
    await gate.release();
    await untilOnly(lab, b(lab));
    expect(lab.fleet.view(uid)?.restartCount).toBe(0);
  });

  it('takes over containers that an earlier version named, and replaces them at the next change only', async () => {
    const before = await start();
    await before.recorded((record) => record.startedAt !== undefined);
    const present = before.runtime.containers.get(a(before));
    if (present === undefined) {
      throw new Error('no container');
    }
    before.runtime.containers.clear();
    before.runtime.put({ ...present, containerId: 'hello-0ld5tyle' });
    const lab = await before.restart();
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', containerId: 'hello-0ld5tyle' });
    expect(lab.runtime.count('ensure')).toBe(1);
    lab.emulators.onCall = (call) => call.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    lab.fleet.apply(fresh);
    await untilOnly(lab, b(lab));
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
  });

  it('calls neither a container that a call was in, nor one before it is seen ready', async () => {
    const before = await start();
    const gate = new Gate('ensure', b(before));
    before.runtime.before = gate.hold;
    before.fleet.apply(fresh);
    void before.invoke();
    await settle();
    before.runtime.before = () => Promise.resolve();
    await before.recorded((record) => record.desired.shapeHash === 'v1-b');
    const lab = await before.restart();
    lab.emulators.onCall = (call) => call.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    expect(lab.emulators.sent).toHaveLength(2);
    // The time of the call that was left, of which no end is seen.
    await lab.clock.advance(15_000);
    await untilOnly(lab, b(lab));
  });

  it('finds both also when the runtime did not answer at first', async () => {
    const before = await start();
    const gate = new Gate('pause');
    before.runtime.before = gate.hold;
    before.fleet.apply(fresh);
    await settle();
    await before.recorded((record) => record.desired.shapeHash === 'v1-b');
    const address = before.runtime.containers.get(b(before))?.address;
    before.runtime.down = true;
    const lab = await before.restart();
    await lab.clock.advance(3_000);
    lab.runtime.down = false;
    await lab.clock.advance(2_000);
    await untilOnly(lab, b(lab));
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Running', containerId: b(lab), restartCount: 0 });
    expect(lab.fleet.view(uid)?.address, 'it was not made anew').toEqual(address);
  });
});

describe('the removal of a worker in the middle of a replacement', () => {
  it('takes both containers, and is reported when both are gone', async () => {
    const lab = await start();
    const gate = new Gate('destroy', b(lab));
    lab.runtime.before = gate.hold;
    const inside = lab.invoke();
    lab.fleet.apply(fresh);
    await settle();
    expect(lab.runtime.containers.size).toBe(2);
    lab.fleet.apply({ ...fresh, deleting: true });
    await settle();
    lab.emulators.answerAll();
    await inside;
    await settle();
    expect([...lab.runtime.containers.keys()]).toEqual([b(lab)]);
    expect(lab.fleet.view(uid)?.conditions.CleanedUp?.status).toBe('False');
    await gate.release();
    expect(lab.fleet.view(uid)?.conditions.CleanedUp?.status).toBe('True');
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 0, workers: 0 });
    lab.fleet.release(uid);
    expect(lab.fleet.views()).toEqual([]);
    expect(lab.fleet.known().containerIds.size).toBe(0);
  });

  it('leaves neither to the sweep while the worker has it', async () => {
    const lab = await start();
    const inside = lab.invoke();
    lab.fleet.apply(fresh);
    await lab.clock.advance(60_000);
    await lab.fleet.sweep(new Set([uid]), () => Promise.resolve(true));
    expect(lab.runtime.containers.size).toBe(2);
    lab.emulators.answerAll();
    expect(await inside).toMatchObject({ kind: 'Answered' });
  });
});
