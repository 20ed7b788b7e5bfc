import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import { inOrderOfService, wasReady } from '../model/adoption.ts';
import { crashBackoff, noBackoff, restoredFrom, withFailure } from '../model/backoff.ts';
import { containerIdOf } from '../model/container-id.ts';
import type { ContainerMake } from '../model/container-spec.ts';
import { remembering } from '../model/crash-backoff.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { idleUnder } from '../model/idle-policy.ts';
import { callLeftIn, type FoundMark, leftCall } from '../model/marked-call.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import { type Container, callBoundMs, interfaceOf, newContainer, sizeOf, withProcess } from './container.ts';
import { takeFound } from './reduce-init.ts';
import { see } from './sightings.ts';
import {
  containersOf,
  type Draft,
  findContainer,
  longestTimeoutSeconds,
  type Moment,
  type QueueLimits,
  type WorkerState,
} from './state.ts';

/** Facts about a worker when its `Worker` is made. */
export interface WorkerStart {
  readonly desired: DesiredWorker;
  readonly record?: WorkerRecord;
  readonly mark?: FoundMark;
  /** Its containers as the runtime listed them; absent when they could not be listed yet: then it waits for that. */
  readonly containers?: readonly WorkerInfo[];
  /** Whether there may be more containers than these, which the first list is to tell of. Default false. */
  readonly partial?: boolean;
}

/** A worker of which no container is known yet. */
export function initialState(
  { containers, desired, mark, partial, record }: WorkerStart,
  queueLimits: QueueLimits,
  at: Moment,
): WorkerState {
  const state: WorkerState = {
    desired,
    released: false,
    confirmed: record === undefined,
    life: 'Serving',
    listing:
      containers === undefined
        ? { kind: 'Unlisted', record, mark }
        : partial === true
          ? { kind: 'Partial', mark }
          : { kind: 'Complete' },
    adopting: undefined,
    present: newContainerAt(
      record === undefined ? wantedMake(desired, [], at) : claimable(desired, record.container, [], at),
      at,
    ),
    others: [],
    hasLost: false,
    noRoomBeside: undefined,
    nodeFull: undefined,
    resolution:
      record?.knownImage === undefined ? undefined : { kind: 'Known', image: record.knownImage, backoff: noBackoff },
    turn: { kind: 'None' },
    idle: idleUnder(desired, { since: at.now, lifted: false }),
    foundPaused: false,
    observedStamp: record?.observedInvocationTime ?? desired.observedInvocationTime,
    activeStamp: undefined,
    waiting: [],
    waitingBytes: 0,
    heardUpTo: 0,
    queueLimits,
    places: [],
    readySince: Number.NEGATIVE_INFINITY,
    restartCount: record?.restartCount ?? 0,
    lastTermination: record?.lastTermination,
    savedRest: record?.rest ?? 'Running',
    unsaved: 'None',
    quietUntil: Number.NEGATIVE_INFINITY,
    grace: undefined,
  };
  return record === undefined ? state : { ...state, present: restored(state.present, record, at) };
}

/** Begins the adoption of what an earlier run of the agent has left. */
export function adopt(draft: Draft, { containers, mark, record }: WorkerStart): void {
  draft.emit({ kind: 'Claim', containerId: draft.state.present.make.id });
  if (containers === undefined) {
    draft.set({ adopting: record });
    if (record?.container !== undefined) {
      // Others of the node are not to take the room of a container that may be there.
      count(draft, draft.state.present.make.id);
    }
    draft.changeRetries(draft.state.present.make.id, (retries) => withFailure(retries, draft.at.now));
  } else {
    adoptContainers(draft, record, mark, containers);
  }
}

/** Adopts what the first list of the node has found. */
export function adoptListed(
  draft: Draft,
  record: WorkerRecord | undefined,
  mark: FoundMark | undefined,
  infos: readonly WorkerInfo[],
): void {
  draft.set({ listing: { kind: 'Complete' } });
  adoptContainers(draft, record, mark, infos);
}

