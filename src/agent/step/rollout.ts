import { unreachable } from '../../common/errors.ts';
import { afterWear, startsAt } from '../model/crash-backoff.ts';
import type { Goal } from '../model/goal.ts';
import { isAlive, type Manner, type ObservedContainer, type Plan, plan, type Rearrangement } from '../model/plan.ts';
import { newContainerAt, nextMake } from './adopt.ts';
import { type Container, interfaceOf, isOccupied, observedOf, sizeOf, takesSeveral } from './container.ts';
import { type Draft, isBusy, isInUse, isOutdated, isReplaced, isWorn, serves } from './state.ts';

/** Brings the containers up to date with the plan, and returns what is left of it to be done. */
export function rearrange(draft: Draft, goal: Goal): Extract<Plan, { readonly kind: 'Act' }> {
  for (;;) {
    const { others, present } = draft.state;
    const next = plan(goal, {
      present: observed(draft, present),
      others: others.map((other) => observed(draft, other)),
      busy: isBusy(draft.state, present, draft.at.now),
      several: takesSeveral(present),
      manner: mannerOf(draft, goal),
    });
    if (next.kind === 'Act') {
      return next;
    }
    apply(draft, next.rearrangement);
  }
}

function observed({ at, state }: Draft, container: Container): ObservedContainer {
  const isPatient = state.grace === undefined || at.now < state.grace.until;
  return {
    // A container that is worn is replaced as one of another shape is.
    shapeHash: isWorn(state, container) ? '' : container.make.shapeHash,
    state: observedOf(container),
    occupied: isPatient && (serves(state, container) ? isOccupied(container) : isInUse(state, container)),
  };
}

/** How the present container is to be replaced, where it is of an earlier shape or worn. */
function mannerOf(draft: Draft, goal: Goal): Manner {
  const { desired, noRoomBeside, others, present, waiting } = draft.state;
  if (noRoomBeside !== undefined) {
    draft.set({ noRoomBeside: undefined });
  }
  if (!isAlive(goal) || !isReplaced(draft.state)) {
    if (others.length === 0) {
      giveTurn(draft);
    }
    // An init ends the call in its time and tells of that. The runtime is not given up for it: calls wait, as they would
    // for a call of this run.
    const isAwaited = desired.networkMode === 'Host' || interfaceOf(present) === 'Lambda';
    if (!isOccupied(present) || waiting.length === 0 || isAwaited) {
      return 'Later';
    }
    return draft.fits(nextMake(draft.state, draft.at).id) ? 'Beside' : later(draft);
  }
  if (desired.awaitsGrant === true) {
    giveTurn(draft);
    return 'Later';
  }
  const successor = successorOf(draft, goal.shapeHash);
  if (successor !== undefined) {
    if (observedOf(successor).kind !== 'Missing' || successor.activity.kind === 'Acting') {
      return 'Beside';
    }
    if (startsAt(successor.setbacks) > draft.at.now) {
      // Others may try meanwhile.
      giveTurn(draft);
      return 'Later';
    }
  }
  if (successor === undefined && others.some((other) => isInUse(draft.state, other))) {
    // Each container whose calls go on takes as much of the node again: one worker has two at most.
    giveTurn(draft);
    return 'Later';
  }
  if (!takeTurn(draft, goal.kind === 'Paused')) {
    return 'Later';
  }
  const { id } = successor?.make ?? nextMake(draft.state, draft.at);
  if (desired.networkMode !== 'Host' && draft.fits(id)) {
    return 'Beside';
  }
  if (others.some((other) => other !== successor)) {
    // Their memory is about to be given back.
    return 'Later';
  }
  if (isOutdated(draft.state) && draft.fits(present.make.id)) {
    return 'InPlace';
  }
  giveTurn(draft);
  return later(draft);
}

function later(draft: Draft): Manner {
  draft.set({ noRoomBeside: draft.noRoom() });
  return 'Later';
}

/** The container that is to take the place of the present one, which is of another shape; undefined for none. */
export function successorOf({ state }: Pick<Draft, 'state'>, shapeHash: string): Container | undefined {
  return state.others.find(
    (other) => other.make.shapeHash === shapeHash && !isInUse(state, other) && !isWorn(state, other),
  );
}

