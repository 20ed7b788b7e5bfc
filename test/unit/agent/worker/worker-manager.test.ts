import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { InvocationResult } from '../../../../src/agent/model/invocation.ts';
import { foreignCode } from '../../../../src/common/error-codes.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import { WorkerExitError } from '../../../../src/runtime/contract/worker-exit-error.ts';
import { watchFileSyncs } from '../../../support/file-syncs.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';

const paused = desiredFixture({ restingState: 'Paused' });
const absent = desiredFixture({ restingState: 'Absent' });

describe('a worker', () => {
  it('that rests Running is made and answers calls one at a time, first come, first served', async () => {
    const lab = await FleetLab.with(desiredFixture());
    expect(lab.phase()).toBe('Running');
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Running' });
    const calls = [lab.invoke(), lab.invoke(), lab.invoke()];
    expect(lab.fleet.view('uid-of-hello')?.inFlight).toBe(3);
    for (let each = 0; each < 3; each += 1) {
      expect(lab.emulators.calls).toHaveLength(1);
      lab.emulators.answerAll();
      await settle();
    }
    const results = await Promise.all(calls);
    expect(results.map((result) => result.kind)).toEqual(['Answered', 'Answered', 'Answered']);
    expect(lab.emulators.sent).toEqual(['request-1', 'request-2', 'request-3']);
    expect(lab.emulators.violations).toEqual([]);
    expect(lab.fleet.view('uid-of-hello')?.inFlight).toBe(0);
    const stamps = results.map((result) => (result.kind === 'Answered' ? result.stamp : ''));
    expect(stamps).toEqual(stamps.toSorted());
    expect(new Set(stamps).size).toBe(3);
  });

  it('that rests Paused is made, then frozen; many callers cause one resume, and it is frozen again when idle', async () => {
    const lab = await FleetLab.with(paused);
    expect(lab.phases.get('hello')).toEqual(['Pending', 'Creating', 'Pulling', 'Creating', 'Pausing', 'Paused']);
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Paused' });
    lab.emulators.onCall = (call) => call.answer();
    const results = await Promise.all(Array.from({ length: 50 }, () => lab.invoke()));
    expect(results.every((result) => result.kind === 'Answered')).toBe(true);
    expect(results[0]).toMatchObject({ timings: { start: 'paused' } });
    expect(lab.runtime.count('resume')).toBe(1);
    expect(lab.emulators.violations).toEqual([]);
    await lab.clock.advance(9_900);
    expect(lab.task()).toBe('Running');
    await lab.clock.advance(200);
    expect(lab.task()).toBe('Paused');
    expect(lab.phase()).toBe('Paused');
  });

  it('that is woken and frozen again writes one file through to the disk for each', async () => {
    const lab = await FleetLab.with(paused);
    lab.emulators.onCall = (call) => call.answer();
    const cycle = async (): Promise<void> => {
      await lab.invoke();
      await lab.clock.advance(5_000);
      await lab.recorded(({ rest }) => rest === 'Running');
      await lab.clock.advance(6_000);
      await lab.recorded(({ rest }) => rest === 'Paused');
    };
    // The first call makes it warm, which is more than a change of rest.
    await cycle();
    const synced = await watchFileSyncs();
    await cycle();
    await cycle();
    await cycle();
    expect(synced.map((path) => basename(path).split('.')[0])).toEqual(Array(6).fill('uid-of-hello'));
  });

  it('is resumed in the very step in which a call arrives', async () => {
    const lab = await FleetLab.with(paused);
    const before = lab.runtime.operations.length;
    const call = lab.invoke();
    expect(lab.runtime.operations.slice(before)).toEqual([`resume ${lab.container()}`]);
    await settle();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
  });

  it('that is being frozen takes the call once it is frozen and thawed, and is never called before', async () => {
    const lab = await FleetLab.with(desiredFixture({ pauseAfterSeconds: 5 }));
    const frozen = Promise.withResolvers<void>();
    lab.runtime.before = (operation) => (operation === 'pause' ? frozen.promise : Promise.resolve());
    await lab.clock.advance(5_000);
    expect(lab.phase()).toBe('Pausing');
    const call = lab.invoke();
    await settle();
    expect(lab.emulators.sent).toEqual([]);
    frozen.resolve();
    await settle();
    expect(lab.runtime.operations.slice(-2)).toEqual([`pause ${lab.container()}`, `resume ${lab.container()}`]);
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered', timings: { start: 'paused' } });
    expect(lab.emulators.violations).toEqual([]);
  });

  it('is never frozen while a call is in it, however long that takes', { tags: ['P12'] }, async () => {
    const lab = await FleetLab.with(desiredFixture({ pauseAfterSeconds: 1, timeoutSeconds: 900 }));
    const call = lab.invoke();
    await lab.clock.advance(60_000);
    expect(lab.task()).toBe('Running');
    lab.emulators.answerAll();
    await call;
    await lab.clock.advance(1_100);
    expect(lab.task()).toBe('Paused');
  });

  it('goes to Paused and then to Absent by its idle policy, and starts cold at the next call', async () => {
    const lab = await FleetLab.with(desiredFixture({ pauseAfterSeconds: 2, removeAfterSeconds: 5 }));
    await lab.clock.advance(2_000);
    expect(lab.phase()).toBe('Paused');
    await lab.clock.advance(3_000);
    expect(lab.phase()).toBe('Absent');
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'RemovedIdle' });
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 0, workers: 0 });
    const call = lab.invoke();
    await settle();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered', timings: { start: 'absent' } });
    expect(lab.phase()).toBe('Running');
  });

  it('is frozen when idle, also when its time comes in the middle of the decision', {
    tags: ['P11'],
  }, async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused', pauseAfterSeconds: 1 }));
    lab.emulators.onCall = (call) => call.answer();
    for (let round = 0; round < 60; round += 1) {
      lab.clock.flow(0.01 * round, 0.9);
      expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
      await lab.clock.advance(1_200);
      await settle();
      expect(lab.phase()).toBe('Paused');
    }
  });

  it('that rests Absent is made for a call, and removed when it is idle', async () => {
    const lab = await FleetLab.with({ ...absent, pauseAfterSeconds: 3 });
    expect(lab.phase()).toBe('Absent');
    expect(lab.runtime.operations).toEqual([]);
    const call = lab.invoke();
    await settle();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await lab.clock.advance(3_100);
    expect(lab.phase()).toBe('Absent');
    expect(lab.task()).toBeUndefined();
  });

  it('is warmed up by one call before it is ready', { tags: ['P12'] }, async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused', warmUpPayload: '{"warm":1}' }));
    expect(lab.emulators.calls[0]?.request.payload.toString()).toBe('{"warm":1}');
    expect(lab.ready()?.status).toBe('False');
    lab.emulators.answerAll();
    await settle();
    expect(lab.phase()).toBe('Paused');
    expect(lab.emulators.sent).toHaveLength(1);
  });

  it('with wakePolicy Never refuses calls while it rests, and takes them when it runs', async () => {
    const lab = await FleetLab.with({ ...paused, wakePolicy: 'Never' });
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'PausedByOwner' });
    expect(lab.conditions()?.Callable).toMatchObject({ status: 'False', reason: 'PausedByOwner' });
    expect(lab.fleet.view('uid-of-hello')?.callable).toBe(false);
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'PausedByOwner' });
    lab.fleet.apply(desiredFixture({ generation: 2, wakePolicy: 'Never' }));
    await settle();
    lab.emulators.onCall = (call) => call.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
  });

  it('goes where its owner says at once, also after a call', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.emulators.onCall = (call) => call.answer();
    await lab.invoke();
    lab.fleet.apply({ ...paused, generation: 2 });
    await settle();
    expect(lab.phase()).toBe('Paused');
    lab.fleet.apply({ ...absent, generation: 3 });
    await settle();
    expect(lab.phase()).toBe('Absent');
  });

  it('is not woken by a change of its policy', async () => {
    const lab = await FleetLab.with(paused);
    lab.emulators.onCall = (call) => call.answer();
    await lab.invoke();
    await lab.clock.advance(10_100);
    expect(lab.phase()).toBe('Paused');
    lab.fleet.apply({ ...paused, generation: 2, removeAfterSeconds: 60 });
    await settle();
    expect(lab.runtime.count('resume')).toBe(1);
    expect(lab.phase()).toBe('Paused');
  });

  it('is replaced when its shape changes, after the call that is in it', { tags: ['G9'] }, async () => {
    const lab = await FleetLab.with(desiredFixture());
    const running = lab.invoke();
    lab.fleet.apply(desiredFixture({ generation: 2, shapeHash: 'v1-b' }));
    const waiting = lab.invoke();
    await settle();
    expect(lab.runtime.count('destroy')).toBe(0);
    lab.emulators.answerAll();
    expect(await running).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.runtime.containers.get(lab.container('hello', 'v1-b'))?.shapeHash).toBe('v1-b');
    lab.emulators.answerAll();
    expect(await waiting).toMatchObject({ kind: 'Answered' });
    expect(lab.emulators.violations).toEqual([]);
  });

  it('ignores an older generation and refuses calls of another epoch', async () => {
    const lab = await FleetLab.with(desiredFixture({ generation: 3, epoch: 4 }));
    lab.fleet.apply(desiredFixture({ generation: 2, epoch: 4, shapeHash: 'v1-old' }));
    lab.fleet.apply(desiredFixture({ generation: 9, epoch: 3, shapeHash: 'v1-old' }));
    await settle();
    expect(lab.runtime.count('destroy')).toBe(0);
    expect(await lab.invoke({ epoch: 3 })).toMatchObject({ kind: 'Refused', reason: 'Fenced' });
    expect(await lab.invoke({ epoch: 5 })).toMatchObject({ kind: 'Refused', reason: 'Fenced' });
  });

  it('has a bounded queue, and callers that hang up leave it', async () => {
    const lab = await FleetLab.with(desiredFixture(), { limits: { queue: { calls: 2, bytes: 1_000 } } });
    const caller = new AbortController();
    const first = lab.invoke();
    const second = lab.invoke({ signal: caller.signal });
    const third = lab.invoke();
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'QueueFull' });
    caller.abort();
    expect(await second).toMatchObject({ kind: 'Refused', reason: 'CallerGone' });
    expect(lab.fleet.view('uid-of-hello')?.inFlight).toBe(2);
    lab.emulators.answerAll();
    await first;
    await settle();
    lab.emulators.answerAll();
    expect(await third).toMatchObject({ kind: 'Answered' });
    expect(lab.emulators.sent).toEqual(['request-1', 'request-3']);
  });

  it('lets no more calls wait once their payloads are as large as they may be', async () => {
    const lab = await FleetLab.with(desiredFixture(), { limits: { queue: { calls: 10, bytes: 1_000 } } });
    const first = lab.invoke();
    const caller = new AbortController();
    const small = lab.invoke({ payload: Buffer.alloc(999) });
    const large = lab.invoke({ payload: Buffer.alloc(5_000), signal: caller.signal });
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'QueueFull' });
    caller.abort();
    expect(await large).toMatchObject({ kind: 'Refused', reason: 'CallerGone' });
    const last = lab.invoke();
    for (const call of [first, small, last]) {
      lab.emulators.answerAll();
      expect(await call).toMatchObject({ kind: 'Answered' });
      await settle();
    }
  });

  it('is occupied by a call whose caller hung up until it is answered', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const caller = new AbortController();
    const given = lab.invoke({ signal: caller.signal });
    caller.abort();
    const next = lab.invoke();
    await settle();
    expect(lab.emulators.sent).toEqual(['request-1']);
    lab.emulators.answerAll();
    expect(await given).toMatchObject({ kind: 'Answered' });
    await settle();
    lab.emulators.answerAll();
    expect(await next).toMatchObject({ kind: 'Answered' });
  });

  it('gives the tail of what it wrote during a call, and nothing that the call before wrote', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const { logs } = lab.runtime;
    const write = (text: string): unknown => logs.set(lab.container(), `${logs.get(lab.container()) ?? ''}${text}`);
    const late = 'its last words\nEND RequestId: one\nREPORT RequestId: one\tDuration: 1.00 ms\n';
    const own = 'START RequestId: two Version: $LATEST\nhello\nREPORT RequestId: two\tDuration: 1.00 ms\n';
    write('before\n');
    const call = lab.invoke({ requestId: 'two', tailLog: true });
    await settle();
    write(late);
    lab.emulators.answerAll();
    await lab.clock.advance(50);
    write(own);
    await lab.clock.advance(50);
    const result = await call;
    expect(result.kind === 'Answered' ? result.logTail?.toString() : undefined).toBe(own);
  });
});

