import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import type { InvocationResult } from '../../../src/agent/model/invocation.ts';
import { InitFailedError } from '../../../src/init/init-failed-error.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

const lambda: Partial<DesiredWorker> = { runtimeInterface: 'Lambda' };

/** A call with what its caller is told. */
async function call(lab: FleetLab, change: Parameters<FleetLab['invoke']>[0] = {}) {
  const told = { status: 0, body: '', streaming: undefined as boolean | undefined };
  const pending = lab.invoke({
    onHead: ({ status, streaming }) => {
      told.status = status;
      told.streaming = streaming;
    },
    onChunk: (chunk) => {
      told.body += chunk.toString();
    },
    ...change,
  });
  await settle();
  return { pending, told };
}

async function resultOf(pending: Promise<InvocationResult>): Promise<InvocationResult> {
  await settle();
  return await pending;
}

describe('a worker with an init', () => {
  it('is called by its init as soon as that is ready, without an address', async () => {
    const lab = new FleetLab();
    lab.inits.initial = { phase: 'Starting', idle: false, initMs: 0, restarts: 0 };
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture(lambda));
    await settle();
    expect(lab.phase()).toBe('Creating');
    const { pending, told } = await call(lab);
    expect(lab.inits.calls).toEqual([]);
    lab.inits.tell(lab.container(), { phase: 'Ready', idle: true });
    await settle();
    expect(lab.phase()).toBe('Running');
    expect(lab.inits.calls[0]?.request).toMatchObject({
      timeoutMs: 3_000,
      boundMs: 4_500,
      functionArn: 'arn:aws:lambda:us-east-1:012345678912:function:hello',
      version: '$LATEST',
    });
    lab.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered', end: { outcome: 'Answered' } });
    expect(told).toEqual({ status: 200, body: '{}', streaming: false });
    expect(lab.fleet.view('uid-of-hello')?.conditions.NetworkReady?.status).toBe('True');
    expect(lab.fleet.view('uid-of-hello')?.address).toEqual({ ip: expect.any(String) });
    expect(lab.emulators.calls).toEqual([]);
  });

  it.each([
    {
      end: { outcome: 'Timeout', errorType: 'Sandbox.Timedout', message: 'Task timed out after 3.00 seconds' },
      error: 'RequestId: request-1 Error: Task timed out after 3.00 seconds',
    },
    {
      end: { outcome: 'Exited', errorType: 'Runtime.ExitError', message: 'Runtime exited with error: exit status 1' },
      error: 'RequestId: request-1 Error: Runtime exited with error: exit status 1',
    },
    {
      end: { outcome: 'TooLarge', errorType: 'Function.ResponseSizeTooLarge', message: 'Response payload size' },
      error: 'Response payload size',
    },
  ] as const)('tells the end $end.outcome in the words of Lambda, and serves on', async ({ end, error }) => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    const { pending, told } = await call(lab);
    lab.inits.tell(lab.container(), { phase: 'Starting', idle: false });
    lab.inits.calls[0]?.end({ kind: 'Ended', end: { ...end, size: 0, durationUs: 1 } });
    const { errorType, outcome } = end;
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered', end: { outcome, errorType } });
    expect(JSON.parse(told.body)).toEqual({ errorType, errorMessage: error });
    const next = await call(lab);
    expect(lab.inits.calls).toEqual([]);
    lab.inits.tell(lab.container(), { phase: 'Ready', idle: true, restarts: 1 });
    await settle();
    lab.inits.answerAll();
    expect(await resultOf(next.pending)).toMatchObject({ kind: 'Answered', end: { outcome: 'Answered' } });
    expect(lab.runtime.count('ensure')).toBe(1);
  });

  it('is frozen only once its runtime and its extensions wait', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, restingState: 'Paused', pauseAfterSeconds: 1 }));
    const { pending } = await call(lab);
    const [sent] = lab.inits.calls;
    lab.inits.tell(lab.container(), { idle: false });
    sent?.request.onHead({ contentType: '', streaming: false });
    sent?.end({ kind: 'Ended', end: { outcome: 'Answered', size: 0, durationUs: 1 } });
    await resultOf(pending);
    await lab.clock.advance(10_000);
    expect(lab.task()).toBe('Running');
    lab.inits.tell(lab.container(), { idle: true });
    await settle();
    expect(lab.task()).toBe('Paused');
  });

  it('is thawed where it says that it works while it is being frozen, and frozen once it is idle', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, restingState: 'Running' }));
    // Its runtime ends by itself, and starts again.
    lab.runtime.onEffect = (operation) => {
      if (operation === 'pause') {
        lab.runtime.onEffect = () => undefined;
        queueMicrotask(() => lab.inits.tell(lab.container(), { phase: 'Starting', idle: false, restarts: 1 }));
      }
    };
    lab.fleet.apply(desiredFixture({ ...lambda, restingState: 'Paused' }));
    await settle();
    expect([lab.runtime.count('pause'), lab.runtime.count('resume')]).toEqual([1, 1]);
    expect(lab.task()).toBe('Running');
    lab.inits.tell(lab.container(), { phase: 'Ready', idle: true });
    await lab.clock.advance(10_000);
    expect(lab.task()).toBe('Paused');
    expect(lab.runtime.count('pause')).toBe(2);
  });

  it('is frozen once in ten seconds where it says each time that it works while it is being frozen', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, restingState: 'Paused' }));
    lab.runtime.onEffect = (operation) =>
      queueMicrotask(() => lab.inits.tell(lab.container(), { idle: operation === 'resume' }));
    lab.inits.tell(lab.container(), { idle: false });
    await lab.clock.advance(59_000);
    expect(lab.runtime.count('pause')).toBe(6);
    expect(lab.runtime.count('resume')).toBe(6);
  });

  it('is thawed where somebody froze it while it initializes again, and its time begins anew', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    lab.inits.tell(lab.container(), { phase: 'Starting', idle: false });
    await lab.clock.advance(900_000);
    lab.runtime.fail('resume', ...Array.from({ length: 4 }, () => ({ error: new Error('not now') })));
    lab.runtime.foreign('Paused', lab.container());
    await lab.clock.advance(10_000);
    expect(lab.task()).toBe('Running');
    await lab.clock.advance(900_000);
    lab.inits.tell(lab.container(), { phase: 'Ready', idle: true });
    await settle();
    expect(lab.runtime.count('ensure')).toBe(1);
    expect(lab.phase()).toBe('Running');
  });

  it('is not frozen for the tools of the runtime while an extension works', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, restingState: 'Paused', pauseAfterSeconds: 600 }));
    const { pending } = await call(lab);
    lab.inits.answerAll();
    await resultOf(pending);
    lab.inits.tell(lab.container(), { idle: false });
    await lab.clock.advance(60_000);
    expect(lab.runtime.count('settle')).toBe(0);
    lab.inits.tell(lab.container(), { idle: true });
    await lab.clock.advance(2_000);
    expect(lab.runtime.count('settle')).toBe(1);
  });

  it('is sent a call again that no runtime has had, and is given up after three', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    lab.inits.onCall = ({ end }) =>
      end({ kind: 'Ended', end: { outcome: 'NotStarted', message: 'the worker is ending', size: 0, durationUs: 0 } });
    const { pending } = await call(lab);
    await lab.clock.advance(7_000);
    expect(await resultOf(pending)).toMatchObject({ kind: 'Refused', reason: 'StartFailed' });
    expect(lab.inits.sent).toHaveLength(3);
    expect(lab.runtime.operations).toContain(`destroy ${lab.container()}`);
  });

  it('keeps a call while its runtime is still at work on what comes after its last answer', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, timeoutSeconds: 30 }));
    lab.inits.tell(lab.container(), { idle: false });
    lab.inits.onCall = ({ end }) =>
      end({ kind: 'Ended', end: { outcome: 'NotStarted', message: 'no runtime took it', size: 0, durationUs: 0 } });
    const { pending } = await call(lab);
    await lab.clock.advance(20_000);
    expect(lab.inits.sent).toHaveLength(1);
    lab.inits.onCall = () => undefined;
    lab.inits.tell(lab.container(), { idle: true });
    await lab.clock.advance(1_000);
    lab.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
    expect(lab.runtime.count('ensure')).toBe(1);
  });

  it('is made again when its init is silent beyond the time of a call', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    const { pending } = await call(lab);
    lab.inits.calls[0]?.end({ kind: 'Silent' });
    expect(await resultOf(pending)).toMatchObject({ kind: 'TimedOut' });
    await settle();
    expect(lab.runtime.operations).toContain(`destroy ${lab.container()}`);
  });

  it('is shown with the words of Lambda while it cannot initialize, and put off', async () => {
    const lab = new FleetLab();
    lab.inits.initial = { phase: 'Starting', idle: false, initMs: 0, restarts: 0 };
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture(lambda));
    await settle();
    const message = 'Runtime exited with error: exit status 1';
    const fault = { errorType: 'Runtime.ExitError', message };
    const { pending: first } = await call(lab);
    lab.inits.fail(lab.container(), fault);
    expect(await resultOf(first)).toMatchObject({ kind: 'Refused', reason: 'StartFailed', fault });
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'InitFailed' });
    expect(lab.ready()?.message).toContain(`Runtime.ExitError: ${message}`);
    const { pending } = await call(lab);
    expect(await resultOf(pending)).toMatchObject({ kind: 'Refused', reason: 'StartFailed', fault });
    expect(lab.runtime.count('ensure')).toBe(1);
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({
      restartCount: 0,
      lastTermination: { exitCode: 1, reason: 'Error', message: `Runtime.ExitError: ${message}` },
    });
    await lab.clock.advance(3_000);
    expect(lab.runtime.count('ensure')).toBe(2);
    expect(lab.fleet.view('uid-of-hello')?.restartCount).toBe(1);
    lab.inits.tell(lab.container(), { phase: 'Ready', idle: true });
    await settle();
    expect(lab.phase()).toBe('Running');
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ restartCount: 1, lastTermination: { exitCode: 1 } });
  });

  it.each([
    ['Runtime.ExitError', 'Runtime exited with error: exit status 7', 7, 'Error'],
    ['Runtime.ExitError', 'Runtime exited with error: signal: killed', 137, 'Error'],
    ['Runtime.ExitError', 'Runtime exited without providing a reason', 0, 'Completed'],
    ['Extension.Crash', 'extension spy exited with error: exit status 2', 2, 'Error'],
    ['Sandbox.Timedout', 'Task timed out after 60.00 seconds', 1, 'Error'],
    ['Function.Broken', 'no wand: exit status 9', 1, 'Error'],
  ])(
    'that fails in its start by %s, %s, is shown to have ended with %i',
    async (errorType, message, exitCode, reason) => {
      const lab = new FleetLab();
      lab.inits.initial = { phase: 'Starting', idle: false, initMs: 0, restarts: 0 };
      await lab.fleet.adopt();
      lab.fleet.apply(desiredFixture(lambda));
      await settle();
      lab.inits.fail(lab.container(), { errorType, message });
      await settle();
      expect(lab.fleet.view('uid-of-hello')?.lastTermination).toMatchObject({
        exitCode,
        reason,
        message: `${errorType}: ${message}`,
      });
    },
  );

  it('is shown to have been killed for want of memory where its runtime outgrew its memory in a start', async () => {
    const fault = { errorType: 'Runtime.ExitError', message: 'Runtime exited with error: signal: killed' };
    const lab = new FleetLab();
    lab.runtime.fail('ensure', { error: InitFailedError.of(fault).starved() });
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture(lambda));
    await settle();
    const { lastTermination } = lab.fleet.view('uid-of-hello') ?? {};
    expect(lastTermination).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
    expect(lab.ready()).toMatchObject({ reason: 'InitFailed' });
  });

  it('that fails later goes, is counted as a crash once, and starts again', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    const fault = { errorType: 'Sandbox.Timedout', message: 'Task timed out after 60.00 seconds' };
    lab.inits.fail(lab.container(), fault);
    lab.runtime.exit(lab.container(), 1);
    await settle();
    const view = lab.fleet.view('uid-of-hello');
    expect(view?.lastTermination).toMatchObject({ exitCode: 1, message: `Sandbox.Timedout: ${fault.message}` });
    expect(view?.restartCount).toBe(1);
    expect(lab.phase()).toBe('Running');
    lab.inits.fail(lab.container(), fault);
    await settle();
    expect(lab.ready()).toMatchObject({ reason: 'CrashLoopBackOff' });
    const { pending } = await call(lab);
    expect(await resultOf(pending)).toMatchObject({ kind: 'Refused', reason: 'CrashLoopBackOff', fault });
  });

  it('has its calls refused with no fault of the function where its start fails for another reason', async () => {
    const lab = new FleetLab();
    const error = InitFailedError.untold('the init has not said within 70 s that the worker is ready');
    lab.runtime.fail('ensure', { error });
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture(lambda));
    await settle();
    const { pending } = await call(lab);
    expect(await resultOf(pending)).toEqual({ kind: 'Refused', reason: 'StartFailed', message: error.message });
  });

  it('that breaks a bound of the Runtime API again and again is put off, and a condition names the bound', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    const limits = () => lab.fleet.view('uid-of-hello')?.conditions.LimitsReached;
    const flood = async (): Promise<void> => {
      const message = 'the worker broke a bound of the Runtime API: 60 connections';
      lab.inits.fail(lab.container(), { errorType: 'Runtime.Unknown', message, bound: '60 connections' });
      await settle();
    };
    expect(limits()).toBeUndefined();
    await flood();
    expect(lab.phase()).toBe('Running');
    expect(limits()).toMatchObject({
      status: 'True',
      reason: 'RuntimeApiAbused',
      message: expect.stringContaining('60 connections'),
    });
    expect(lab.fleet.view('uid-of-hello')?.lastTermination?.reason).toBe('RuntimeApiAbused');
    await flood();
    expect(lab.ready()).toMatchObject({
      reason: 'CrashLoopBackOff',
      message: expect.stringContaining('60 connections'),
    });
    await lab.clock.advance(11_000);
    expect(lab.phase()).toBe('Running');
    await lab.clock.advance(580_000);
    expect(limits()).toMatchObject({ reason: 'RuntimeApiAbused' });
    await lab.clock.advance(10_000);
    expect(limits()).toBeUndefined();
  });

  it('is shown to have broken a bound, also where its end is seen before the last words of its init', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    const message = 'the worker broke a bound of the Runtime API: 60 connections';
    lab.inits.unread.set(lab.container(), { errorType: 'Runtime.Unknown', message, bound: '60 connections' });
    lab.runtime.exit(lab.container(), 1);
    await settle();
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({
      restartCount: 1,
      lastTermination: { reason: 'RuntimeApiAbused', message: expect.stringContaining('60 connections') },
    });
  });

  it('that breaks a bound in its start has the condition, and the pauses of a start that fails', async () => {
    const lab = new FleetLab();
    lab.inits.initial = { phase: 'Starting', idle: false, initMs: 0, restarts: 0 };
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture(lambda));
    await settle();
    lab.inits.fail(lab.container(), { errorType: 'Runtime.Unknown', message: 'a flood', bound: '60 connections' });
    await settle();
    expect(lab.ready()).toMatchObject({ reason: 'InitFailed' });
    expect(lab.fleet.view('uid-of-hello')?.conditions.LimitsReached).toMatchObject({ reason: 'RuntimeApiAbused' });
  });

  it('that breaks the protocol goes, with the breach as the reason', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    lab.inits.breach(lab.container(), 'a frame of 5 MB');
    await settle();
    expect(lab.runtime.operations).toContain(`destroy ${lab.container()}`);
    expect(lab.fleet.view('uid-of-hello')?.lastTermination?.message).toContain('a frame of 5 MB');
  });

  it('is made again when its init stays away for five seconds', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    lab.inits.gone(lab.container());
    await lab.clock.advance(4_900);
    const { pending } = await call(lab);
    expect(lab.inits.calls).toEqual([]);
    await lab.clock.advance(200);
    expect(lab.runtime.operations).toContain(`destroy ${lab.container()}`);
    await settle();
    lab.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
  });

  it('is made again when its init tells no end of a start for longer than any start takes', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    lab.inits.tell(lab.container(), { phase: 'Starting', idle: false });
    await lab.clock.advance(900_000);
    lab.inits.tell(lab.container(), { phase: 'Stopping', idle: false });
    await lab.clock.advance(50_000);
    expect(lab.task()).toBe('Running');
    expect(lab.runtime.count('ensure')).toBe(1);
    await lab.clock.advance(20_000);
    expect(lab.runtime.operations).toContain(`destroy ${lab.container()}`);
    expect(lab.phase()).toBe('Running');
  });

  it('is warm once a call has been answered, and not after an error', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, warmUpPayload: '{"warm":true}' }));
    expect(lab.inits.calls[0]?.request.payload.toString()).toBe('{"warm":true}');
    lab.inits.calls[0]?.answer('{"errorType":"E","errorMessage":"m"}', { outcome: 'Error', errorType: 'E' });
    await settle();
    expect(lab.ready()).toMatchObject({ reason: 'WarmUpFailed', message: 'the warm-up call failed: E: m' });
    await lab.clock.advance(3_000);
    // An error that is returned is none.
    lab.inits.calls[0]?.answer('{"errorType":"E","errorMessage":"m"}');
    await settle();
    expect(lab.phase()).toBe('Running');
  });
});

