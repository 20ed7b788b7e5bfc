import { unreachable } from '../../common/errors.ts';
import type { DesiredWorker } from './desired-worker.ts';

/** Where a worker is without calls. */
export type Rest = 'Running' | 'Paused' | 'Absent';

/** Seconds after which a worker that a call lifted returns to Paused or Absent, unless its policy says otherwise. */
const defaultReturnSeconds = 10;

/** The part of a worker that its idle clock looks at. */
export type IdlePolicy = Pick<DesiredWorker, 'restingState' | 'pauseAfterSeconds' | 'removeAfterSeconds'>;

export interface Idleness {
  /** Milliseconds since the last activity. */
  readonly idleMs: number;
  /** Whether that activity lifted the worker out of Paused or Absent. */
  readonly lifted: boolean;
}

export interface RestNow {
  readonly state: Rest;
  /** Milliseconds until the state becomes another one without any activity; absent when it stays. */
  readonly changesInMs?: number;
}

/** The state that an idle policy lowers a worker to. */
export function restAt(policy: IdlePolicy, idleness: Idleness): RestNow {
  const { idleMs, lifted } = idleness;
  const removeAt = milliseconds(policy.removeAfterSeconds);
  switch (policy.restingState) {
    case 'Running':
      return stepDown(idleMs, milliseconds(policy.pauseAfterSeconds), removeAt);
    case 'Paused':
      return lifted
        ? stepDown(idleMs, milliseconds(policy.pauseAfterSeconds ?? defaultReturnSeconds), removeAt)
        : stepDown(idleMs, 0, removeAt);
    case 'Absent': {
      if (!lifted) {
        return { state: 'Absent' };
      }
      const returnAt = milliseconds(policy.pauseAfterSeconds ?? defaultReturnSeconds);
      // With a removal time of its own it is kept, frozen, for that long; otherwise it is removed when it is idle.
      return removeAt === undefined ? stepDown(idleMs, undefined, returnAt) : stepDown(idleMs, returnAt, removeAt);
    }
    default:
      return unreachable(policy.restingState);
  }
}

function stepDown(idleMs: number, pauseAt: number | undefined, removeAt: number | undefined): RestNow {
  if (removeAt !== undefined && idleMs >= removeAt) {
    return { state: 'Absent' };
  }
  const paused = pauseAt !== undefined && idleMs >= pauseAt;
  const next = Math.min(
    paused ? Number.POSITIVE_INFINITY : (pauseAt ?? Number.POSITIVE_INFINITY),
    removeAt ?? Number.POSITIVE_INFINITY,
  );
  return {
    state: paused ? 'Paused' : 'Running',
    ...(Number.isFinite(next) ? { changesInMs: next - idleMs } : {}),
  };
}

function milliseconds(seconds: number): number;
function milliseconds(seconds: number | undefined): number | undefined;
function milliseconds(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1_000;
}

/** Since when a worker has been idle, in monotonic milliseconds, and whether an activity has lifted it before. */
export interface Idle {
  readonly since: number;
  readonly lifted: boolean;
  /** Milliseconds after `since` for which its policy leaves it Running. */
  readonly runsMs: number;
}

/** The idle clock under a policy. */
export function idleUnder(policy: IdlePolicy, { lifted, since }: Omit<Idle, 'runsMs'>): Idle {
  const { changesInMs = Number.POSITIVE_INFINITY, state } = restAt(policy, { idleMs: 0, lifted });
  return { since, lifted, runsMs: state === 'Running' ? changesInMs : 0 };
}

/** A call, or a wake by a status patch. */
export function touched(policy: IdlePolicy, now: number): Idle {
  return idleUnder(policy, { since: now, lifted: true });
}

/**
 * The resource has changed, which is activity. A worker that rests goes on resting, and one whose owner asks for
 * another resting state goes there at once.
 */
export function renewed(idle: Idle, before: IdlePolicy, after: IdlePolicy, now: number): Idle {
  const rests = before.restingState !== after.restingState || restNow(idle, before, now).state !== 'Running';
  return idleUnder(after, { since: now, lifted: idle.lifted && !rests });
}

/** As if the policy had lowered the worker to `state` just now. */
export function assumed(policy: IdlePolicy, state: Rest, now: number): Idle {
  switch (state) {
    case 'Running':
      return touched(policy, now);
    case 'Paused':
      return idleUnder(policy, {
        since: now - (milliseconds(policy.pauseAfterSeconds) ?? 0),
        lifted: policy.restingState === 'Absent',
      });
    case 'Absent':
      return idleUnder(policy, { since: now - (milliseconds(policy.removeAfterSeconds) ?? 0), lifted: false });
    default:
      return unreachable(state);
  }
}

export function restNow({ lifted, since }: Omit<Idle, 'runsMs'>, policy: IdlePolicy, now: number): RestNow {
  return restAt(policy, { idleMs: now - since, lifted });
}