describe('a fault', () => {
  it('of a silent worker is told as a timeout, and the worker is replaced before the next call', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const call = lab.invoke();
    const next = lab.invoke();
    lab.emulators.calls[0]?.end({ kind: 'TimedOut' });
    expect(await call).toMatchObject({ kind: 'TimedOut', message: 'Task timed out after 3.00 seconds' });
    await settle();
    expect(lab.runtime.count('destroy')).toBe(1);
    lab.emulators.answerAll();
    expect(await next).toMatchObject({ kind: 'Answered' });
    expect(lab.fleet.view('uid-of-hello')?.restartCount).toBe(0);
  });

  it('of a worker that answers with more than it may is cut off, and the worker is replaced before the next call', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const call = lab.invoke();
    const next = lab.invoke();
    lab.emulators.calls[0]?.end({ kind: 'CutOff', status: 200 });
    expect(await call).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.runtime.count('destroy')).toBe(1);
    lab.emulators.answerAll();
    expect(await next).toMatchObject({ kind: 'Answered' });
    expect(lab.fleet.view('uid-of-hello')?.restartCount).toBe(0);
  });

  it('of a worker that exits in the middle of a call is told as unknown, and it is started again at once', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const call = lab.invoke();
    lab.runtime.logs.set(lab.container(), 'one\ncannot find my wand\n');
    lab.runtime.exit(lab.container(), 7);
    lab.emulators.calls[0]?.end({ kind: 'Unknown', message: 'socket hang up' });
    await lab.clock.advance(300);
    expect(await call).toMatchObject({ kind: 'Unknown', reason: 'WorkerExited' });
    const view = lab.fleet.view('uid-of-hello');
    expect(view).toMatchObject({
      phase: 'Running',
      restartCount: 1,
      lastTermination: { exitCode: 7, reason: 'Error', message: 'one\ncannot find my wand' },
    });
    expect(lab.emulators.sent).toHaveLength(1);
  });

  it('of a worker that exits is counted before it is made good for, also when two looks find it at once', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const call = lab.invoke();
    const log = Promise.withResolvers<void>();
    lab.runtime.slowLogs = log.promise;
    lab.runtime.exit(lab.container(), 137, true);
    lab.emulators.calls[0]?.end({ kind: 'Unknown', message: 'socket hang up' });
    await lab.clock.advance(300);
    expect(lab.runtime.count('ensure'), 'nothing is started before the end is counted').toBe(1);
    log.resolve();
    await settle();
    expect(await call).toMatchObject({ kind: 'Unknown', reason: 'WorkerExited' });
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({
      phase: 'Running',
      restartCount: 1,
      lastTermination: { exitCode: 137, reason: 'OOMKilled' },
    });
  });

  it('of a connection that breaks while the worker lives is told as unknown, and the worker is replaced', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const call = lab.invoke();
    lab.emulators.calls[0]?.end({ kind: 'Unknown', message: 'reset' });
    await lab.clock.advance(300);
    expect(await call).toMatchObject({ kind: 'Unknown', reason: 'ConnectionLost' });
    expect(lab.runtime.count('destroy')).toBe(1);
    expect(lab.phase()).toBe('Running');
  });

  it('before anything was sent is not told: the call is sent when the worker is there', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const call = lab.invoke();
    lab.runtime.exit(lab.container(), 1);
    lab.emulators.calls[0]?.end({ kind: 'NotSent', message: 'refused' });
    await lab.clock.advance(50);
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
  });

  it('of the node, which has nothing left to connect with, ends no worker', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.emulators.onCall = (inside) => {
      inside.end({ kind: 'NotSent', message: 'connect EMFILE', own: true });
    };
    const call = lab.invoke();
    await lab.clock.advance(1_000);
    expect(await call).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    lab.emulators.onCall = (inside) => inside.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    expect([lab.runtime.count('destroy'), lab.runtime.count('ensure')]).toEqual([0, 1]);
  });

  it('of a process that exits again and again is put off for longer and longer, and mended by a change', async () => {
    const lab = new FleetLab();
    await lab.fleet.adopt();
    const exit = { exitCode: 7, oomKilled: false, finishedAt: new Date(), output: 'no wand\n' };
    const fault = { error: new WorkerExitError('hello', exit) };
    lab.runtime.fail('ensure', fault, fault, fault, fault);
    lab.fleet.apply(desiredFixture());
    await settle();
    expect(lab.runtime.count('ensure'), 'the first restart comes at once').toBe(2);
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'CrashLoopBackOff' });
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({
      phase: 'Failed',
      restartCount: 1,
      lastTermination: { exitCode: 7, reason: 'Error', message: 'no wand' },
    });
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'CrashLoopBackOff' });
    await lab.clock.advance(10_100);
    expect(lab.runtime.count('ensure')).toBe(3);
    await lab.clock.advance(10_100);
    expect(lab.runtime.count('ensure')).toBe(3);
    await lab.clock.advance(10_100);
    expect(lab.runtime.count('ensure')).toBe(4);
    lab.fleet.apply(desiredFixture({ generation: 2 }));
    await settle();
    expect(lab.phase()).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')?.restartCount).toBe(4);
  });

  it('of memory is told apart', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.exit(lab.container(), 137, true);
    await settle();
    expect(lab.fleet.view('uid-of-hello')?.lastTermination?.reason).toBe('OOMKilled');
    expect(lab.phase()).toBe('Running');
  });

  it('of an image is shown, told to callers, and tried again until it is gone', async () => {
    const lab = new FleetLab();
    await lab.fleet.adopt();
    const error = new EsbError('no such image registry.example/hello:1', { code: 'ImageNotFound' });
    lab.runtime.fail('ensure', { error }, { error });
    lab.fleet.apply(desiredFixture());
    const call = lab.invoke();
    await settle();
    expect(await call).toMatchObject({ kind: 'Refused', reason: 'StartFailed', message: error.message });
    const view = lab.fleet.view('uid-of-hello');
    expect(view?.conditions.ImageReady).toMatchObject({ status: 'False', reason: 'ImageNotFound' });
    expect(view).toMatchObject({ phase: 'Failed', transient: false });
    await lab.clock.advance(2_100);
    expect(lab.runtime.count('ensure')).toBe(2);
    await lab.clock.advance(4_100);
    expect(lab.phase()).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')?.conditions.ImageReady?.status).toBe('True');
  });

  it('of a missing Secret names it', async () => {
    const lab = await FleetLab.with(
      desiredFixture({ env: [{ name: 'TOKEN', secret: { name: 'vault', key: 'token' } }] }),
    );
    expect(lab.ready()).toMatchObject({ reason: 'SecretMissing' });
    expect(lab.ready()?.message).toContain('default/vault');
    lab.secrets.set('default/vault/token', 'sesame');
    await lab.clock.advance(2_100);
    expect(lab.runtime.requests.at(-1)?.shape.env).toEqual([{ name: 'TOKEN', value: 'sesame' }]);
    expect(lab.phase()).toBe('Running');
  });

  it('of a pause that took effect all the same is found out by looking', { tags: ['P8'] }, async () => {
    const lab = await FleetLab.with(desiredFixture({ pauseAfterSeconds: 1 }));
    const error = new EsbError('too slow', { code: 'DeadlineExceeded', retryable: true });
    lab.runtime.fail('pause', { error, afterEffect: true });
    await lab.clock.advance(1_000);
    expect(lab.phase()).toBe('Paused');
    const call = lab.invoke();
    await settle();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    expect(lab.emulators.violations).toEqual([]);
  });

  it('of a resume is tried again', { tags: ['P9'] }, async () => {
    const lab = await FleetLab.with(paused);
    const error = new EsbError('what?', { code: foreignCode('ContainerdError') });
    lab.runtime.fail('resume', { error }, { error });
    const call = lab.invoke();
    await lab.clock.advance(1_000);
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    expect(lab.runtime.count('resume')).toBe(3);
  });

  it('of the node, which has no descriptors left to thaw with, ends no worker', async () => {
    const lab = await FleetLab.with(paused);
    const error = Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    lab.runtime.fail('resume', { error }, { error }, { error }, { error });
    const call = lab.invoke();
    await lab.clock.advance(20_000);
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    expect([lab.runtime.count('resume'), lab.runtime.count('destroy')]).toEqual([5, 0]);
  });

  it('of the runtime leaves running workers serving, and the others recover at once when it is back', async () => {
    const lab = await FleetLab.with(desiredFixture({ pauseAfterSeconds: 600 }));
    lab.fleet.apply(desiredFixture({ name: 'frozen', restingState: 'Paused' }));
    await settle();
    lab.runtime.down = true;
    lab.emulators.onCall = (call) => call.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    const early = lab.invoke({ name: 'frozen' });
    await lab.clock.advance(7_000);
    expect(await early).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
    await lab.clock.advance(53_000);
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
    const late = lab.invoke({ name: 'frozen' });
    await settle();
    lab.runtime.down = false;
    lab.runtime.emit({ kind: 'Reconnected', containerId: '' });
    await settle();
    expect(await late).toMatchObject({ kind: 'Answered' });
    expect(lab.runtime.count('destroy')).toBe(0);
    expect(lab.emulators.violations).toEqual([]);
  });

  it('of the runtime is told once for each worker, and again when it fails anew', async () => {
    const { logger, lines } = recordingLogger();
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused' }), { logger });
    const told = (level: number): number =>
      lines.filter((line) => line.msg === 'an action failed' && line.level === level).length;
    for (const outage of [1, 2]) {
      lab.runtime.down = true;
      const call = lab.invoke();
      await lab.clock.advance(20_000);
      expect(await call).toMatchObject({ kind: 'Refused', reason: 'Unavailable' });
      lab.fleet.apply(desiredFixture({ restingState: 'Running', generation: outage * 2 }));
      await lab.clock.advance(20_000);
      expect(told(40)).toBe(outage);
      expect(told(20)).toBeGreaterThan(10);
      lab.runtime.down = false;
      lab.runtime.emit({ kind: 'Reconnected', containerId: '' });
      await settle();
      expect(lab.task()).toBe('Running');
      lab.fleet.apply(desiredFixture({ restingState: 'Paused', generation: outage * 2 + 1 }));
      await lab.clock.advance(20_000);
      expect(lab.task()).toBe('Paused');
    }
  });

  it('of a worker that somebody else froze is mended, also in the middle of a call', {
    tags: ['P6'],
  }, async () => {
    const lab = await FleetLab.with(desiredFixture());
    const call = lab.invoke();
    lab.runtime.foreign('Paused', lab.container());
    await settle();
    expect(lab.task()).toBe('Running');
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    lab.runtime.foreign('Paused', lab.container());
    await settle();
    expect(lab.task()).toBe('Running');
  });
});

