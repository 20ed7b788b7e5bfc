import type { InitFailedError } from '../../init/init-failed-error.ts';
import { readinessBy } from '../../init/readiness.ts';
import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import { withDelay } from '../model/backoff.ts';
import { terminationByInit } from '../model/crash-backoff.ts';
import { leftCall } from '../model/marked-call.ts';
import { actionOf, boundOf, type Container, callBoundMs, hasEnded, observedOf, withProcess } from './container.ts';
import type { WorkerEvent } from './events.ts';
import { foundCall, heard, type InitWord } from './init-sight.ts';
import { exited } from './sightings.ts';
import { type Draft, findContainer, longestTimeoutSeconds } from './state.ts';

/**
 * Milliseconds for which a worker is not frozen that was at work when it was being frozen: each freeze costs the node a
 * start of runc, and a worker may say what it likes.
 */
const pauseAgainMs = 10_000;

/** The init of a container has told something, or is gone. */
export function initTold(draft: Draft, containerId: string, word: InitWord): void {
  draft.change(containerId, (container) => {
    const init = heard(container.init, word, draft.at.now);
    return init === container.init ? container : { ...container, init };
  });
  const container = findContainer(draft.state, containerId);
  if (container !== undefined && word.state?.idle !== true) {
    const isPausing = actionOf(container) === 'Pause';
    if (isPausing) {
      // Its runtime has ended by itself. A pause that has begun goes on, and a thaw follows.
      draft.emit({ kind: 'Abandon', containerId });
    }
    if (isPausing || observedOf(container).kind === 'Paused') {
      draft.changeRetries(containerId, (retries) => withDelay(retries, 'Pause', draft.at.now + pauseAgainMs));
    }
  }
  takeFound(draft, containerId, word);
  const readiness = readinessBy(word);
  if (readiness.kind === 'Failed') {
    initFailed(draft, containerId, readiness.error);
  }
}

/** A call that an earlier run of the agent has sent goes on in its container, or has ended there. */
export function takeFound(
  draft: Draft,
  containerId: string,
  word: InitWord | undefined,
  info?: Pick<WorkerInfo, 'timeoutSeconds'>,
): void {
  const container = findContainer(draft.state, containerId);
  if (container === undefined || word?.state === undefined) {
    return;
  }
  const requestId = foundCall(word);
  if (requestId === undefined && container.left !== undefined) {
    draft.emit({ kind: 'Unwatch', containerId });
    endLeft(draft, container, true);
  } else if (requestId !== undefined && container.left === undefined && container.unusable === undefined) {
    // Another shape may have taken several calls at once, and have had a longer timeout.
    const { timeoutSeconds = longestTimeoutSeconds } = info ?? container.sight.info ?? {};
    const isTold = container.make.shapeHash === draft.state.desired.shapeHash;
    const boundMs = isTold ? boundOf(container) : callBoundMs(2 * timeoutSeconds, true);
    // All of them had begun when the init connected: one after the other gets no more time.
    const passedMs = container.init.kind === 'Connected' ? draft.at.now - container.init.from : 0;
    const call = leftCall({ requestId }, draft.at.wall, Math.max(0, boundMs - passedMs));
    draft.put({ ...container, left: call });
    draft.emit({ kind: 'Watch', containerId, call, by: 'Init' });
  }
}

/** The wait for a call that an earlier run of the agent has left is over. */
export function leftCallEnded(
  draft: Draft,
  { call, containerId, seen }: Extract<WorkerEvent, { kind: 'LeftCallEnded' }>,
): void {
  const container = findContainer(draft.state, containerId);
  if (container?.left !== call || draft.state.life !== 'Serving') {
    return;
  }
  endLeft(draft, container, seen);
  if (seen) {
    draft.emit({ kind: 'Unmark', containerId });
  }
}

/** @param seen whether it was seen to end, as opposed to its time */
function endLeft(draft: Draft, container: Container, seen: boolean): void {
  const { left, make, unusable } = container;
  draft.put({
    ...container,
    left: undefined,
    unusable: seen ? unusable : 'a call was in it when an agent ended, and was not seen to end',
  });
  draft.emit({
    kind: 'Log',
    level: 'info',
    fields: { container: make.id, requestId: left?.requestId, seen },
    message: 'a call that was left in a container is over',
  });
  draft.touch();
}

/** The process of a container ends for that. The action that makes or removes a container tells the same itself. */
function initFailed(draft: Draft, containerId: string, error: InitFailedError): void {
  const container = findContainer(draft.state, containerId);
  const action = container === undefined ? undefined : actionOf(container);
  if (
    container === undefined ||
    action === 'Ensure' ||
    action === 'Destroy' ||
    container.process.exitCounted ||
    hasEnded(container)
  ) {
    return;
  }
  draft.put(withProcess({ ...container, unusable: container.unusable ?? error.message }, { exitCounted: true }));
  exited(draft, containerId, terminationByInit(error, new Date(draft.at.wall)), error.fault);
  draft.save();
  draft.show();
}
