import type { Clock } from '../../common/clock.ts';
import { unreachable } from '../../common/errors.ts';
import type { DesiredWorker } from './desired-worker.ts';

/** Where a worker is when nobody calls it. */
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
      return removeAt === undefined
        ? stepDown(idleMs, undefined, returnAt)
        : stepDown(idleMs, returnAt, removeAt);
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

/** Tells how long a worker has been idle, on a clock that never steps. */
export class IdleClock {
  readonly #clock: Clock;
  #since: number;
  #lifted = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#since = clock.monotonic();
  }

  /** A call, or a wake by a status patch. */
  touch(): void {
    this.#since = this.#clock.monotonic();
    this.#lifted = true;
  }

  /**
   * The resource has changed: that is activity. A worker that rests goes on resting, and one whose owner asks for
   * another resting state goes there at once.
   */
  renew(before: IdlePolicy, after: IdlePolicy): void {
    if (before.restingState !== after.restingState || this.rest(before).state !== 'Running') {
      this.#lifted = false;
    }
    this.#since = this.#clock.monotonic();
  }

  /** Takes it that the policy has lowered the worker to `state` just now. */
  assume(policy: IdlePolicy, state: Rest): void {
    const now = this.#clock.monotonic();
    switch (state) {
      case 'Running':
        this.#since = now;
        this.#lifted = true;
        return;
      case 'Paused':
        this.#since = now - (milliseconds(policy.pauseAfterSeconds) ?? 0);
        this.#lifted = policy.restingState === 'Absent';
        return;
      case 'Absent':
        this.#since = now - (milliseconds(policy.removeAfterSeconds) ?? 0);
        this.#lifted = false;
        return;
      default:
        unreachable(state);
    }
  }

  rest(policy: IdlePolicy): RestNow {
    return restAt(policy, { idleMs: this.#clock.monotonic() - this.#since, lifted: this.#lifted });
  }
}