function takeTurn(draft: Draft, resting: boolean): boolean {
  const { desired, turn } = draft.state;
  if (turn.kind === 'Held') {
    return true;
  }
  const { namespace, uid } = desired.identity;
  if (draft.at.node.mayReplace(uid, { namespace, resting })) {
    draft.emit({ kind: 'Turn', want: 'Take', resting });
    draft.set({ turn: { kind: 'Held' } });
    return true;
  }
  if (turn.kind === 'None' || turn.resting !== resting) {
    draft.emit({ kind: 'Turn', want: 'Wait', resting });
    draft.set({ turn: { kind: 'Waiting', resting } });
  }
  return false;
}

function giveTurn(draft: Draft): void {
  if (draft.state.turn.kind !== 'None') {
    draft.emit({ kind: 'Turn', want: 'Give', resting: false });
    draft.set({ turn: { kind: 'None' } });
  }
}

function apply(draft: Draft, rearrangement: Rearrangement): void {
  switch (rearrangement.kind) {
    case 'Begin':
      draft.set({ others: [...draft.state.others, createBeside(draft)] });
      return;
    case 'Renew':
      renew(draft);
      return;
    case 'Exchange': {
      const container = takeOut(draft, rearrangement.index);
      if (container !== undefined) {
        exchange(draft, container);
      }
      return;
    }
    case 'Drop': {
      const container = takeOut(draft, rearrangement.index);
      if (container !== undefined) {
        draft.set({ hasLost: true });
        draft.emit({ kind: 'Drop', containerId: container.make.id });
      }
      return;
    }
    default:
      unreachable(rearrangement);
  }
}

function takeOut(draft: Draft, index: number): Container | undefined {
  const { others } = draft.state;
  draft.set({ others: others.filter((_, at) => at !== index) });
  return others[index];
}

function create(draft: Draft): Container {
  const make = nextMake(draft.state, draft.at);
  draft.emit({ kind: 'Claim', containerId: make.id });
  return newContainerAt(make, draft.at);
}

/** A container that is to take the place of the present one, with the setbacks of that where it is of the same shape. */
function createBeside(draft: Draft): Container {
  const container = create(draft);
  const { present } = draft.state;
  if (isOutdated(draft.state)) {
    return container;
  }
  if (present.unusable !== undefined) {
    return { ...container, setbacks: present.setbacks };
  }
  const { now } = draft.at;
  const setbacks = afterWear(present.setbacks, now - present.process.startedMonotonic, now);
  draft.emit({
    kind: 'Log',
    level: 'warn',
    fields: { container: present.make.id, delaySeconds: setbacks.failure?.delaySeconds },
    message: 'a container is worn by calls whose time is over, and is replaced',
  });
  return { ...container, setbacks };
}

/** From here on a new container, of which nothing is there yet, is the present one. */
export function renew(draft: Draft): void {
  exchange(draft, create(draft));
}

/** From here on calls go to that container. */
function exchange(draft: Draft, container: Container): void {
  const { present } = draft.state;
  draft.emit({
    kind: 'Log',
    level: 'info',
    fields: { from: present.make.id, to: container.make.id },
    message: 'a container takes the place of another',
  });
  draft.set({ present: container, others: [...draft.state.others, present] });
  const { activity } = container;
  // An init tells of such a call itself, and nothing would take back the mark.
  if (activity.kind === 'Acting' && activity.call !== undefined && interfaceOf(container) === 'Emulator') {
    draft.emit({ kind: 'Mark', containerId: container.make.id, call: activity.call });
  }
  becamePresent(draft, container);
}

function becamePresent(draft: Draft, container: Container): void {
  draft.set({
    nodeFull: undefined,
    ...(observedOf(container).kind === 'Running' ? { readySince: draft.at.now } : {}),
  });
  draft.save();
}

/** Goes on without the containers that cannot be removed. */
export function setAside(draft: Draft): void {
  for (const container of [draft.state.present, ...draft.state.others]) {
    const { make, removal } = container;
    if (removal.kind !== 'GivenUp') {
      continue;
    }
    const { message } = removal;
    const successor = serves(draft.state, container) ? create(draft) : undefined;
    draft.set({ hasLost: true });
    draft.emit({ kind: 'SetAside', containerId: make.id, memoryMiB: sizeOf(container), message });
    if (successor === undefined) {
      draft.set({ others: draft.state.others.filter((other) => other.make.id !== make.id) });
    } else {
      draft.set({ present: successor });
      becamePresent(draft, successor);
    }
  }
}
