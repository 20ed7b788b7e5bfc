import { EsbError, unreachable } from '../../common/errors.ts';
import { InitFailedError } from '../../init/init-failed-error.ts';
import { WorkerExitError } from '../../runtime/contract/worker-exit-error.ts';
import { afterSuccess, noBackoff, retryDelayMs, withDelay, withFailure } from '../model/backoff.ts';
import {
  afterFailedStart,
  afterStart,
  failureOf,
  refusalFor,
  startDelayMs,
  startsAt,
  terminationByInit,
  terminationOf,
} from '../model/crash-backoff.ts';
import type { Action } from '../model/plan.ts';
import type { Failure } from '../model/status-input.ts';
import { type Container, observedOf, withProcess } from './container.ts';
import { answering, byKernel, removed, silenced, started, switched, unknown } from './container-sight.ts';
import type { ActionFailure, ActionOutcome, CallOutcome, Progress, WorkerEvent } from './events.ts';
import { takeLoad } from './reduce-calls.ts';
import { countExit, exited, resyncAfter, see, terminated } from './sightings.ts';
import { type Draft, findContainer, imageKeyOf, serves } from './state.ts';

/** Milliseconds for which a container may fail to be removed, beside its grace period, until it is set aside. */
const setAsideMs = 120_000;
/** Milliseconds after a thaw for which it is told to nothing outside while a call is in the worker. */
export const answerFirstMs = 100;
/** Resumes that fail in a row until the container is made again. */
const maxResumes = 5;

export function progressed(draft: Draft, containerId: string, progress: Progress): void {
  draft.change(containerId, (container) => {
    const { activity } = container;
    if (activity.kind !== 'Acting') {
      return container;
    }
    if (progress.kind === 'Removing') {
      return { ...container, unusable: container.unusable ?? 'it is being removed' };
    }
    const { detail, step } = progress;
    return { ...container, activity: { ...activity, step, ...(detail === undefined ? {} : { detail }) } };
  });
  draft.show();
}

/** An action is over. */
export function acted(draft: Draft, { action, containerId, outcome }: Extract<WorkerEvent, { kind: 'Acted' }>): void {
  const before = findContainer(draft.state, containerId);
  if (before === undefined) {
    return;
  }
  const wasRunning = observedOf(before).kind === 'Running';
  draft.put({ ...before, activity: { kind: 'None' } });
  const failure = done(draft, containerId, action, outcome);
  if (failure !== undefined) {
    failed(draft, containerId, action, wasRunning, failure);
  } else if (outcome.kind !== 'NotBegun') {
    succeeded(draft, containerId, action);
  }
  if (action.kind !== 'Resume' || failure !== undefined) {
    draft.show();
  }
}

/** Takes what an action has done; why it counts as failed, when it does. */
function done(draft: Draft, containerId: string, action: Action, outcome: ActionOutcome): ActionFailure | undefined {
  const { now, wall } = draft.at;
  switch (outcome.kind) {
    case 'Inspected': {
      countExit(draft, containerId, outcome.seen);
      see(draft, containerId, outcome.seen);
      if (findContainer(draft.state, containerId)?.sight.kind === 'Known') {
        return undefined;
      }
      const { info, lost } = outcome.seen;
      const kernel = info?.task.kind === 'Unanswering' ? info.task.kernel : 'Untold';
      const error = new EsbError('its shim does not answer', { code: 'TaskUnanswering' });
      return { error, kernel, lost, shortage: false };
    }
    case 'Ensured':
      draft.change(containerId, (container) =>
        outcome.found ? withProcess(container, { ready: true }) : started(container, now, wall),
      );
      changeSetbacks(draft, containerId, afterStart);
      see(draft, containerId, { info: outcome.info, lost: false });
      ready(draft, containerId);
      known(draft, containerId);
      draft.save();
      return undefined;
    case 'WarmedUp':
      takeWarmUp(draft, containerId, outcome.call, true);
      return undefined;
    case 'Done':
      changed(draft, containerId, action);
      return undefined;
    case 'NotBegun':
      return undefined;
    case 'Failed':
      return outcome;
    default:
      return unreachable(outcome);
  }
}