/** Takes over what is there: what serves goes on serving, and a replacement that was under way is finished. */
function adoptContainers(
  draft: Draft,
  record: WorkerRecord | undefined,
  mark: FoundMark | undefined,
  infos: readonly WorkerInfo[],
): void {
  const { desired } = draft.state;
  draft.set({ adopting: record ?? (infos.length === 0 ? undefined : 'Unrecorded') });
  const [first, ...others] = inOrderOfService(
    infos.filter(({ containerId }) => mayClaim(draft, containerId)),
    { serving: record?.container.id, shapeHash: desired.shapeHash },
  );
  if (first !== undefined && first.containerId !== draft.state.present.make.id) {
    draft.emit({ kind: 'Drop', containerId: draft.state.present.make.id });
    draft.set({ present: newContainerAt(makeOf(desired, first, record), draft.at) });
    draft.emit({ kind: 'Claim', containerId: first.containerId });
    if (record !== undefined) {
      draft.set({ present: restored(draft.state.present, record, draft.at) });
    }
  }
  draft.set({
    present: withProcess(draft.state.present, {
      ready: first !== undefined && wasReady(first, record, desired.shapeHash),
    }),
  });
  if (first === undefined) {
    // No container is there: other workers may have the share that was kept for one.
    draft.emit({ kind: 'Free', containerId: draft.state.present.make.id });
  } else {
    // Its label has the last word: another may have been made under its name since the record was begun.
    const { make } = draft.state.present;
    draft.set({
      present: { ...draft.state.present, make: { ...make, runtimeInterface: first.runtimeInterface } },
    });
    occupy(draft, first, record, mark);
  }
  adoptBeside(draft, record, mark, others);
  const ended = first?.task.kind === 'Stopped';
  if (first === undefined || ended) {
    rememberCrash(draft, record);
  }
  if (ended) {
    count(draft, first.containerId);
  } else {
    see(draft, draft.state.present.make.id, { info: first, lost: false });
  }
}

/** Counts what a container takes of which little is known: that its process has ended, or nothing yet. */
function count(draft: Draft, containerId: string): void {
  const container = findContainer(draft.state, containerId);
  if (container !== undefined) {
    draft.emit({ kind: 'Hold', containerId, memoryMiB: sizeOf(container) });
  }
}

/** Adopts containers beside the present one. Those that are known are let be. */
export function adoptBeside(
  draft: Draft,
  record: WorkerRecord | undefined,
  mark: FoundMark | undefined,
  infos: readonly WorkerInfo[],
): void {
  const { desired } = draft.state;
  for (const info of infos) {
    const { containerId, task } = info;
    if (findContainer(draft.state, containerId) !== undefined || !mayClaim(draft, containerId)) {
      continue;
    }
    const container = newContainerAt(makeOf(desired, info, record), draft.at);
    // An init tells of such a call.
    const isMute = info.runtimeInterface === 'Emulator';
    const mayBeCalled = isMute && task.kind === 'Running' && desired.warmUpPayload !== undefined;
    draft.set({
      others: [
        ...draft.state.others,
        mayBeCalled ? { ...container, unusable: 'a call to warm it up may be in it since the agent ended' } : container,
      ],
    });
    draft.emit({ kind: 'Claim', containerId });
    occupy(draft, info, record, mark);
    if (task.kind === 'Stopped') {
      count(draft, containerId);
    } else {
      see(draft, containerId, { info, lost: false });
    }
  }
}

/** A call that an earlier run of the agent has left goes on in its container. */
function occupy(draft: Draft, info: WorkerInfo, record: WorkerRecord | undefined, mark: FoundMark | undefined): void {
  const { containerId } = info;
  const container = findContainer(draft.state, containerId);
  if (container !== undefined && interfaceOf(container) === 'Lambda') {
    const { init } = container;
    const wasPaused =
      record?.container.id === containerId && record.pausedAt !== undefined && record.rest !== 'Running';
    if (init.kind === 'Away' && !wasPaused) {
      draft.put({ ...container, init: { ...init, unheard: true } });
    }
    takeFound(draft, containerId, draft.at.node.initOf(containerId), info);
    return;
  }
  const found = callLeftIn(containerId, mark);
  if (found === undefined || container === undefined) {
    return;
  }
  const { id, shapeHash, timeoutSeconds } = container.make;
  const isTold =
    info.timeoutSeconds !== undefined || id === record?.container.id || shapeHash === draft.state.desired.shapeHash;
  // Another shape may have had a longer timeout than the resource asks for now.
  const boundMs = callBoundMs(isTold ? timeoutSeconds : longestTimeoutSeconds, false);
  const call = leftCall(found, draft.at.wall, boundMs);
  draft.put({ ...container, left: call });
  draft.emit({ kind: 'Watch', containerId, call, by: 'Log' });
}

