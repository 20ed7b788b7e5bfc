import { beforeEach, describe, expect, it } from 'vitest';
import type { Invocation } from '../../../../src/agent/model/invocation.ts';
import type { Container } from '../../../../src/agent/step/container.ts';
import type { CallOutcome } from '../../../../src/agent/step/events.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';
import { infoOf, WorkerSteps } from '../../../support/worker-steps.ts';

describe('FreezerResync', () => {
  let worker: WorkerSteps;
  let id: string;
  let last = 0;
  const present = (): Container => worker.state.present;
  const asked = (kind: 'Settle' | 'Abort' | 'Send'): number =>
    worker.effects.filter((effect) => effect.kind === kind).length;
  const call = (requestId: Invocation['requestId'] = 'r'): void => {
    last = worker.effects.length;
    worker.step({
      kind: 'Invoked',
      call: { id: last, requestId, epoch: 1, bytes: 2, arrivedAt: worker.now },
      gone: false,
    });
  };
  const answered = (): void => {
    const outcome: CallOutcome = {
      kind: 'Answered',
      sentAt: worker.now,
      answeredAt: worker.now,
      load: 'Loaded',
      warmed: true,
      stamp: '',
    };
    worker.step({ kind: 'Returned', containerId: id, id: last, outcome });
  };
  const thawed = (): void => {
    call();
    worker.step({ kind: 'Acted', containerId: id, action: { kind: 'Resume' }, outcome: { kind: 'Done' } });
    answered();
  };
  const settled = (settles: boolean, runs = true): void => {
    worker.step({ kind: 'Settled', containerId: id, outcome: { settled: settles, runs } });
  };
  const paused = (): void => {
    worker.step({ kind: 'Lowered', rest: 'Paused' });
    worker.step({ kind: 'Acted', containerId: id, action: { kind: 'Pause' }, outcome: { kind: 'Done' } });
  };

  beforeEach(() => {
    const desired = desiredFixture({ restingState: 'Paused', pauseAfterSeconds: 3_600 });
    const made = new WorkerSteps({ desired }).state.present.make.id;
    worker = new WorkerSteps({
      desired,
      containers: [infoOf(made, desired, { kind: 'Paused', pid: 1 })],
    });
    id = made;
    worker.step({ kind: 'Begun', unrecorded: false });
  });

  it('waits for longer than most workers are awake', () => {
    thawed();
    worker.advance(14_900);
    expect(asked('Settle')).toBe(0);
    const { turn } = present();
    worker.advance(200);
    expect(asked('Settle')).toBe(1);
    expect(present()).toMatchObject({ activity: { kind: 'Settling' }, turn: turn + 1 });
    settled(true);
    expect(present()).toMatchObject({ activity: { kind: 'None' }, turn: turn + 2 });
    worker.advance(120_000);
    expect(asked('Settle')).toBe(1);
    expect(present().resync).toBeUndefined();
  });

  it('counts from the last thaw, but not from a look at what has been thawed for a while', () => {
    thawed();
    worker.advance(10_000);
    paused();
    thawed();
    worker.advance(10_000);
    const info = infoOf(id, worker.desired, { kind: 'Running', pid: 1, unsettled: true });
    worker.step({
      kind: 'Listed',
      own: [info],
      news: [{ containerId: id, sighting: { info, lost: false } }],
    });
    expect(asked('Settle')).toBe(0);
    worker.advance(5_100);
    expect(asked('Settle')).toBe(1);
  });

  it('waits while a call is in the worker', () => {
    thawed();
    call();
    worker.advance(60_000);
    expect(asked('Settle')).toBe(0);
    answered();
    worker.advance(1_100);
    expect(asked('Settle')).toBe(1);
  });

  it('is not waited for once the worker is paused again, or gone', () => {
    thawed();
    paused();
    worker.advance(15_100);
    expect(asked('Settle')).toBe(0);
    expect(present().resync).toBeUndefined();
    thawed();
    expect(present().resync?.at).toBe(worker.now + 15_000);
  });

  it('is interrupted in one step, and tried again ever later', () => {
    thawed();
    worker.advance(15_000);
    expect(present().activity.kind).toBe('Settling');
    const sent = asked('Send');
    call();
    expect(asked('Abort')).toBe(1);
    expect(asked('Send')).toBe(sent);
    settled(false);
    expect(asked('Send')).toBe(sent + 1);
    answered();
    const before = asked('Settle');
    for (const delayMs of [1_000, 2_000, 4_000]) {
      worker.advance(delayMs - 1);
      const tried = asked('Settle');
      worker.advance(1);
      expect(asked('Settle')).toBe(tried + 1);
      settled(false);
    }
    expect(asked('Settle')).toBe(before + 3);
  });

  it('tells that nobody knows whether it runs when the runtime does not', () => {
    thawed();
    worker.advance(15_000);
    settled(false, false);
    expect(present().sight.kind).toBe('Unknown');
    expect(present().resync).toBeUndefined();
  });

  it('ends with its worker', () => {
    thawed();
    worker.step({ kind: 'Stopped', stamp: '', unsent: [] });
    worker.advance(60_000);
    expect(asked('Settle')).toBe(0);
    expect(worker.wakeAt).toBe(Number.POSITIVE_INFINITY);
  });
});