describe('room on the node', () => {
  const room = { capacity: { memoryMiB: 288, workers: 10 } };

  it('is kept for paused workers, and a call of one that finds none is refused', {
    tags: ['P13'],
  }, async () => {
    const lab = await FleetLab.with(paused, room);
    lab.fleet.apply(desiredFixture({ name: 'second' }));
    lab.fleet.apply(desiredFixture({ name: 'third', restingState: 'Absent' }));
    await settle();
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 288, workers: 2 });
    expect(await lab.invoke({ name: 'third' })).toMatchObject({ kind: 'Refused', reason: 'NodeFull' });
    lab.fleet.apply(desiredFixture({ name: 'second', restingState: 'Absent', generation: 2 }));
    await lab.clock.advance(1);
    const call = lab.invoke({ name: 'third' });
    await settle();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
  });

  it('is what memory and /tmp take together', async () => {
    const large = { memoryMiB: 100, ephemeralStorageMiB: 44 };
    const lab = await FleetLab.with(desiredFixture(large), room);
    lab.fleet.apply(desiredFixture({ name: 'second', ...large, ephemeralStorageMiB: 45 }));
    await settle();
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
    expect(lab.ready('second')).toMatchObject({
      status: 'False',
      reason: 'NodeFull',
      message: expect.stringContaining('no room for 100 MiB of memory and 45 MiB of /tmp: 144 of 288 MiB'),
    });
    expect(await lab.invoke({ name: 'second' })).toMatchObject({ kind: 'Refused', reason: 'NodeFull' });
    lab.fleet.apply(desiredFixture({ name: 'second', ...large, generation: 2, shapeHash: 'v1-b' }));
    await settle();
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 288, workers: 2 });
  });

  it('is not taken by a /tmp on disk, and by that of a container from before as long as that is there', async () => {
    const size = { memoryMiB: 100, ephemeralStorageMiB: 80 };
    const lab = await FleetLab.with(desiredFixture(size), room);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 180, workers: 1 });
    lab.runtime.tmp.isOnDisk = true;
    lab.fleet.apply(desiredFixture({ name: 'second', ...size }));
    await settle();
    expect(lab.phase('second')).toBe('Running');
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 280, workers: 2 });
    lab.fleet.apply(desiredFixture({ name: 'third', ...size }));
    await settle();
    expect(lab.ready('third')).toMatchObject({
      reason: 'NodeFull',
      message: expect.stringContaining('no room for 100 MiB of memory: 280 of 288 MiB'),
    });
    await lab.recorded((record) => record.startedAt !== undefined, 'second');
    const next = await lab.restart({ capacity: room.capacity });
    expect(next.fleet.allocation()).toEqual({ memoryMiB: 280, workers: 2 });
    next.runtime.exit(next.container(), 1);
    await next.clock.advance(60_000);
    expect(next.fleet.allocation()).toEqual({ memoryMiB: 200, workers: 2 });
  });

  it('stays that of a worker whose process ends, where a node has promised more than it has', async () => {
    const before = await FleetLab.with(desiredFixture());
    before.fleet.apply(desiredFixture({ name: 'second' }));
    await settle();
    await before.recorded((record) => record.startedAt !== undefined, 'second');
    const lab = await before.restart({ capacity: { memoryMiB: 200, workers: 10 } });
    lab.runtime.exit(lab.container(), 1);
    await lab.clock.advance(60_000);
    expect([lab.task(), lab.task('second')]).toEqual(['Running', 'Running']);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 288, workers: 2 });
  });

  it('is waited for by a worker that rests Running, and taken when there is some', async () => {
    const lab = await FleetLab.with(desiredFixture({ memoryMiB: 200 }), room);
    lab.fleet.apply(desiredFixture({ name: 'second', memoryMiB: 200 }));
    await settle();
    expect(lab.ready('second')).toMatchObject({ status: 'False', reason: 'NodeFull' });
    lab.fleet.release('uid-of-hello');
    await settle();
    await lab.clock.advance(1);
    expect(lab.phase('second')).toBe('Running');
  });
});

