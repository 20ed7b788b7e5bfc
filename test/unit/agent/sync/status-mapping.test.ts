import { describe, expect, it } from 'vitest';
import { agentStatus, compareStatus, showSameState } from '../../../../src/agent/sync/status-mapping.ts';
import { viewFixture } from '../../../support/fake-fleet.ts';

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
      lastInvocationTime: '2026-11-01T00:00:00Z',
      conditions: [scheduled, ...(draft.conditions ?? [])],
      restartCount: 0,
      containerID: 'hello-00000001',
      observedGeneration: 1,
      phase: 'Running',
    } as const;
    expect(compareStatus(draft, present)).toBe('none');
    expect(compareStatus(draft, { ...present, phase: 'Unknown' })).toBe('state');
    expect(compareStatus(draft, { ...present, pausedAt: '2026-11-01T00:00:00Z' })).toBe('state');
    expect(compareStatus(draft, undefined)).toBe('state');
  });

  it('differs by an acknowledgement alone', () => {
    const draft = agentStatus(viewFixture({ observedInvocationTime: '2031-01-01T00:00:00Z' }), undefined, now);
    const { observedInvocationTime: _, ...before } = draft;
    expect(compareStatus(draft, before)).toBe('acknowledgement');
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
