import { existsSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import { DeadlineError } from '../../../src/common/deadline.ts';
import { EsbError } from '../../../src/common/errors.ts';
import { desiredFixture, FleetLab, type LabOptions } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const names = Array.from({ length: 10 }, (_, index) => `w${index}`);
const stuck = 'w7';

/** Ten workers that run, all of them answering calls at once. */
async function ten(change: Partial<DesiredWorker> = {}, options: LabOptions = {}): Promise<FleetLab> {
  const lab = new FleetLab(options);
  await lab.fleet.adopt();
  for (const name of names) {
    lab.fleet.apply(desiredFixture({ name, ...change }));
  }
  await settle();
  lab.emulators.onCall = (call) => call.answer();
  return lab;
}

async function outcomes(lab: FleetLab, of: readonly string[] = names): Promise<readonly string[]> {
  const seen = new Map<string, string>();
  for (const name of of) {
    void lab.invoke({ name }).then((result) => seen.set(name, result.kind));
  }
  await lab.clock.advance(100);
  return of.map((name) => seen.get(name) ?? 'waits');
}

const answered = (count: number): readonly string[] => Array.from({ length: count }, () => 'Answered');

describe('one shim of ten that hangs', () => {
  it('leaves every worker serving when the agent starts again, and is made anew within two minutes', async () => {
    const before = await ten();
    for (const name of names) {
      await before.recorded((record) => record.startedAt !== undefined, name);
    }
    before.runtime.hung.add(before.container(stuck));
    const lab = await before.restart();
    lab.emulators.onCall = (call) => call.answer();
    expect(await outcomes(lab)).toEqual(answered(10));
    await lab.clock.advance(120_000);
    expect(lab.runtime.hung.size).toBe(0);
    expect(lab.runtime.operations.filter((each) => each.startsWith('destroy'))).toEqual([
      `destroy ${lab.container(stuck)}`,
    ]);
    expect(await outcomes(lab)).toEqual(answered(10));
    expect(lab.ready(stuck)).toMatchObject({ status: 'True', reason: 'Running' });
  });

  it.each(['Running', 'Paused'] as const)('is found without a call, of a worker that rests %s', async (rest) => {
    const lab = await ten({ restingState: rest });
    lab.runtime.hung.add(lab.container(stuck));
    await lab.clock.advance(120_000);
    expect(lab.runtime.hung.size).toBe(0);
    expect(lab.runtime.count('destroy')).toBe(1);
    expect(lab.phase(stuck)).toBe(rest);
  });

  it('keeps no call waiting that its worker can take, and cuts none off', async () => {
    const lab = await ten({ timeoutSeconds: 600 });
    lab.emulators.onCall = () => undefined;
    const call = lab.invoke({ name: stuck });
    lab.runtime.hung.add(lab.container(stuck));
    await lab.clock.advance(120_000);
    expect(lab.runtime.count('destroy')).toBe(0);
    lab.emulators.onCall = (each) => each.answer();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.runtime.count('destroy')).toBe(1);
    expect(await outcomes(lab)).toEqual(answered(10));
  });

  it.each([
    ['deleted', (lab: FleetLab) => lab.fleet.apply(desiredFixture({ name: stuck, generation: 2, deleting: true }))],
    ['released', (lab: FleetLab) => lab.fleet.release(`uid-of-${stuck}`)],
    ['reshaped', (lab: FleetLab) => lab.fleet.apply(desiredFixture({ name: stuck, generation: 2, shapeHash: 'v1-b' }))],
  ] as const)('does not keep a worker that is %s', async (_, change) => {
    const lab = await ten({ pauseAfterSeconds: 10, restingState: 'Running' });
    lab.runtime.hung.add(lab.container(stuck));
    await lab.clock.advance(15_000);
    change(lab);
    await lab.clock.advance(2_000);
    // One that is replaced goes once the record on disk names its successor.
    await waitFor('the worker to be gone', () => lab.task(stuck) === undefined);
    const others = names.filter((name) => name !== stuck);
    expect(await outcomes(lab, others)).toEqual(answered(9));
  });

  it('is mended by itself when it answers again in time', async () => {
    const lab = await ten();
    lab.runtime.hung.add(lab.container(stuck));
    await lab.clock.advance(70_000);
    lab.runtime.hung.clear();
    await lab.clock.advance(120_000);
    expect(lab.runtime.count('destroy')).toBe(0);
    expect(await outcomes(lab)).toEqual(answered(10));
  });
});