describe('other limits of the node', () => {
  it('are taken at once by a worker that waits for room', async () => {
    const lab = await FleetLab.with(desiredFixture({ memoryMiB: 200 }), { capacity: { memoryMiB: 288, workers: 10 } });
    lab.fleet.apply(desiredFixture({ name: 'second', memoryMiB: 200 }));
    await settle();
    expect(lab.fleet.resize({ memoryMiB: 288, workers: 10 })).toBe(false);
    expect(lab.ready('second')).toMatchObject({ status: 'False', reason: 'NodeFull' });
    expect(lab.fleet.resize({ memoryMiB: 600, workers: 10 })).toBe(true);
    await settle();
    await lab.clock.advance(1);
    expect(lab.phase('second')).toBe('Running');
  });

  it('end no worker that is there when they are less than it takes, and keep others out', async () => {
    const lab = await FleetLab.with(desiredFixture());
    expect(lab.fleet.resize({ memoryMiB: 100, workers: 10 })).toBe(true);
    lab.fleet.apply(desiredFixture({ name: 'second' }));
    await lab.clock.advance(60_000);
    expect(lab.task()).toBe('Running');
    expect(lab.ready('second')).toMatchObject({
      reason: 'NodeFull',
      message: expect.stringContaining('of 100 MiB') as string,
    });
  });
});

