import { EsbError, unreachable } from '../../common/errors.ts';
import { mayWake } from '../model/goal.ts';
import { observedOf } from '../step/container.ts';
import type { WorkerEvent } from '../step/events.ts';
import { whyPutOff } from '../step/reduce-calls.ts';
import { demandOf, isEnding, restOf, type WorkerState } from '../step/state.ts';

/** Commands of an operator to a worker, within the bounds of its desired state. */
export type Command = 'Ensure' | 'Resume' | 'Pause' | 'Destroy';

/**
 * The event that a command comes down to.
 *
 * @throws {EsbError} why the worker does not do it
 */
export function eventOf(command: Command, epoch: number, state: WorkerState, now: number): WorkerEvent {
  check(epoch, state);
  switch (command) {
    case 'Resume':
      checkMayWake(state, now);
      if (observedOf(state.present).kind === 'Missing') {
        throw new EsbError('there is nothing to resume', { code: 'FailedPrecondition' });
      }
      return eventOf('Ensure', epoch, state, now);
    case 'Ensure': {
      checkMayWake(state, now);
      const refusal = whyPutOff(state, now);
      if (refusal !== undefined) {
        throw new EsbError(refusal[1], { code: refusal[0] });
      }
      return { kind: 'Woken' };
    }
    case 'Pause': {
      const { restingState, pauseAfterSeconds, removeAfterSeconds } = state.desired;
      const allowed =
        restingState === 'Paused' ||
        (restingState === 'Running' && pauseAfterSeconds !== undefined) ||
        (restingState === 'Absent' && removeAfterSeconds !== undefined);
      if (!allowed) {
        throw new EsbError(`it rests ${restingState}, and its idle policy does not pause it`, {
          code: 'FailedPrecondition',
        });
      }
      return lowered(state, 'Paused');
    }
    case 'Destroy': {
      const { restingState, removeAfterSeconds } = state.desired;
      if (restingState !== 'Absent' && removeAfterSeconds === undefined) {
        throw new EsbError(
          `it rests ${restingState}, and its idle policy does not remove it: write desiredState Absent`,
          { code: 'FailedPrecondition' },
        );
      }
      return lowered(state, 'Absent');
    }
    default:
      return unreachable(command);
  }
}

/** Whether a worker is frozen, and may be woken so that its init speaks. */
export function mayThaw(state: WorkerState, now: number): boolean {
  const { desired, present } = state;
  return observedOf(present).kind === 'Paused' && !isEnding(state) && mayWake(desired.wakePolicy, restOf(state, now));
}

function check(epoch: number, state: WorkerState): void {
  if (state.life !== 'Serving') {
    throw new EsbError('the agent is stopping', { code: 'Unavailable' });
  }
  if (isEnding(state)) {
    throw new EsbError('the worker is being removed', { code: 'NotFound' });
  }
  const assigned = state.desired.epoch;
  if (epoch !== assigned) {
    throw new EsbError(`the request has epoch ${epoch}, the assignment ${assigned}`, { code: 'Fenced' });
  }
}

function checkMayWake(state: WorkerState, now: number): void {
  if (!mayWake(state.desired.wakePolicy, restOf(state, now))) {
    throw new EsbError('the worker is paused by its owner', { code: 'FailedPrecondition' });
  }
}

function lowered(state: WorkerState, rest: 'Paused' | 'Absent'): WorkerEvent {
  if (demandOf(state) > 0) {
    throw new EsbError('calls are in it or waiting for it', { code: 'FailedPrecondition' });
  }
  return { kind: 'Lowered', rest };
}