/** A pause, resume or removal is done. */
function changed(draft: Draft, containerId: string, action: Action): void {
  const { now, wall } = draft.at;
  if (action.kind === 'Pause') {
    const pausedAt = new Date(wall).toISOString();
    draft.change(containerId, (container) => answering(withProcess(switched(container, 'Paused', now), { pausedAt })));
    draft.save('Rest');
  } else if (action.kind === 'Resume') {
    draft.change(containerId, (container) => ({
      ...withProcess(switched(container, 'Running', now), { pausedAt: undefined }),
      resync: resyncAfter(now),
    }));
    ready(draft, containerId);
    draft.set({
      quietUntil: draft.state.waiting.length > 0 ? now + answerFirstMs : Number.NEGATIVE_INFINITY,
    });
  } else if (action.kind === 'Destroy') {
    draft.change(containerId, (container) => removed(container, now));
    if (action.why === 'Unwanted' || action.why === 'Replaced') {
      changeSetbacks(draft, containerId, (setbacks) => ({ ...setbacks, restartPending: false }));
    }
    draft.save();
  }
}

/** Its container takes calls again: from now on those that wait do so for each other only. */
function ready(draft: Draft, containerId: string): void {
  if (draft.state.present.make.id === containerId) {
    draft.set({ readySince: draft.at.now });
  }
}

/** The node has got the image that the worker asks for. */
function known(draft: Draft, containerId: string): void {
  const { desired } = draft.state;
  if (findContainer(draft.state, containerId)?.make.shapeHash === desired.shapeHash) {
    draft.set({ resolution: { kind: 'Known', image: imageKeyOf(desired), backoff: noBackoff } });
  }
}

/** A call to warm up was answered, or not. One that failed is made again; calls are let in meanwhile. */
function takeWarmUp(draft: Draft, containerId: string, call: CallOutcome, warm: boolean): void {
  takeLoad(draft, containerId, call);
  if (call.kind === 'Answered') {
    draft.change(containerId, (container) => withProcess(container, { warm }));
    draft.save();
  }
}

function succeeded(draft: Draft, containerId: string, action: Action): void {
  if (action.kind === 'Inspect') {
    return;
  }
  draft.changeRetries(containerId, afterSuccess);
  if (action.kind === 'Resume') {
    draft.change(containerId, (container) =>
      container.failedResumes === 0 ? container : { ...container, failedResumes: 0 },
    );
  }
  if (action.kind !== 'Destroy') {
    fail(draft, containerId, undefined);
  }
}

function failed(draft: Draft, containerId: string, action: Action, wasRunning: boolean, failure: ActionFailure): void {
  const { now, node } = draft.at;
  const { error, lost, shortage, warmUp } = failure;
  if (warmUp !== undefined) {
    const { unusable } = warmUp;
    takeWarmUp(draft, containerId, warmUp.call, false);
    draft.change(containerId, (container) => ({ ...container, unusable: unusable ?? container.unusable }));
  }
  draft.change(containerId, (container) => doubted(container, action, failure.kernel, now));
  if (error.code === 'Aborted') {
    return;
  }
  if (error.code === 'TaskUnanswering') {
    draft.change(containerId, (container) => silenced(container, lost, now));
  }
  const down = error.code === 'RuntimeUnavailable';
  draft.changeRetries(containerId, (retries) => withFailure(retries, now));
  const retries = findContainer(draft.state, containerId)?.retries;
  const delayMs = retries === undefined ? 0 : retryDelayMs(retries, down);
  const putOff = (delay: number): void =>
    draft.changeRetries(containerId, (before) => withDelay(before, action.kind, now + delay));
  switch (action.kind) {
    case 'Inspect':
      putOff(delayMs);
      changeSetbacks(draft, containerId, (setbacks) => ({
        ...setbacks,
        failure: setbacks.failure ?? failureOf(error, 0),
      }));
      return;
    case 'Ensure':
      if (wasRunning && (error.code === 'NotListening' || error.code === 'InitFailed')) {
        const unusable = error.code === 'InitFailed' ? error.message : 'it does not listen';
        draft.change(containerId, (container) => ({ ...container, unusable }));
      }
      if (down || error.code === 'TaskUnanswering') {
        // Not the worker's fault, and tried again soon.
        putOff(delayMs);
        fail(draft, containerId, failureOf(error, 0));
      } else {
        startFailed(draft, containerId, error);
      }
      return;
    case 'WarmUp': {
      const isUsable = findContainer(draft.state, containerId)?.unusable === undefined;
      if (error.code === 'WarmUpFailed' && isUsable) {
        changeSetbacks(draft, containerId, (setbacks) => afterFailedStart(setbacks, error, now));
      } else {
        startFailed(draft, containerId, error);
      }
      const setbacks = findContainer(draft.state, containerId)?.setbacks;
      putOff(setbacks === undefined ? 0 : startDelayMs(setbacks, now));
      return;
    }
    case 'Resume': {
      draft.change(containerId, (container) => countResume(container, down || shortage));
      putOff(retries?.failures === 1 ? 0 : delayMs);
      return;
    }
    case 'Destroy':
      putOff(delayMs);
      fail(draft, containerId, failureOf(error, 0));
      draft.change(containerId, (container) => removalFailed(container, error, down || node.runtimeDown, now));
      return;
    case 'Pause':
      putOff(delayMs);
      fail(draft, containerId, failureOf(error, 0));
      return;
    default:
      unreachable(action);
  }
}