describe('resources of a cluster that was set back to a backup', () => {
  it('are older than what a running agent knows, and change nothing', async () => {
    const lab = await FleetLab.with(desiredFixture({ epoch: 5, generation: 7 }));
    lab.fleet.apply(desiredFixture({ epoch: 3, generation: 4, shapeHash: 'v1-old' }));
    await settle();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ epoch: 5, observedGeneration: 7 });
    expect(await lab.invoke({ epoch: 3 })).toMatchObject({ kind: 'Refused', reason: 'Fenced' });
  });

  it('count for an agent that starts, whatever its records say', async () => {
    const before = await FleetLab.with(desiredFixture({ epoch: 5, generation: 7 }));
    await before.recorded((record) => record.startedAt !== undefined);
    const lab = await before.restart();
    lab.fleet.apply(desiredFixture({ epoch: 3, generation: 4 }));
    await settle();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({
      epoch: 3,
      observedGeneration: 4,
      phase: 'Running',
    });
    expect(lab.runtime.count('ensure'), 'it serves on').toBe(1);
    const call = lab.invoke({ epoch: 3 });
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    // From then on nothing falls.
    lab.fleet.apply(desiredFixture({ epoch: 2, generation: 4 }));
    expect(lab.fleet.view('uid-of-hello')?.epoch).toBe(3);
    await lab.recorded((record) => record.desired.epoch === 3);
  });

  it('make a worker anew that was deleted since', async () => {
    const before = await FleetLab.with(desiredFixture());
    await before.recorded((record) => record.startedAt !== undefined);
    void before.invoke({ requestId: 'long' });
    await before.clock.advance(200);
    before.fleet.apply(desiredFixture({ deleting: true, terminationGraceSeconds: 600, generation: 2 }));
    await before.recorded((record) => record.desired.deleting);
    const lab = await before.restart();
    lab.fleet.apply(desiredFixture());
    await settle();
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp).toBeUndefined();
    expect(lab.phase()).toBe('Running');
  });
});