describe('ten shims of ten that hang', () => {
  it('cost one worker as long as nothing shows whose fault it is', async () => {
    const lab = await ten();
    const hangs = (): void => {
      for (const name of names) {
        lab.runtime.hung.add(lab.container(name));
      }
    };
    lab.runtime.onEffect = (operation) => {
      if (operation === 'ensure') {
        hangs();
      }
    };
    hangs();
    await lab.clock.advance(300_000);
    expect(new Set(lab.runtime.operations.filter((each) => each.startsWith('destroy'))).size).toBe(1);
    expect(await outcomes(lab)).toEqual(answered(10));
  });

  it('are made anew one and all once the first of them shows that others answer', async () => {
    const lab = await ten();
    for (const name of names) {
      lab.runtime.hung.add(lab.container(name));
    }
    await lab.clock.advance(150_000);
    expect(lab.runtime.hung.size).toBe(0);
    expect(await outcomes(lab)).toEqual(answered(10));
  });
});

describe('a containerd that answers nobody', () => {
  it.each(['refuses', 'hangs'] as const)('and %s: costs no running worker a call', async (how) => {
    const lab = await ten({ pauseAfterSeconds: 10, restingState: 'Running' });
    expect(await outcomes(lab)).toEqual(answered(10));
    if (how === 'refuses') {
      lab.runtime.down = true;
    } else {
      lab.runtime.before = (operation) => {
        const slow = Promise.withResolvers<void>();
        const error = new DeadlineError(operation, 10_000);
        lab.clock.setTimer(() => slow.reject(error), operation === 'resume' ? 0 : 5_000);
        return operation === 'resume' ? Promise.resolve() : slow.promise;
      };
    }
    for (let round = 0; round < 4; round += 1) {
      await lab.clock.advance(12_000);
      const seen = new Set<string>();
      for (const name of names) {
        void lab.invoke({ name }).then(({ kind }) => seen.add(kind));
      }
      // A pause that has begun is waited for.
      await lab.clock.advance(5_000);
      expect([...seen]).toEqual(['Answered']);
    }
    expect(lab.runtime.count('destroy')).toBe(0);
    expect(names.map((name) => lab.task(name))).toEqual(names.map(() => 'Running'));
    lab.runtime.down = false;
    lab.runtime.before = () => Promise.resolve();
    await lab.clock.advance(30_000);
    expect(names.map((name) => lab.phase(name))).toEqual(names.map(() => 'Paused'));
  });

  it.each([
    ['refuses', 'RuntimeUnavailable'],
    ['hangs', 'DeadlineExceeded'],
  ])('and %s when the agent starts again: keeps nobody from calling what runs or is frozen', async (_, code) => {
    const before = await ten();
    before.fleet.apply(desiredFixture({ name: 'frozen', restingState: 'Paused' }));
    await settle();
    for (const name of [...names, 'frozen']) {
      await before.recorded((record) => record.served !== undefined, name);
    }
    const fault = { error: Object.assign(new DeadlineError('Tasks.List', 10_000), { code }) };
    before.runtime.fail('list', ...Array.from({ length: 8 }, () => fault));
    const lab = await before.restart();
    lab.emulators.onCall = (call) => call.answer();
    expect(await outcomes(lab, [...names, 'frozen'])).toEqual(answered(11));
    await lab.clock.advance(30_000);
    expect(await outcomes(lab, [...names, 'frozen'])).toEqual(answered(11));
    expect(lab.runtime.count('destroy')).toBe(0);
    expect(lab.runtime.containers.size).toBe(11);
  });

  it.each([
    ['refuses', 'rests Absent', desiredFixture({ removeAfterSeconds: 10 }), undefined],
    ['hangs', 'rests Absent', desiredFixture({ removeAfterSeconds: 10 }), undefined],
    ['refuses', 'is replaced in its place', desiredFixture({ networkMode: 'Host' }), 'v1-b'],
    ['hangs', 'is replaced in its place', desiredFixture({ networkMode: 'Host' }), 'v1-b'],
  ] as const)('and %s: costs a worker that %s no call, and removes it later', async (how, _, desired, next) => {
    const lab = await FleetLab.with(desired);
    lab.emulators.onCall = (call) => call.answer();
    lab.runtime.down = how === 'refuses';
    lab.runtime.before = (operation) => {
      const slow = Promise.withResolvers<void>();
      const error = new EsbError(`${operation} had no answer`, {
        code: 'RuntimeUnavailable',
        retryable: true,
      });
      lab.clock.setTimer(() => slow.reject(error), 5_000);
      return slow.promise;
    };
    if (next !== undefined) {
      lab.fleet.apply({ ...desired, generation: 2, shapeHash: next });
    }
    await lab.clock.advance(20_000);
    expect(await outcomes(lab, ['hello'])).toEqual(['Answered']);
    await lab.clock.advance(20_000);
    expect(await outcomes(lab, ['hello'])).toEqual(['Answered']);
    lab.runtime.down = false;
    lab.runtime.before = () => Promise.resolve();
    await lab.clock.advance(30_000);
    expect(lab.task()).toBeUndefined();
  });

  it('leaves a worker callable that was to be settled', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused', pauseAfterSeconds: 600 }));
    await lab.clock.advance(1_000);
    lab.emulators.onCall = (call) => call.answer();
    await lab.invoke();
    lab.runtime.down = true;
    await lab.clock.advance(30_000);
    expect(await outcomes(lab, ['hello'])).toEqual(['Answered']);
  });

  it('is not asked to pause once its events have ended', async () => {
    const lab = await ten({ pauseAfterSeconds: 10, restingState: 'Running' });
    lab.runtime.emit({ kind: 'Disconnected', containerId: '' });
    lab.runtime.down = true;
    await lab.clock.advance(30_000);
    expect(lab.runtime.count('pause')).toBe(0);
    lab.runtime.down = false;
    await lab.clock.advance(2_000);
    expect(lab.phase('w0')).toBe('Paused');
  });

  it('keeps no worker waiting that is told of while the first list is taken', async () => {
    const lab = new FleetLab();
    lab.runtime.down = true;
    await lab.fleet.adopt();
    lab.runtime.down = false;
    const list = Promise.withResolvers<void>();
    lab.runtime.before = (operation) => (operation === 'list' ? list.promise : Promise.resolve());
    await lab.clock.advance(1_500);
    lab.fleet.apply(desiredFixture());
    await settle();
    expect(lab.runtime.containers.size).toBe(0);
    list.resolve();
    await settle();
    expect(lab.phase()).toBe('Running');
  });

  it('is shown, by a worker of which nothing is known, within seconds', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.emulators.stateOf = () => 'Gone';
    lab.runtime.containers.clear();
    lab.runtime.down = true;
    void lab.invoke();
    await lab.clock.advance(6_000);
    expect(lab.phase()).toBe('Unknown');
    expect(lab.ready()).toMatchObject({ status: 'Unknown' });
  });
});