function countResume(container: Container, innocent: boolean): Container {
  const failedResumes = container.failedResumes + (innocent ? 0 : 1);
  return failedResumes >= maxResumes
    ? { ...container, failedResumes: 0, unusable: 'it cannot be resumed' }
    : { ...container, failedResumes };
}

/** @param down whether the runtime removes nothing at all */
function removalFailed(container: Container, error: EsbError, down: boolean, now: number): Container {
  if (down) {
    return { ...container, removal: { kind: 'Untried' } };
  }
  const since = container.removal.kind === 'Failing' ? container.removal.since : now;
  return {
    ...container,
    removal:
      now - since >= setAsideMs
        ? { kind: 'GivenUp', message: `${error.code}: ${error.message}` }
        : { kind: 'Failing', since },
  };
}

/** The container after a failed action. */
function doubted(container: Container, action: Action, kernel: ActionFailure['kernel'], now: number): Container {
  switch (action.kind) {
    case 'Inspect':
    case 'Pause':
    case 'Resume':
      // Neither a failed look nor a failed switch ends a process: what the kernel says is as good as a look.
      return byKernel(container, kernel, now);
    case 'Destroy':
      // One that may be called still has not been touched.
      return container.unusable === undefined ? byKernel(container, kernel, now) : unknown(container, now);
    case 'Ensure':
    case 'WarmUp':
      return unknown(container, now);
    default:
      return unreachable(action);
  }
}

function startFailed(draft: Draft, containerId: string, error: EsbError): void {
  const { now } = draft.at;
  if (error instanceof WorkerExitError) {
    const { exitCode, finishedAt, oomKilled, output } = error.exit;
    draft.change(containerId, (container) => withProcess(container, { exitCounted: true }));
    exited(draft, containerId, terminationOf(exitCode, oomKilled, finishedAt, output));
  } else {
    if (error instanceof InitFailedError) {
      // Its init ends for that.
      draft.change(containerId, (container) => withProcess(container, { exitCounted: true }));
      terminated(draft, containerId, terminationByInit(error, new Date(draft.at.wall)));
    }
    changeSetbacks(draft, containerId, (setbacks) => afterFailedStart(setbacks, error, now));
  }
  const container = findContainer(draft.state, containerId);
  if (container !== undefined && startsAt(container.setbacks) > now && serves(draft.state, container)) {
    draft.refuseWhere(() => true, ...refusalFor(container.setbacks));
  }
  draft.save();
}

function changeSetbacks(
  draft: Draft,
  containerId: string,
  change: (setbacks: Container['setbacks']) => Container['setbacks'],
): void {
  draft.change(containerId, (container) => ({ ...container, setbacks: change(container.setbacks) }));
}

function fail(draft: Draft, containerId: string, failure: Failure | undefined): void {
  draft.change(containerId, (container) =>
    container.setbacks.failure === failure ? container : { ...container, setbacks: { ...container.setbacks, failure } },
  );
}