describe('removal', () => {
  it.each(['Running', 'Paused', 'Absent'] as const)(
    'of a worker that rests %s is reported, and forgotten',
    async (restingState) => {
      const lab = await FleetLab.with(desiredFixture({ restingState }));
      lab.fleet.apply(desiredFixture({ restingState, deleting: true }));
      await settle();
      expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('True');
      expect(lab.runtime.containers.size).toBe(0);
      expect(lab.fleet.allocation()).toEqual({ memoryMiB: 0, workers: 0 });
      expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'NotFound' });
      lab.fleet.release('uid-of-hello');
      expect(lab.fleet.views()).toEqual([]);
    },
  );

  it('of one that is just being made ends the making', { tags: ['P10'] }, async () => {
    const lab = new FleetLab();
    await lab.fleet.adopt();
    lab.runtime.before = (operation) =>
      operation === 'ensure' ? new Promise<void>(() => undefined) : Promise.resolve();
    lab.fleet.apply(desiredFixture());
    const call = lab.invoke();
    await settle();
    expect(lab.phase()).toBe('Creating');
    lab.fleet.apply(desiredFixture({ deleting: true }));
    expect(await call).toMatchObject({ kind: 'Refused', reason: 'NotFound' });
    await settle();
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('True');
  });

  it('of one that never started takes the log of its attempts too', async () => {
    const lab = new FleetLab();
    await lab.fleet.adopt();
    const error = new EsbError('exited at once', { code: 'CreateFailed' });
    lab.runtime.fail('ensure', { error });
    lab.fleet.apply(desiredFixture());
    await settle();
    const before = lab.runtime.count('destroy');
    lab.fleet.apply(desiredFixture({ deleting: true }));
    await settle();
    expect(lab.runtime.count('destroy')).toBe(before + 1);
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('True');
  });

  it('lets the call in the worker finish within its grace period, and no longer', async () => {
    const lab = await FleetLab.with(desiredFixture({ terminationGraceSeconds: 5, timeoutSeconds: 900 }));
    const call = lab.invoke();
    lab.fleet.apply(desiredFixture({ terminationGraceSeconds: 5, timeoutSeconds: 900, deleting: true }));
    const until = new Date(lab.clock.now() + 5_000).toISOString();
    await lab.clock.advance(4_000);
    expect(lab.task()).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp).toEqual({
      status: 'False',
      reason: 'Removing',
      message: `the call that is in it has until ${until} to end; then it is removed from the node`,
    });
    await lab.clock.advance(1_100);
    expect(lab.task()).toBeUndefined();
    expect(await call).toMatchObject({ kind: 'Unknown', reason: 'Restarted' });
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('True');
  });

  it('lets the call in the worker of a function finish, however short its timeout is by now', async () => {
    const change = { terminationGraceSeconds: 5, timeoutSeconds: 900, letsCallsEnd: true } as const;
    const lab = await FleetLab.with(desiredFixture(change));
    const call = lab.invoke();
    const next = { ...change, generation: 2, shapeHash: 'v1-b', timeoutSeconds: 3 };
    lab.fleet.apply(desiredFixture(next));
    await settle();
    lab.fleet.apply(desiredFixture({ ...next, deleting: true }));
    await lab.clock.advance(850_000);
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('False');
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.runtime.containers.size).toBe(0);
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('True');
  });

  it('lets the call in the worker of a function finish, however short its grace period', async () => {
    const change = { terminationGraceSeconds: 5, timeoutSeconds: 900, letsCallsEnd: true } as const;
    const lab = await FleetLab.with(desiredFixture(change));
    const call = lab.invoke();
    lab.fleet.apply(desiredFixture({ ...change, deleting: true }));
    await lab.clock.advance(850_000);
    expect(lab.task()).toBe('Running');
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status).toBe('True');
  });

  it('lets it finish under the next agent, whatever the agent before has written down', async () => {
    const change = { terminationGraceSeconds: 5, timeoutSeconds: 900 };
    const before = await FleetLab.with(desiredFixture(change));
    await before.recorded((record) => record.startedAt !== undefined);
    void before.invoke({ requestId: 'long' });
    before.fleet.apply(desiredFixture({ ...change, deleting: true }));
    await before.recorded((record) => record.desired.deleting);
    const lab = await before.restart();
    lab.fleet.apply(desiredFixture({ ...change, letsCallsEnd: true, deleting: true }));
    await lab.clock.advance(850_000);
    expect(lab.task()).toBe('Running');
    lab.endLeft('long');
    await lab.clock.advance(500);
    expect(lab.runtime.containers.size).toBe(0);
  });

  it('from this node alone lets the call in the worker finish, however short its grace period', async () => {
    const lab = await FleetLab.with(desiredFixture({ terminationGraceSeconds: 5, timeoutSeconds: 900 }));
    const call = lab.invoke();
    const waiting = lab.invoke();
    lab.fleet.release('uid-of-hello');
    expect(await waiting).toMatchObject({ kind: 'Refused', reason: 'NotFound' });
    await lab.clock.advance(850_000);
    expect(lab.task()).toBe('Running');
    expect(lab.fleet.leaving()).toEqual([{ identity: desiredFixture().identity, callUntil: lab.clock.now() + 61_500 }]);
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.runtime.containers.size).toBe(0);
    expect(lab.fleet.views()).toEqual([]);
  });

  it('from this node alone waits for a call no longer than its timeout', async () => {
    const lab = await FleetLab.with(desiredFixture({ terminationGraceSeconds: 5, timeoutSeconds: 900 }));
    const call = lab.invoke();
    const inside = lab.emulators.calls[0];
    lab.fleet.release('uid-of-hello');
    expect(inside?.request.timeoutMs).toBe(911_500);
    inside?.end({ kind: 'TimedOut' });
    expect(await call).toMatchObject({ kind: 'TimedOut' });
    await settle();
    expect(lab.fleet.views()).toEqual([]);
  });

  it('from this node alone is told of until nothing is left', async () => {
    const lab = await FleetLab.with(desiredFixture({ timeoutSeconds: 900 }));
    lab.fleet.apply(desiredFixture({ name: 'other' }));
    await settle();
    expect(lab.fleet.stillHere([])).toEqual([]);
    const call = lab.invoke();
    lab.fleet.release('uid-of-hello');
    expect(lab.fleet.stillHere([])).toEqual(['uid-of-hello']);
    lab.emulators.answerAll();
    await call;
    await settle();
    expect(lab.fleet.stillHere(['uid-of-hello'])).toEqual([]);
  });

  it('from this node alone is told of by the next agent too, until the API has spoken', async () => {
    const first = await FleetLab.with(desiredFixture({ timeoutSeconds: 900 }));
    first.fleet.apply(desiredFixture({ name: 'returned' }));
    await first.recorded((record) => record.startedAt !== undefined);
    void first.invoke({ requestId: 'long' });
    await first.clock.advance(200);
    first.fleet.release('uid-of-hello');
    const told = ['uid-of-hello', 'uid-of-returned', 'uid-of-gone'];
    const next = new FleetLab({ after: first });
    expect(next.fleet.stillHere(told), 'before it has looked').toEqual(told);
    const lab = await first.restart();
    expect(lab.fleet.stillHere(told)).toEqual(['uid-of-hello', 'uid-of-returned']);
    // One is this node's again; of the other a look at the API says that it is not.
    lab.fleet.apply(desiredFixture({ name: 'returned', epoch: 3 }));
    expect(lab.fleet.stillHere(told)).toEqual(['uid-of-hello']);
    await lab.fleet.sweep(new Set(['uid-of-returned']), async () => true);
    await lab.clock.advance(5_000);
    expect(lab.fleet.stillHere([])).toEqual(['uid-of-hello']);
    lab.endLeft('long');
    await lab.clock.advance(500);
    expect(lab.fleet.stillHere(told)).toEqual([]);
  });

  it('that fails says why and is tried again', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.runtime.fail('destroy', {
      error: new EsbError('mount is busy', { code: foreignCode('RemoveFailed') }),
    });
    lab.fleet.release('uid-of-hello');
    await settle();
    expect(lab.fleet.view('uid-of-hello')?.conditions.CleanedUp).toMatchObject({
      status: 'False',
      reason: 'RemoveFailed',
    });
    await lab.clock.advance(200);
    expect(lab.fleet.views()).toEqual([]);
    expect(lab.runtime.containers.size).toBe(0);
  });

  it('of what no resource claims waits for its age and for certainty', { tags: ['P29'] }, async () => {
    const lab = await FleetLab.with(desiredFixture());
    const present = lab.runtime.containers.get(lab.container());
    if (present === undefined) {
      throw new Error('no container');
    }
    const identity = { ...present.identity, uid: 'uid-of-stray', name: 'stray' };
    lab.runtime.put({ ...present, containerId: 'stray-1', identity });
    await lab.fleet.sweep(new Set(['uid-of-hello']), () => Promise.resolve(true));
    expect(lab.runtime.taskOf('stray-1'), 'too young').toBe('Running');
    await lab.clock.advance(31_000);
    await lab.fleet.sweep(new Set(['uid-of-hello']), () => Promise.resolve(false));
    expect(lab.runtime.taskOf('stray-1'), 'not certain').toBe('Running');
    await lab.fleet.sweep(new Set(['uid-of-hello']), () => Promise.reject(new Error('API is down')));
    expect(lab.runtime.taskOf('stray-1'), 'not known').toBe('Running');
    await lab.fleet.sweep(new Set(['uid-of-hello']), () => Promise.resolve(true));
    expect(lab.runtime.taskOf('stray-1')).toBeUndefined();
    expect(lab.task()).toBe('Running');
    await lab.fleet.sweep(new Set(), () => Promise.resolve(true));
    await settle();
    expect(lab.runtime.containers.size).toBe(0);
    expect(lab.fleet.views()).toEqual([]);
  });
});