describe('what ends while containerd is away', () => {
  it.each(['RuntimeUnavailable', 'DeadlineExceeded'])(
    'is found although the first looks afterwards fail with %s',
    async (code) => {
      const lab = await FleetLab.with(desiredFixture());
      const present = lab.runtime.containers.get(lab.container());
      if (present === undefined) {
        throw new Error('no container');
      }
      const exit = { exitCode: 1, oomKilled: false, exitedAt: new Date(lab.clock.now()) };
      lab.runtime.put({ ...present, task: { kind: 'Stopped', ...exit } });
      const error = Object.assign(new DeadlineError('Tasks.List', 10_000), { code });
      lab.runtime.fail('list', { error }, { error }, { error });
      lab.runtime.emit({ kind: 'Reconnected', containerId: '' });
      await lab.clock.advance(10_000);
      expect(lab.fleet.view('uid-of-hello')).toMatchObject({ phase: 'Running', restartCount: 1 });
      expect(lab.task()).toBe('Running');
    },
  );

  it('is found within a minute where no event told of it at all', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.containers.clear();
    await lab.clock.advance(61_000);
    expect(lab.task()).toBe('Running');
  });
});

describe('a worker that an agent died while starting', () => {
  it('is waited for until its port is open', async () => {
    const before = await FleetLab.with(desiredFixture({ restingState: 'Absent' }));
    await before.recorded((record) => record.rest === 'Absent');
    const opened = Promise.withResolvers<void>();
    before.runtime.put({
      containerId: before.container(),
      identity: desiredFixture().identity,
      epoch: 1,
      shapeHash: 'v1-a',
      image: 'registry.example/hello:1@sha256:0',
      task: { kind: 'Running', pid: 1 },
      runtimeInterface: 'Emulator',
      address: { ip: '10.234.0.9', port: 8080 },
      createdAt: new Date(before.clock.now()),
    });
    before.runtime.before = (operation) => (operation === 'ensure' ? opened.promise : Promise.resolve());
    const lab = await before.restart();
    lab.emulators.onCall = (call) => call.answer();
    const call = lab.invoke();
    await lab.clock.advance(1_000);
    expect(lab.emulators.sent).toEqual([]);
    opened.resolve();
    expect(await call).toMatchObject({ kind: 'Answered' });
    expect(lab.runtime.count('destroy')).toBe(0);
  });
});

