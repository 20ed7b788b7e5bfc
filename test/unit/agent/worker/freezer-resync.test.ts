import { beforeEach, describe, expect, it } from 'vitest';
import { FreezerResync } from '../../../../src/agent/worker/freezer-resync.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { type ManualClock, manualClock, settle as turns } from '../../../support/manual-clock.ts';

describe('FreezerResync', () => {
  let clock: ManualClock;
  let settling: FreezerResync;
  let idle: boolean;
  let asleep: boolean;
  let kernelRuns: boolean;
  let log: string[];
  let outcome: Promise<boolean>;
  let signal: AbortSignal | undefined;

  beforeEach(() => {
    clock = manualClock();
    idle = true;
    asleep = false;
    kernelRuns = false;
    log = [];
    outcome = Promise.resolve(true);
    signal = undefined;
    settling = new FreezerResync({
      containerId: 'w',
      runtime: {
        settle: (id, options) => {
          log.push(`settle ${id}`);
          signal = options?.signal;
          return outcome;
        },
      },
      clock,
      logger: silentLogger(),
      isIdle: () => idle,
      isAsleep: () => asleep,
      runs: () => kernelRuns,
      turned: () => log.push(`turn ${settling.active}`),
      ended: (runs) => log.push(`ended ${runs}`),
    });
  });

  it('waits for longer than most workers are awake', async () => {
    settling.thawed();
    await clock.advance(14_900);
    expect(log).toEqual([]);
    await clock.advance(200);
    expect(log).toEqual(['turn true', 'settle w', 'turn false', 'ended true']);
    await clock.advance(120_000);
    expect(log).toHaveLength(4);
    expect(clock.pending()).toBe(0);
  });

  it('counts from the last thaw, but not from a look at what has been thawed for a while', async () => {
    settling.thawed();
    await clock.advance(10_000);
    settling.thawed();
    await clock.advance(10_000);
    settling.found();
    expect(log).toEqual([]);
    await clock.advance(5_100);
    expect(log).toContain('settle w');
  });

  it('waits while a call is in the worker', async () => {
    idle = false;
    settling.found();
    await clock.advance(60_000);
    expect(log).toEqual([]);
    idle = true;
    await clock.advance(1_100);
    expect(log).toContain('settle w');
  });

  it('is not waited for once the worker is paused again, or gone', async () => {
    settling.thawed();
    idle = false;
    asleep = true;
    await clock.advance(15_100);
    expect(clock.pending()).toBe(0);
    settling.thawed();
    expect(clock.pending()).toBe(1);
  });

  it('is interrupted in one step, and tried again ever later', async () => {
    const hold = Promise.withResolvers<boolean>();
    outcome = hold.promise;
    settling.thawed();
    await clock.advance(15_000);
    expect(settling.active).toBe(true);
    settling.interrupt();
    expect(signal?.aborted).toBe(true);
    hold.resolve(false);
    await turns();
    expect(log.at(-1)).toBe('ended true');
    outcome = Promise.resolve(false);
    log = [];
    await clock.advance(1_000 + 2_000 + 4_000);
    expect(log.filter((line) => line === 'settle w')).toHaveLength(3);
  });

  it('tells that nobody knows whether it runs when the runtime does not', async () => {
    outcome = Promise.reject(new Error('stuck'));
    outcome.catch(() => undefined);
    settling.thawed();
    await clock.advance(15_000);
    expect(log.at(-1)).toBe('ended false');
    expect(clock.pending()).toBe(0);
  });

  it('ends with its worker', async () => {
    settling.thawed();
    await settling.stop();
    await clock.advance(60_000);
    expect(log).toEqual([]);
  });
});