describe('activity by status patch', () => {
  const foreign = '2031-05-06T07:08:09.000123Z';

  it('of somebody else wakes a paused worker once and is acknowledged', async () => {
    const lab = await FleetLab.with(paused);
    const patched = { ...paused, lastInvocationTime: foreign };
    lab.fleet.apply(patched);
    expect(lab.fleet.view('uid-of-hello')?.observedInvocationTime).toBe(foreign);
    await settle();
    expect(lab.task()).toBe('Running');
    await lab.clock.advance(10_100);
    expect(lab.task()).toBe('Paused');
    lab.fleet.apply(patched);
    lab.fleet.apply({ ...patched, observedInvocationTime: foreign });
    await settle();
    expect(lab.runtime.count('resume')).toBe(1);
  });

  it('of our own gateway wakes nobody, however late, and is acknowledged', async () => {
    const lab = await FleetLab.with(paused);
    lab.emulators.onCall = (call) => call.answer();
    const stampOf = (result: InvocationResult): string => (result.kind === 'Answered' ? result.stamp : '');
    const first = stampOf(await lab.invoke());
    const last = stampOf(await lab.invoke());
    await lab.clock.advance(10_100);
    for (const stamp of [last, first, last]) {
      lab.fleet.apply({ ...paused, lastInvocationTime: stamp });
      await settle();
      expect(lab.fleet.view('uid-of-hello')?.observedInvocationTime).toBe(stamp);
    }
    expect(lab.runtime.count('resume')).toBe(1);
    await lab.recorded((record) => record.stamps.length === 2);
    const next = await lab.restart();
    next.fleet.apply({ ...paused, lastInvocationTime: first });
    await settle();
    expect(next.runtime.count('resume'), 'not even after a restart of the agent').toBe(1);
  });

  it('of our own gateway wakes nobody after a restart, though hardly any stamps are on disk', async () => {
    const busy = desiredFixture({ pauseAfterSeconds: 1 });
    const before = await FleetLab.with(busy);
    before.emulators.onCall = (call) => call.answer();
    const stamps: string[] = [];
    for (let each = 0; each < 40; each += 1) {
      const result = await before.invoke();
      stamps.push(result.kind === 'Answered' ? result.stamp : '');
      await before.clock.advance(20);
    }
    const lab = await before.restart();
    lab.fleet.apply(busy);
    await lab.clock.advance(1_100);
    expect(lab.task()).toBe('Paused');
    for (const stamp of [stamps[38], stamps[39], stamps[20]]) {
      lab.fleet.apply({ ...busy, lastInvocationTime: stamp ?? '' });
      await settle();
      expect(lab.fleet.view('uid-of-hello')?.observedInvocationTime).toBe(stamp);
    }
    expect(lab.runtime.count('resume')).toBe(0);
    lab.fleet.apply({ ...busy, lastInvocationTime: foreign });
    await settle();
    expect(lab.runtime.count('resume')).toBe(1);
  });

  it('is shown by the stamp of the latest call or wake', async () => {
    const lab = await FleetLab.with(desiredFixture());
    lab.emulators.onCall = (call) => call.answer();
    const shown = (): string | undefined => lab.fleet.view('uid-of-hello')?.lastInvocationTime;
    expect(shown()).toBeUndefined();
    const result = await lab.invoke();
    expect(shown()).toBe(result.kind === 'Answered' ? result.stamp : '');
    lab.fleet.apply(desiredFixture({ lastInvocationTime: foreign }));
    await settle();
    expect(shown()).toBe(foreign);
    await lab.invoke();
    const last = shown();
    expect(last).not.toBe(foreign);
    // The agent's own write comes back by the watch.
    lab.fleet.apply(desiredFixture({ lastInvocationTime: last ?? '', observedInvocationTime: last ?? '' }));
    await settle();
    expect(shown()).toBe(last);
  });

  it('does not wake what its owner keeps at rest', async () => {
    const lab = await FleetLab.with({ ...paused, wakePolicy: 'Never' });
    lab.fleet.apply({ ...paused, wakePolicy: 'Never', lastInvocationTime: foreign });
    await settle();
    expect(lab.task()).toBe('Paused');
    expect(lab.fleet.view('uid-of-hello')?.observedInvocationTime).toBe(foreign);
  });
});