describe('marks of calls that an earlier agent left', () => {
  it('are read once, however many workers have no record', async () => {
    const before = await ten();
    for (const name of names) {
      await before.recorded((record) => record.startedAt !== undefined, name);
      writeFileSync(`${before.folder}/state/workers/uid-of-${name}.json`, '{"version":2}');
    }
    const lab = await before.restart();
    for (const name of names) {
      // A mark that an agent of this run has written says nothing of the one before.
      writeFileSync(`${before.folder}/run/uid-of-${name}.mark`, '');
      lab.fleet.apply(desiredFixture({ name }));
    }
    await settle();
    expect(lab.runtime.count('destroy')).toBe(0);
  });
});

describe('a container that cannot be removed', () => {
  const another = { generation: 2, shapeHash: 'v1-b' };

  it.each([
    ['deleted', (lab: FleetLab) => lab.fleet.apply(desiredFixture({ generation: 2, deleting: true })), 'True'],
    ['released', (lab: FleetLab) => lab.fleet.release('uid-of-hello'), undefined],
  ] as const)('does not keep a worker that is %s, and keeps what it takes', async (_, change, cleanedUp) => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.undying.add(lab.container());
    change(lab);
    await lab.clock.advance(110_000);
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp).toMatchObject({
      status: 'False',
      reason: 'TaskStuck',
    });
    await lab.clock.advance(70_000);
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe(cleanedUp);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
    expect(lab.fleet.setAside()).toMatchObject([{ containerId: lab.container(), name: 'hello', memoryMiB: 144 }]);
    lab.runtime.undying.clear();
    await lab.clock.advance(61_000);
    expect(lab.runtime.containers.size).toBe(0);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 0, workers: 0 });
    expect(lab.fleet.setAside()).toEqual([]);
  });

  it('does not keep its worker from another container of the same shape', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.undying.add(lab.container());
    lab.fleet.outputLost(lab.container(), 1);
    await lab.clock.advance(180_000);
    lab.emulators.onCall = (call) => call.answer();
    expect(await outcomes(lab, ['hello'])).toEqual(['Answered']);
    const { containerId } = lab.fleet.view('uid-of-hello') ?? {};
    expect(containerId).not.toBe(lab.container());
    expect(lab.runtime.taskOf(containerId ?? '')).toBe('Running');
    expect(lab.fleet.allocation().workers).toBe(2);
  });

  it('does not keep a replacement from its place that was ready before it was given up', async () => {
    const lab = await ten({ timeoutSeconds: 600 });
    lab.emulators.onCall = () => undefined;
    const call = lab.invoke({ name: stuck });
    const change = { timeoutSeconds: 600, generation: 2, shapeHash: 'v1-b' };
    lab.fleet.apply(desiredFixture({ name: stuck, ...change }));
    await settle();
    expect(lab.runtime.taskOf(lab.container(stuck, 'v1-b'))).toBe('Running');
    lab.runtime.hung.add(lab.container(stuck));
    lab.runtime.undying.add(lab.container(stuck));
    await lab.clock.advance(120_000);
    lab.emulators.onCall = (each) => each.answer();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    expect(await outcomes(lab, [stuck])).toEqual(['Answered']);
  });

  it('does not keep a replacement from its place', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.undying.add(lab.container());
    lab.fleet.apply(desiredFixture(another));
    await waitFor('the successor', () => lab.runtime.taskOf(lab.container('hello', 'v1-b')) === 'Running');
    await lab.recorded((record) => record.container?.shapeHash === 'v1-b');
    await lab.clock.advance(190_000);
    expect(lab.fleet.setAside()).toMatchObject([{ containerId: lab.container() }]);
    expect(lab.phase()).toBe('Running');
  });

  it("is known to the next agent, which takes it for nobody's", async () => {
    const before = await FleetLab.with(desiredFixture());
    before.runtime.undying.add(before.container());
    before.fleet.apply(desiredFixture({ generation: 2, deleting: true }));
    await before.clock.advance(180_000);
    await waitFor('the file', () => existsSync(`${before.folder}/state/set-aside.json`));
    await waitFor('no record', () => !existsSync(`${before.folder}/state/workers/uid-of-hello.json`));
    const lab = await before.restart();
    expect(lab.fleet.setAside()).toMatchObject([{ containerId: lab.container() }]);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
    await lab.fleet.sweep(new Set(), () => Promise.resolve(true));
    lab.fleet.apply(desiredFixture({ generation: 3 }));
    await lab.clock.advance(1_000);
    expect(lab.fleet.view('uid-of-hello')?.phase).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')?.containerId).not.toBe(lab.container());
  });

  it('is shown as Unknown until it is set aside, not as one that answers calls', async () => {
    const lab = await ten();
    const shown = new Set<string>();
    lab.runtime.hung.add(lab.container(stuck));
    lab.runtime.undying.add(lab.container(stuck));
    await waitFor('its removal', async () => {
      await lab.clock.advance(1_000);
      return lab.runtime.count('destroy') > 0;
    });
    await lab.clock.advance(10_000);
    lab.fleet.subscribe({
      changed: ({ identity, phase, transient }) => {
        if (identity.name === stuck && !transient) {
          shown.add(phase);
        }
      },
      removed: () => undefined,
    });
    await lab.clock.advance(100_000);
    expect([...shown]).toEqual(['Unknown']);
    await lab.clock.advance(60_000);
    expect(lab.fleet.setAside()).toHaveLength(1);
    expect(lab.ready(stuck)).toMatchObject({ status: 'True', reason: 'Running' });
  });

  it('is not set aside while each question to containerd takes too long', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.before = (operation) => {
      const ms = operation === 'destroy' ? 61_000 : 15_000;
      const slow = Promise.withResolvers<void>();
      lab.clock.setTimer(() => slow.reject(new DeadlineError(operation, ms)), ms);
      return slow.promise;
    };
    lab.fleet.release('uid-of-hello');
    await lab.clock.advance(600_000);
    expect(lab.fleet.setAside()).toEqual([]);
    lab.runtime.before = () => Promise.resolve();
    await lab.clock.advance(100_000);
    expect(lab.fleet.views()).toEqual([]);
  });

  it('is not set aside while containerd answers for nobody', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.down = true;
    lab.fleet.release('uid-of-hello');
    await lab.clock.advance(600_000);
    expect(lab.fleet.setAside()).toEqual([]);
    lab.runtime.down = false;
    await lab.clock.advance(5_000);
    expect(lab.fleet.views()).toEqual([]);
  });
});