describe('a worker with an init, after the agent was killed', () => {
  it('goes on with its call, which the init tells of, and takes the next one after it', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    await lab.recorded((record) => record.served !== undefined);
    void call(lab);
    await settle();
    const next = await lab.restart();
    next.fleet.apply(desiredFixture(lambda));
    await settle();
    const { pending } = await call(next, { requestId: 'second' });
    expect(next.inits.sent).toEqual(['request-1']);
    next.inits.reconnect(next.container());
    await settle();
    expect(next.fleet.view('uid-of-hello')?.inFlight).toBe(2);
    expect(next.inits.sent).toEqual(['request-1']);
    next.inits.endLeft('request-1');
    await settle();
    next.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
    expect(next.task()).toBe('Running');
    // Its runtime is the same.
    expect(next.runtime.count('ensure')).toBe(1);
    expect(next.runtime.count('destroy')).toBe(0);
  });

  it('waits for a call in a container of an earlier shape no longer than such a call may take', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    await lab.recorded((record) => record.served !== undefined);
    void call(lab);
    await settle();
    const before = lab.container();
    const next = await lab.restart();
    next.fleet.apply(desiredFixture({ ...lambda, shapeHash: 'v1-next', timeoutSeconds: 900, generation: 2 }));
    next.inits.reconnect(before);
    await next.clock.advance(4_000);
    expect(next.runtime.operations).not.toContain(`destroy ${before}`);
    expect(next.fleet.view('uid-of-hello')?.inFlight).toBe(1);
    // As one that waits for its turn beside others.
    await next.clock.advance(5_000);
    await next.recorded(({ container }) => container?.shapeHash === 'v1-next');
    await settle();
    expect(next.runtime.operations).toContain(`destroy ${before}`);
  });

  it('waits for many calls that one after the other may be in it no longer than for one', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, perWorker: 2 }));
    await lab.recorded((record) => record.served !== undefined);
    const before = lab.container();
    const next = await lab.restart();
    next.fleet.apply(desiredFixture({ ...lambda, perWorker: 2 }));
    // The init denies each call after a while, and claims the next.
    for (let claimed = 0; claimed < 60; claimed += 1) {
      next.inits.find(before, [{ requestId: `claimed-${claimed}`, ended: false }]);
      await next.clock.advance(500);
      next.inits.find(before, []);
      await settle();
    }
    expect(next.runtime.operations).toContain(`destroy ${before}`);
  });

  it('is neither called nor frozen nor removed before its init connects', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    await lab.recorded((record) => record.served !== undefined);
    const next = await lab.restart();
    next.fleet.apply(desiredFixture({ ...lambda, restingState: 'Absent', generation: 2 }));
    await next.clock.advance(1_000);
    expect(next.task()).toBe('Running');
    next.inits.reconnect(next.container());
    await settle();
    expect(next.task()).toBeUndefined();
  });

  it('keeps its container where the init connects late, as on a busy node, and loses it where none does', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    await lab.recorded((record) => record.served !== undefined);
    const late = await lab.restart();
    late.fleet.apply(desiredFixture(lambda));
    await late.clock.advance(15_000);
    late.inits.reconnect(late.container());
    await late.clock.advance(15_000);
    expect(late.runtime.count('destroy')).toBe(0);
    const never = await late.restart();
    never.fleet.apply(desiredFixture(lambda));
    await never.clock.advance(25_000);
    expect(never.runtime.count('destroy')).toBe(1);
  });

  it('loses its container soon where the init has gone away that this agent has heard', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    await lab.recorded((record) => record.served !== undefined);
    lab.inits.gone(lab.container());
    await lab.clock.advance(4_000);
    expect(lab.runtime.count('destroy')).toBe(0);
    await lab.clock.advance(4_000);
    expect(lab.runtime.count('destroy')).toBe(1);
  });

  it.each([
    { what: 'is to rest without a container', change: { restingState: 'Absent' } },
    { what: 'is deleted', change: { deleting: true, terminationGraceSeconds: 60 } },
    { what: 'has another shape', change: { shapeHash: 'v1-next', networkMode: 'Host' } },
  ] as const)(
    'that was frozen by another party in a call is not removed before its end, where it $what',
    async ({ change }) => {
      const lab = await FleetLab.with(desiredFixture({ ...lambda, networkMode: 'Host' }));
      await lab.recorded((record) => record.served !== undefined);
      void call(lab);
      await settle();
      lab.runtime.before = (operation) => (operation === 'resume' ? new Promise(() => undefined) : Promise.resolve());
      lab.runtime.foreign('Paused', lab.container());
      await settle();
      lab.runtime.before = () => Promise.resolve();
      const next = await lab.restart();
      next.fleet.apply(desiredFixture({ ...lambda, networkMode: 'Host', ...change, generation: 2 }));
      await settle();
      expect(next.task()).toBe('Running');
      next.inits.reconnect(next.container());
      await settle();
      expect(next.task()).toBe('Running');
      next.inits.endLeft('request-1');
      // The call was activity.
      await next.clock.advance(11_000);
      expect(next.runtime.operations).toContain(`destroy ${next.container()}`);
    },
  );

  it('is removed without a wake where an agent before has frozen it', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...lambda, restingState: 'Paused' }));
    await lab.recorded(({ pausedAt }) => pausedAt !== undefined);
    const next = await lab.restart();
    next.fleet.apply(desiredFixture({ ...lambda, restingState: 'Absent', generation: 2 }));
    await settle();
    expect(next.task()).toBeUndefined();
    expect(next.runtime.count('resume')).toBe(0);
  });

  it('is called by an agent that finds no runtime', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    await lab.recorded((record) => record.served !== undefined);
    lab.runtime.down = true;
    const next = await lab.restart();
    const { pending } = await call(next, { requestId: 'second' });
    next.inits.reconnect(next.container());
    await settle();
    next.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
    await next.clock.advance(10_000);
    next.runtime.down = false;
    await next.clock.advance(60_000);
    expect(next.runtime.operations.filter((operation) => operation.startsWith('destroy'))).toEqual([]);
  });

  it('is made again where a call is not told to end in its time', async () => {
    const lab = await FleetLab.with(desiredFixture(lambda));
    await lab.recorded((record) => record.served !== undefined);
    void call(lab);
    await settle();
    const next = await lab.restart();
    next.fleet.apply(desiredFixture(lambda));
    next.inits.reconnect(next.container());
    await next.clock.advance(4_400);
    expect(next.task()).toBe('Running');
    await next.clock.advance(200);
    expect(next.runtime.operations).toContain(`destroy ${next.container()}`);
  });

  it('has no call where it is frozen', async () => {
    const desired = desiredFixture({ ...lambda, restingState: 'Paused' });
    const lab = await FleetLab.with(desired);
    expect(lab.task()).toBe('Paused');
    await lab.recorded((record) => record.pausedAt !== undefined);
    const next = await lab.restart();
    next.fleet.apply(desired);
    const { pending } = await call(next, { requestId: 'second' });
    expect(next.task()).toBe('Running');
    expect(next.inits.calls).toEqual([]);
    next.inits.reconnect(next.container());
    await settle();
    next.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered', timings: { start: 'paused' } });
  });
});

