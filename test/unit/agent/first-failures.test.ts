import { describe, expect, it } from 'vitest';
import type { Verdict } from '../../../src/api/condition.ts';
import { WorkerExitError } from '../../../src/runtime/contract/worker-exit-error.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

const uid = 'uid-of-hello';
const timeoutLine = 'Task timed out after 3.00 seconds';

function condition(lab: FleetLab, type: 'UpToDate' | 'LimitsReached' | 'HandlerIgnored') {
  return lab.fleet.view(uid)?.conditions[type];
}

describe('a warm-up call that fails', () => {
  const warm = { warmUpPayload: '{"warm":1}' } as const;
  const failures = [
    [timeoutLine, 200, /it was not answered within spec.timeoutSeconds \(3\), and loading .* raise/],
    [
      '{"errorMessage": "Unable to import module", "errorType": "Runtime.ImportModuleError", "stackTrace": []}',
      200,
      /Runtime.ImportModuleError: Unable to import module/,
    ],
    ['', 200, /the runtime ended without an answer/],
    ['{"errorType":"X","errorMessage":"why","more":1}', 500, /X: why/],
    ['nothing of use', 502, /the runtime ended without an answer/],
  ] as const;

  it.each(failures)('by %s with status %d keeps the worker from being ready', async (text, status, why) => {
    const lab = await FleetLab.with(desiredFixture(warm));
    lab.emulators.calls[0]?.answer(text, status);
    await settle();
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Failed', transient: false });
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'WarmUpFailed' });
    expect(lab.ready()?.message).toMatch(why);
    expect(condition(lab, 'UpToDate')).toMatchObject({ status: 'False', reason: 'WarmUpFailed' });
  });

  it('is made again, and tells of nothing but its failure meanwhile', async () => {
    const lab = await FleetLab.with(desiredFixture({ ...warm, restingState: 'Paused' }));
    lab.emulators.calls[0]?.answer(timeoutLine);
    await lab.clock.advance(2_100);
    expect(lab.emulators.calls).toHaveLength(1);
    expect(lab.ready()?.reason).toBe('WarmUpFailed');
    lab.emulators.answerAll();
    await settle();
    expect(lab.fleet.view(uid)).toMatchObject({ phase: 'Paused' });
    expect(lab.ready()?.status).toBe('True');
    expect(lab.runtime.count('ensure')).toBe(1);
  });

  it('leaves the worker to callers, and is not made again once one was answered', async () => {
    const lab = await FleetLab.with(desiredFixture(warm));
    lab.emulators.calls[0]?.answer(timeoutLine);
    await settle();
    const call = lab.invoke();
    await settle();
    lab.emulators.answerAll();
    expect(await call).toMatchObject({ kind: 'Answered' });
    await lab.clock.advance(70_000);
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Running' });
    expect(lab.emulators.sent).toHaveLength(2);
  });

  it.each([
    ['ran out of time', timeoutLine, 200],
    ['met a function that cannot be loaded', '{"errorMessage":"no","errorType":"Runtime.ImportModuleError"}', 200],
    ['met a runtime that ended', '{"errorMessage":"exit status 1","errorType":"Runtime.ExitError"}', 500],
  ])('goes on to be told after a call that %s, and is made again', async (_, text, status) => {
    const lab = await FleetLab.with(desiredFixture(warm));
    lab.emulators.calls[0]?.answer(text, status);
    await settle();
    const call = lab.invoke();
    await settle();
    lab.emulators.calls[0]?.answer(text, status);
    expect(await call).toMatchObject({ kind: 'Answered' });
    await settle();
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'WarmUpFailed' });
    await lab.clock.advance(2_100);
    lab.emulators.answerAll();
    await settle();
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Running' });
    expect(lab.emulators.sent).toHaveLength(3);
  });

  it('keeps a replacement from taking over', async () => {
    const lab = new FleetLab();
    lab.emulators.onCall = (call) => call.answer();
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture(warm));
    await settle();
    lab.emulators.onCall = (call) => call.answer(timeoutLine);
    lab.fleet.apply(desiredFixture({ ...warm, generation: 2, shapeHash: 'v1-b' }));
    await settle();
    expect(lab.fleet.view(uid)?.containerId).toBe(lab.container('hello', 'v1-a'));
    expect(condition(lab, 'UpToDate')?.message).toMatch(/^WarmUpFailed: the warm-up call failed: /);
    lab.emulators.onCall = (call) => call.answer();
    await lab.clock.advance(2_100);
    expect(lab.fleet.view(uid)?.containerId).toBe(lab.container('hello', 'v1-b'));
  });

  it('is not seen in an answer that merely looks like one', async () => {
    const lab = await FleetLab.with(desiredFixture(warm));
    lab.emulators.calls[0]?.answer('{"statusCode":400,"errorType":"mine","errorMessage":"mine"}');
    await settle();
    expect(lab.ready()).toMatchObject({ status: 'True', reason: 'Running' });
  });
});