/** A worker that crashed before the agent ended goes on being put off. */
function rememberCrash(draft: Draft, record: WorkerRecord | undefined): void {
  const termination = record?.lastTermination;
  if (record !== undefined && termination !== undefined && record.crashes.failures > 0 && record.rest !== 'Absent') {
    const { present } = draft.state;
    const exit = { termination, runtimeInterface: interfaceOf(present) };
    draft.set({ present: { ...present, setbacks: remembering(present.setbacks, exit, draft.at.now) } });
  }
}

/** The container that served, with what the record says of it. */
function restored(container: Container, record: WorkerRecord, { now, wall }: Moment): Container {
  const crashes = record.crashes.failures === 0 ? noBackoff : restoredFrom(record.crashes, crashBackoff, now, wall);
  const next = { ...container, setbacks: { ...container.setbacks, crashes } };
  const { id } = container.make;
  return record.container.id === id
    ? withProcess(next, {
        startedAt: record.startedAt,
        pausedAt: record.pausedAt,
        warm: record.warmContainer === id,
      })
    : next;
}

function mayClaim({ at, state }: Draft, containerId: string): boolean {
  return at.node.mayClaim(containerId, state.desired.identity.uid);
}

/** A container of that make, with what its init has told already. */
export function newContainerAt(make: ContainerMake, { node, now }: Moment): Container {
  return newContainer(make, now, node.initOf(make.id));
}

/** A container as the resource wants it now, that is none of those there are. */
export function nextMake(state: WorkerState, at: Moment): ContainerMake {
  return wantedMake(
    state.desired,
    containersOf(state).map(({ make }) => make.id),
    at,
  );
}

function wantedMake(desired: DesiredWorker, taken: readonly string[], at: Moment): ContainerMake {
  const { ephemeralStorageMiB, memoryMiB, perWorker, runtimeInterface, shapeHash, timeoutSeconds } = desired;
  const size = { memoryMiB, ephemeralStorageMiB, ...(perWorker === undefined ? {} : { perWorker }) };
  const wanted = { id: '', shapeHash, ...size, timeoutSeconds, runtimeInterface };
  return claimable(desired, wanted, taken, at);
}

/** A container under the first name that no worker, no present container and no container set aside has. */
function claimable(
  { identity }: DesiredWorker,
  wanted: ContainerMake,
  taken: readonly string[],
  { node }: Moment,
): ContainerMake {
  let { id } = wanted;
  for (let generation = 0; id === '' || taken.includes(id) || !node.mayClaim(id, identity.uid); generation += 1) {
    id = containerIdOf(identity, wanted.shapeHash, generation);
  }
  return { ...wanted, id };
}

/** A container as it was found. */
function makeOf(desired: DesiredWorker, info: WorkerInfo, record: WorkerRecord | undefined): ContainerMake {
  const { containerId: id, runtimeInterface, shapeHash } = info;
  const { tmpOnDisk } = info;
  if (record?.container.id === id) {
    return { ...record.container, runtimeInterface, tmpOnDisk };
  }
  const { ephemeralStorageMiB, memoryMiB, perWorker } = desired;
  const { timeoutSeconds = desired.timeoutSeconds } = info;
  const size = { memoryMiB, ephemeralStorageMiB, ...(perWorker === undefined ? {} : { perWorker }) };
  return { id, shapeHash, ...size, tmpOnDisk, timeoutSeconds, runtimeInterface };
}
