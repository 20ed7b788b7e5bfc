import { describe, expect, it } from 'vitest';
import { agentStatus, compareStatus, showSameState, stampsDiffer } from '../../../../src/agent/sync/status-mapping.ts';
import { viewFixture } from '../../../support/fake-fleet.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';

const now = Date.parse('2026-11-02T03:04:05.678Z');

describe("the agent's part of a worker's status", () => {
  it('keeps the time of a condition while its status stays', () => {
    const first = agentStatus(viewFixture(), undefined, now);
    expect(first.conditions).toEqual([
      {
        type: 'Ready',
        status: 'True',
        observedGeneration: 1,
        reason: 'Running',
        message: '',
        lastTransitionTime: '2026-11-02T03:04:05Z',
      },
    ]);
    const paused = viewFixture({
      phase: 'Paused',
      conditions: { Ready: { status: 'True', reason: 'Paused', message: '' } },
    });
    const second = agentStatus(paused, first, now + 60_000);
    expect(second.conditions?.[0]).toMatchObject({
      reason: 'Paused',
      lastTransitionTime: '2026-11-02T03:04:05Z',
    });
    const failed = viewFixture({ conditions: { Ready: { status: 'False', reason: 'Failed', message: '' } } });
    const third = agentStatus(failed, second, now + 60_000);
    expect(third.conditions?.[0]).toMatchObject({ lastTransitionTime: '2026-11-02T03:05:05Z' });
  });

  it('is compared without what others own, and whatever the order', () => {
    const draft = agentStatus(viewFixture(), undefined, now);
    const scheduled = {
      type: 'Scheduled',
      status: 'True',
      reason: 'Assigned',
      message: '',
      lastTransitionTime: '2026-11-01T00:00:00Z',
    } as const;
    const present = {
      assignment: { nodeName: 'node-1', epoch: 1 },
      conditions: [scheduled, ...(draft.conditions ?? [])],
      restartCount: 0,
      containerID: 'hello-00000001',
      observedGeneration: 1,
      phase: 'Running',
    } as const;
    expect(compareStatus(draft, present)).toBe('none');
    expect(compareStatus(draft, { ...present, phase: 'Unknown' })).toBe('state');
    expect(compareStatus(draft, undefined)).toBe('state');
  });

  it('differs by activity alone where a worker that serves was called, or is paused or woken', () => {
    const ready = (reason: string, message: string) => {
      const condition = { status: 'True', reason, message } as const;
      return { Ready: condition, Callable: condition };
    };
    const paused = {
      phase: 'Paused',
      pausedAt: '2026-11-01T00:00:00Z',
      conditions: ready('Paused', 'frozen'),
    } as const;
    const running = agentStatus(viewFixture({ conditions: ready('Running', 'calls') }), undefined, now);
    const frozen = agentStatus(viewFixture(paused), running, now);
    expect(compareStatus(frozen, running)).toBe('activity');
    expect(compareStatus(running, frozen)).toBe('activity');
    const resuming = agentStatus(viewFixture({ ...paused, phase: 'Resuming', transient: true }), running, now);
    expect(compareStatus(resuming, running)).toBe('activity');
    const called = agentStatus(
      viewFixture({ conditions: ready('Running', 'calls'), lastInvocationTime: 'a' }),
      running,
      now,
    );
    expect(compareStatus(called, running)).toBe('activity');
    expect(compareStatus(called, called)).toBe('none');
  });

  it('differs by activity alone between any two views of a worker that is paused, called and paused again', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Paused' }));
    lab.emulators.onCall = (call) => call.answer();
    const views = [lab.fleet.view('uid-of-hello') ?? viewFixture()];
    lab.fleet.subscribe({ changed: (view) => views.push(view), removed: () => undefined });
    await lab.invoke();
    await lab.clock.advance(10_100);
    expect(new Set(views.map(({ phase }) => phase))).toEqual(new Set(['Running', 'Pausing', 'Paused']));
    const statuses = views.map((view) => agentStatus(view, undefined, now));
    expect(statuses[0]).toMatchObject({ phase: 'Paused' });
    expect(statuses.at(-1)).toMatchObject({ phase: 'Paused' });
    for (const before of statuses) {
      for (const after of statuses) {
        expect(['none', 'activity']).toContain(compareStatus(after, before));
      }
    }
  });

  it('differs by more where others have to act on it', () => {
    const before = agentStatus(viewFixture(), undefined, now);
    const ready = (status: 'True' | 'False', reason: string) => ({ Ready: { status, reason, message: '' } }) as const;
    for (const change of [
      { phase: 'Absent', conditions: ready('True', 'Absent') },
      { phase: 'Paused', conditions: ready('True', 'PausedByOwner') },
      { phase: 'Running', conditions: ready('False', 'Replacing') },
      { phase: 'Paused', restartCount: 1 },
      { phase: 'Paused', observedGeneration: 2 },
      { phase: 'Paused', containerId: 'hello-00000002' },
    ] as const) {
      expect(compareStatus(agentStatus(viewFixture(change), before, now), before), JSON.stringify(change)).toBe(
        'state',
      );
    }
    expect(compareStatus(before, { ...before, phase: 'Creating' })).toBe('state');
    const { phase: _, ...without } = before;
    expect(compareStatus(before, without)).toBe('state');
  });

  it('has the stamp of the last activity twice, and leaves that of another until it was acted on', () => {
    const stampsOf = (view: { lastInvocationTime?: string; observedInvocationTime?: string }, present: object) => {
      const { lastInvocationTime: last, observedInvocationTime: seen } = agentStatus(viewFixture(view), present, now);
      const isSame = JSON.stringify({ last, seen }) === JSON.stringify(namedOf(present));
      expect(stampsDiffer(viewFixture(view), present)).toBe(!isSame);
      return [last, seen];
    };
    const namedOf = (present: { lastInvocationTime?: string; observedInvocationTime?: string }) => ({
      last: present.lastInvocationTime,
      seen: present.observedInvocationTime,
    });
    const both = (stamp: string) => ({ lastInvocationTime: stamp, observedInvocationTime: stamp });
    expect(stampsOf({}, {})).toEqual([undefined, undefined]);
    expect(stampsOf({ lastInvocationTime: 'call' }, {})).toEqual(['call', 'call']);
    expect(stampsOf({ lastInvocationTime: 'call', observedInvocationTime: 'older' }, both('old'))).toEqual([
      'call',
      'call',
    ]);
    // Nothing was called since the agent began: what is there stays.
    expect(stampsOf({ observedInvocationTime: 'old' }, both('old'))).toEqual(['old', 'old']);
    const foreign = { lastInvocationTime: 'foreign', observedInvocationTime: 'old' };
    expect(stampsOf({ lastInvocationTime: 'call', observedInvocationTime: 'old' }, foreign)).toEqual([
      'foreign',
      'old',
    ]);
    expect(stampsOf(both('foreign'), foreign)).toEqual(['foreign', 'foreign']);
    // One that an earlier gateway wrote verbatim, behind our own.
    const behind = { lastInvocationTime: 'call-1', observedInvocationTime: 'call-1' };
    expect(stampsOf({ lastInvocationTime: 'call-2', observedInvocationTime: 'call-1' }, behind)).toEqual([
      'call-2',
      'call-2',
    ]);
  });

  it('is not changed by calls in flight', () => {
    expect(showSameState(viewFixture(), viewFixture({ inFlight: 3, callable: false }))).toBe(true);
    expect(showSameState(viewFixture(), viewFixture({ phase: 'Paused' }))).toBe(false);
    expect(
      showSameState(
        viewFixture(),
        viewFixture({ conditions: { Ready: { status: 'True', reason: 'Running', message: 'more' } } }),
      ),
    ).toBe(false);
  });
});
