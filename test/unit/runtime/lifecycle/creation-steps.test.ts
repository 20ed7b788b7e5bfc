import { beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { WorkerInits } from '../../../../src/init/contract.ts';
import { CreationSteps, placeOf } from '../../../../src/runtime/lifecycle/creation-steps.ts';
import { FakeInits } from '../../../support/fake-inits.ts';
import { ensureRequest } from '../../../support/lab.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';

const { shape } = ensureRequest({ image: 'worker:1' }, 'w', {
  runtimeInterface: 'Lambda',
  startupTimeoutSeconds: 5,
  terminationGraceSeconds: 2,
});

describe('a started worker of interface Lambda', () => {
  let clock: ManualClock;
  let inits: FakeInits;
  let exited: PromiseWithResolvers<number>;
  let output: string;
  let starved: boolean;
  let thaw: () => void;

  beforeEach(() => {
    clock = manualClock();
    inits = new FakeInits();
    // None has connected yet.
    inits.initial = undefined;
    exited = Promise.withResolvers();
    output = 'last words\n';
    starved = false;
    thaw = () => undefined;
  });

  const stepsOf = (some: WorkerInits | undefined): CreationSteps =>
    new CreationSteps({
      logs: { read: () => Promise.resolve(Buffer.from(output)), size: () => Promise.resolve(output.length) },
      listenDeadlineMs: 1,
      connect: () => Promise.resolve(false),
      inits: some,
      observer: undefined,
      clock,
      logger: silentLogger(),
    });

  /** Waits as after a start: for `Ready`, or what the wait failed with. */
  async function outcome(meanwhile: () => unknown, signal = new AbortController().signal): Promise<unknown> {
    const steps = stepsOf(inits);
    await steps.init('w', 'team-a', shape);
    const place = placeOf({ containerId: 'w', runtimeInterface: 'Lambda' }, 1, shape);
    const exitOf = (exitCode: number) =>
      Promise.resolve({ exitCode, oomKilled: false, finishedAt: new Date(clock.now()) });
    const process = { exited: () => exited.promise, exitOf, isStarved: () => starved, thaw: () => thaw() };
    const started = steps.untilReady('w', place, process, signal);
    const [settled] = await Promise.allSettled([started, meanwhile()]);
    expect(clock.pending()).toBe(0);
    return settled.status === 'fulfilled' ? 'Ready' : settled.reason;
  }

  it('can take calls once its init says so, and not before', async () => {
    const found = await outcome(async () => {
      inits.tell('w', { phase: 'Starting', idle: false });
      await clock.advance(4_000);
      inits.tell('w', { phase: 'Ready' });
    });
    expect(found).toBe('Ready');
    expect(clock.now() - manualClock().now()).toBe(4_000);
  });

  it('is thawed within a second where somebody else freezes it', async () => {
    let isFrozen = true;
    thaw = () => {
      isFrozen = false;
    };
    const found = await outcome(async () => {
      await clock.advance(1_000);
      expect(isFrozen).toBe(false);
      isFrozen = true;
      await clock.advance(1_000);
      expect(isFrozen).toBe(false);
      inits.tell('w', { phase: 'Ready' });
    });
    expect(found).toBe('Ready');
  });

  it('fails with the words of Lambda', async () => {
    const fault = { errorType: 'Runtime.ImportModuleError', message: 'no module app' };
    expect(await outcome(() => inits.fail('w', fault))).toMatchObject({
      code: 'InitFailed',
      message: 'Runtime.ImportModuleError: no module app',
    });
  });

  it('fails with the want of memory beside them where the kernel has ended a process', async () => {
    starved = true;
    const fault = { errorType: 'Runtime.ExitError', message: 'Runtime exited with error: signal: killed' };
    expect(await outcome(() => inits.fail('w', fault))).toMatchObject({
      message: expect.stringMatching(/^Runtime\.ExitError: .*signal: killed; .*more memory than its limit$/),
      oomKilled: true,
      fault,
    });
  });

  it('fails with them where the news of its end came first', async () => {
    const fault = { errorType: 'Runtime.ExitError', message: 'Runtime exited with error: exit status 3' };
    const found = await outcome(async () => {
      exited.resolve(1);
      await clock.advance(50);
      inits.fail('w', fault);
    });
    expect(found).toMatchObject({
      code: 'InitFailed',
      message: 'Runtime.ExitError: Runtime exited with error: exit status 3; its last output: last words',
    });
  });

  it.each([
    [
      'EXTENSION\tName: a\tState: Exited\tEvents: []\tError Type: Extension.Crash\nINIT_REPORT Init Duration: 2.00 ms\tStatus: error',
      'EXTENSION\tName: a\tState: Exited\tEvents: []\tError Type: Extension.Crash',
    ],
    [
      '{"time":"t","type":"platform.extension","record":{"name":"a","errorType":"Extension.Crash"}}\n{"time":"t","type":"platform.initReport"}',
      '{"time":"t","type":"platform.extension","record":{"name":"a","errorType":"Extension.Crash"}}',
    ],
  ])(
    'fails with the last words that tell why, and not with those of its init about itself',
    async (lines, ofExtension) => {
      output = `last words\n${lines}\n`;
      const runtime = { errorType: 'Runtime.ExitError', message: 'exit status 3' };
      expect(await outcome(() => inits.fail('w', runtime))).toMatchObject({
        message: 'Runtime.ExitError: exit status 3; its last output: last words',
      });
      inits = new FakeInits();
      inits.initial = undefined;
      const extension = { errorType: 'Extension.Crash', message: 'exit status 3' };
      expect(await outcome(() => inits.fail('w', extension))).toMatchObject({
        message: `Extension.Crash: exit status 3; its last output: ${ofExtension}`,
      });
    },
  );

  it('fails by the word of its init, also where a busy agent reads that 0.9 seconds after the news of the end', async () => {
    const found = await outcome(async () => {
      exited.resolve(1);
      await clock.advance(900);
      inits.fail('w', { errorType: 'Runtime.Unknown', message: 'a flood', bound: '60 connections' });
    });
    expect(found).toMatchObject({ code: 'InitFailed', abused: true });
  });

  it('fails with its exit where its init said nothing', async () => {
    const found = await outcome(async () => {
      exited.resolve(125);
      await clock.advance(1_000);
    });
    expect(found).toMatchObject({
      code: 'ExitedAtOnce',
      message: 'the process of w exited with code 125 before it was ready; its last output: last words',
      exit: { exitCode: 125 },
    });
  });

  it('has the time that it is given, and a little more to say that the time was not enough', async () => {
    expect(await outcome(() => clock.advance(15_000))).toMatchObject({
      code: 'InitFailed',
      message: expect.stringContaining('within 15 s'),
    });
  });

  it('is given up with its caller', async () => {
    const caller = new AbortController();
    expect(await outcome(() => caller.abort(), caller.signal)).toMatchObject({ code: 'Aborted' });
  });

  it('is told what the resource says', async () => {
    expect(await stepsOf(inits).init('w', 'team-a', shape)).toEqual({
      program: expect.any(String),
      folder: expect.any(String),
      timeoutMs: 5_000,
      graceMs: 2_000,
      madeAt: new Date(clock.now()),
    });
    expect(await stepsOf(inits).init('w', 'team-a', { ...shape, runtimeInterface: 'Emulator' })).toBeUndefined();
  });

  it('is not made on a node without inits', async () => {
    await expect(stepsOf(undefined).init('w', 'team-a', shape)).rejects.toMatchObject({ code: 'CreateFailed' });
  });
});

it('a worker of interface Emulator without an address cannot be waited for', () => {
  expect(() => placeOf({ containerId: 'w', runtimeInterface: 'Emulator' }, 1, shape)).toThrow(
    expect.objectContaining({ code: 'NetworkFailed' }),
  );
});
