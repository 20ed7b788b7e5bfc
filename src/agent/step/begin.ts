import { adopt, initialState, type WorkerStart } from './adopt.ts';
import { beginEnd, type Reduced, wakeOnForeignStamp } from './reduce.ts';
import { Draft, type Moment, type QueueLimits } from './state.ts';

/**
 * The state of a worker whose actor is made, with what an earlier run of the agent has left of it.
 *
 * @param ownStamp whether the `lastInvocationTime` of its resource was issued by this node
 */
export function adopted(start: WorkerStart, ownStamp: boolean, queueLimits: QueueLimits, at: Moment): Reduced {
  const draft = new Draft(initialState(start, queueLimits, at), at);
  adopt(draft, start);
  if (start.record === undefined) {
    wakeOnForeignStamp(draft, ownStamp);
  }
  if (start.desired.deleting) {
    beginEnd(draft);
  }
  return draft;
}
