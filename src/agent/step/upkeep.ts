import { noBackoff } from '../model/backoff.ts';
import type { Goal } from '../model/goal.ts';
import { isAlive } from '../model/plan.ts';
import { type Acting, type Container, observedOf } from './container.ts';
import { resyncRetryMs } from './sightings.ts';
import { type Draft, imageKeyOf, isInUse, isQuiet, isUrgent, resolutionOf, restOf } from './state.ts';

/** Tells the runtime's tools of a container that was thawed below them, while no call is in it. */
export function resync(draft: Draft, container: Container): void {
  const { activity, make, resync: due, turn } = container;
  const { now } = draft.at;
  const urgent = isUrgent(draft.state, container);
  if (activity.kind === 'Settling') {
    if (urgent) {
      draft.emit({ kind: 'Abort', containerId: make.id });
    }
    return;
  }
  if (due === undefined || now < due.at) {
    return;
  }
  const observed = observedOf(container);
  const { kind } = observed;
  const mayFreeze = kind === 'Running' && observed.init === undefined;
  if (mayFreeze && !urgent && !isInUse(draft.state, container)) {
    draft.put({ ...container, activity: { kind: 'Settling' }, turn: turn + 1 });
    draft.emit({ kind: 'Settle', containerId: make.id });
  } else {
    // While it sleeps there is nothing to tell of it until it is thawed again.
    const isAwake = kind === 'Running' || kind === 'Unknown';
    draft.put({ ...container, resync: isAwake ? { ...due, at: now + resyncRetryMs } : undefined });
  }
}

/**
 * Tells an action that waits for its turn on the node whether a call waits for it; a call ends one that would keep it
 * out.
 */
export function hurry(draft: Draft, container: Container, activity: Acting): void {
  const { make } = container;
  const urgent = isUrgent(draft.state, container);
  if (urgent === activity.urgent) {
    return;
  }
  draft.put({ ...container, activity: { ...activity, urgent } });
  const { action } = activity;
  const keepsOut = action.kind === 'Pause' || (action.kind === 'Destroy' && action.why === 'Unwanted');
  draft.emit(
    urgent && keepsOut ? { kind: 'Abandon', containerId: make.id } : { kind: 'Hurry', containerId: make.id, urgent },
  );
}

/** Asks for the image of a worker that rests Absent, once for each image, and again after a failure. */
function resolve(draft: Draft): void {
  const before = resolutionOf(draft.state);
  if (before === undefined || (before.kind === 'Failed' && before.backoff.until <= draft.at.now)) {
    const image = imageKeyOf(draft.state.desired);
    const { backoff = noBackoff } = before ?? {};
    draft.set({ resolution: { kind: 'Asking', image, backoff, failure: before?.failure } });
    draft.emit({ kind: 'Resolve', image });
  }
}

/** Gives back the resources of a container that does not exist. */
export function rest(draft: Draft, goal: Goal): void {
  const { now } = draft.at;
  for (const { activity, make, sight } of draft.state.others) {
    if (activity.kind !== 'Acting' && sight.kind === 'Known' && sight.info === undefined) {
      draft.emit({ kind: 'Free', containerId: make.id });
    }
  }
  const { activity, make, setbacks, sight, traces } = draft.state.present;
  if (activity.kind === 'Acting') {
    return;
  }
  if (restOf(draft.state, now) !== draft.state.savedRest && goal.kind !== 'Gone' && !isQuiet(draft.state, now)) {
    draft.save('Rest');
  }
  if (sight.kind !== 'Known' || sight.info !== undefined) {
    return;
  }
  if (!isAlive(goal)) {
    draft.emit({ kind: 'Free', containerId: make.id });
  }
  if (goal.kind === 'Absent') {
    if (setbacks.failure !== undefined || draft.state.nodeFull !== undefined) {
      draft.change(make.id, (before) => ({ ...before, setbacks: { ...setbacks, failure: undefined } }));
      draft.set({ nodeFull: undefined });
    }
    resolve(draft);
  }
  if (goal.kind === 'Gone' && !traces && draft.state.others.length === 0 && draft.state.places.length === 0) {
    draft.emit({ kind: 'RemoveRecord' });
    if (draft.state.released) {
      draft.set({ life: 'Gone', unsaved: 'None' });
      draft.emit({ kind: 'Drop', containerId: make.id });
      draft.emit({ kind: 'Turn', want: 'Give', resting: false });
      draft.emit({ kind: 'Forget' });
    }
  }
}