describe('hints', () => {
  it('are followed within what the desired state allows', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused', removeAfterSeconds: 60 }));
    expect(await lab.fleet.resume('uid-of-hello', 1)).toMatchObject({ phase: 'Running' });
    expect(await lab.fleet.pause('uid-of-hello', 1)).toMatchObject({ phase: 'Paused' });
    expect(await lab.fleet.destroy('uid-of-hello', 1)).toMatchObject({ phase: 'Absent' });
    await expect(lab.fleet.resume('uid-of-hello', 1)).rejects.toMatchObject({ code: 'FailedPrecondition' });
    expect(await lab.fleet.ensure('uid-of-hello', 1)).toMatchObject({ phase: 'Running' });
  });

  it('are refused otherwise', async () => {
    const lab = await FleetLab.with(desiredFixture());
    await expect(lab.fleet.pause('uid-of-hello', 1)).rejects.toMatchObject({ code: 'FailedPrecondition' });
    await expect(lab.fleet.destroy('uid-of-hello', 1)).rejects.toMatchObject({ code: 'FailedPrecondition' });
    await expect(lab.fleet.ensure('uid-of-hello', 2)).rejects.toMatchObject({ code: 'Fenced' });
    await expect(lab.fleet.ensure('nobody', 1)).rejects.toMatchObject({ code: 'NotFound' });
    lab.fleet.apply({ ...paused, wakePolicy: 'Never', generation: 2 });
    await settle();
    await expect(lab.fleet.ensure('uid-of-hello', 1)).rejects.toMatchObject({ code: 'FailedPrecondition' });
  });
});