describe('a worker whose interface became Lambda without a change of its shape', () => {
  async function upgraded(): Promise<FleetLab> {
    const lab = await FleetLab.with(desiredFixture());
    await lab.recorded((record) => record.served !== undefined);
    const next = await lab.restart();
    next.fleet.apply(desiredFixture(lambda));
    await settle();
    return next;
  }

  it('goes on with the emulator in its container', async () => {
    const lab = await upgraded();
    const { pending } = await call(lab);
    lab.emulators.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
    expect(lab.inits.sent).toEqual([]);
    expect(lab.runtime.count('ensure')).toBe(1);
    expect(lab.runtime.count('destroy')).toBe(0);
  });

  it('is called by an init once that container exits', async () => {
    const lab = await upgraded();
    lab.inits.initial = { phase: 'Starting', idle: false, initMs: 0, restarts: 0 };
    lab.runtime.exit(lab.container(), 1);
    await settle();
    const { pending } = await call(lab, { requestId: 'later' });
    expect(lab.inits.sent).toEqual([]);
    lab.inits.tell(lab.container(), { phase: 'Ready', idle: true });
    await settle();
    expect(lab.inits.sent).toEqual(['later']);
    lab.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
    expect(lab.phase()).toBe('Running');
  });

  it('goes on with a call in the container made anew, whatever the record says of the one before', async () => {
    const lab = await upgraded();
    lab.runtime.exit(lab.container(), 1);
    await settle();
    void call(lab, { requestId: 'left' });
    await settle();
    expect(lab.inits.sent).toEqual(['left']);
    const restarting = lab.restart();
    // Before the agent has read its records.
    lab.inits.reconnect(lab.container());
    const next = await restarting;
    next.fleet.apply(desiredFixture(lambda));
    await settle();
    const { pending } = await call(next, { requestId: 'later' });
    expect(next.inits.sent).toEqual(['left']);
    next.inits.endLeft('left');
    await settle();
    next.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
    expect(next.runtime.count('destroy')).toBe(0);
  });

  it('is called in the container made anew by an agent that finds no runtime', async () => {
    const lab = await upgraded();
    lab.runtime.exit(lab.container(), 1);
    await settle();
    await call(lab);
    lab.inits.answerAll();
    await settle();
    await lab.recorded((record) => record.served !== undefined && record.served.address === undefined);
    lab.runtime.down = true;
    const next = await lab.restart();
    const { pending } = await call(next, { requestId: 'second' });
    next.inits.reconnect(next.container());
    await settle();
    next.inits.answerAll();
    expect(await resultOf(pending)).toMatchObject({ kind: 'Answered' });
    next.runtime.down = false;
    await next.clock.advance(60_000);
    expect(next.runtime.count('destroy')).toBe(0);
  });
});