describe('a function that takes longer to load than a call may take', () => {
  const start = '28 Nov 2026 02:31:27,036 [INFO] (rapid) INIT START(type: on-demand, phase: init)\n';
  const inInit = `${start}[INFO] (rapid) INIT RTDONE(status: error)\n[WARNING] (rapid) Reset initiated: Timeout\n`;
  const inCall = `${start}[INFO] (rapid) INIT RTDONE(status: success)\n[WARNING] (rapid) Reset initiated: Timeout\n`;

  async function timeOut(lab: FleetLab, log: string): Promise<Verdict | undefined> {
    const call = lab.invoke();
    await lab.clock.advance(3_000);
    lab.runtime.logs.set(lab.container(), log);
    lab.emulators.calls[0]?.answer(timeoutLine);
    await lab.clock.advance(300);
    expect(await call).toMatchObject({ kind: 'Answered' });
    return condition(lab, 'LimitsReached');
  }

  it('is told as the cause, until a call is answered', async () => {
    const lab = await FleetLab.with(desiredFixture());
    const told = await timeOut(lab, inCall + inInit);
    expect(told).toMatchObject({ status: 'True', reason: 'LoadTimeout' });
    expect(told?.message).toMatch(/longer to load than spec.timeoutSeconds \(3\).* Raise spec.timeoutSeconds/);
    const call = lab.invoke();
    await settle();
    lab.emulators.answerAll();
    await call;
    await settle();
    expect(condition(lab, 'LimitsReached')).toBeUndefined();
  });

  it('is no longer told once a call ended in time, were it because the runtime ended', async () => {
    const lab = await FleetLab.with(desiredFixture());
    expect(await timeOut(lab, inInit)).toMatchObject({ reason: 'LoadTimeout' });
    const call = lab.invoke();
    await settle();
    lab.emulators.calls[0]?.answer('{"errorType":"Runtime.ExitError","errorMessage":"exit status 3"}', 500);
    await call;
    await settle();
    expect(condition(lab, 'LimitsReached')).toBeUndefined();
  });

  it('is not taken for one whose handler is slow, or whose emulator logs nothing', async () => {
    const lab = await FleetLab.with(desiredFixture());
    expect(await timeOut(lab, inInit + inCall)).toBeUndefined();
    expect(await timeOut(lab, 'nothing of the emulator')).toBeUndefined();
  });
});

describe('a process that ends because no emulator has started it', () => {
  it('is told what its image lacks, where callers and conditions are told why it ended', async () => {
    const output = "Traceback (most recent call last):\nKeyError: 'AWS_LAMBDA_RUNTIME_API'\n";
    const exit = { exitCode: 1, oomKilled: false, finishedAt: new Date(), output };
    const lab = new FleetLab();
    await lab.fleet.adopt();
    const error = new WorkerExitError('hello', exit);
    lab.runtime.fail('ensure', { error }, { error });
    lab.fleet.apply(desiredFixture());
    await settle();
    const why =
      /KeyError: 'AWS_LAMBDA_RUNTIME_API'; the image starts its runtime without the Runtime Interface Emulator/;
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'CrashLoopBackOff' });
    expect(lab.ready()?.message).toMatch(why);
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', message: expect.stringMatching(why) });
  });

  it('is not taken for one that ends for another reason', async () => {
    const lab = new FleetLab();
    await lab.fleet.adopt();
    const exit = { exitCode: 1, oomKilled: false, finishedAt: new Date(), output: 'no such file\n' };
    lab.runtime.fail('ensure', { error: new WorkerExitError('hello', exit) });
    lab.fleet.apply(desiredFixture());
    await settle();
    expect(lab.ready()?.message).not.toContain('Emulator');
  });

  it('is not taken for one that was started without an emulator', async () => {
    const lab = await FleetLab.with(desiredFixture({ runtimeInterface: 'Lambda' }));
    for (let crash = 0; crash < 2; crash += 1) {
      lab.runtime.logs.set(lab.container(), 'AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001\n');
      lab.runtime.exit(lab.container(), 1);
      await settle();
    }
    expect(lab.ready()?.message).toContain('AWS_LAMBDA_RUNTIME_API');
    expect(lab.ready()?.message).not.toContain('Emulator');
  });
});

describe('a handler that the image does not go by', () => {
  it('is told, with the one that takes its place', async () => {
    const lab = await FleetLab.with(desiredFixture({ handler: 'app.handler' }));
    expect(condition(lab, 'HandlerIgnored')).toBeUndefined();
    const present = lab.runtime.containers.get(lab.container());
    if (present === undefined) {
      throw new Error('no container');
    }
    lab.runtime.put({ ...present, handlerInItsPlace: 'lambda_function.handler' });
    lab.runtime.emit({ kind: 'Reconnected', containerId: lab.container() });
    await lab.fleet.adopt();
    await settle();
    expect(condition(lab, 'HandlerIgnored')).toMatchObject({ status: 'True', reason: 'HandlerInImage' });
    expect(condition(lab, 'HandlerIgnored')?.message).toMatch(/app.handler has no effect.*lambda_function.handler/);
  });
});
