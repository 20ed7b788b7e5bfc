import { findCondition, isTrue, type WorkerReason, workerConditions } from '../../api/condition.ts';
import type { NodeAmounts } from '../../api/lambda-node.ts';
import { type Assignment, functionNameOf, type LambdaWorker } from '../../api/lambda-worker.ts';
import { allowedOf, type Granted, grantOf } from '../../api/worker-resources.ts';
import { Tally } from '../../common/tally.ts';

/** The share of one worker in its node. */
interface Entry {
  readonly assignment: Assignment;
  readonly namespace: string;
  readonly functionKey: string;
  /** Amounts that the quotas of its namespace count for it. */
  readonly counted: Granted;
  readonly size: Size;
  /** 0 while no container exists. */
  readonly workers: 0 | 1;
  /** 0 while no container exists, or a paused one. */
  readonly milliCPU: number;
}

/** MiB of a worker while a container exists. */
interface Size {
  readonly memoryMiB: number;
  readonly tmpMiB: number;
  /** Of memory, where `/tmp` is memory as well. */
  readonly bothMiB: number;
}

/** Amounts that workers of a namespace have, for its quotas: with a container or without. */
export interface Usage {
  readonly memoryMiB: number;
  readonly milliCPU: number;
  readonly workers: number;
}

export function isSameGrant(a: Granted | undefined, b: Granted | undefined): boolean {
  return a?.memoryMiB === b?.memoryMiB && a?.milliCPU === b?.milliCPU;
}

/** Sums of one node. */
export interface NodeLoad {
  readonly used: NodeAmounts;
  /** MiB of `/tmp` of workers that have a container or soon will, on a disk. */
  readonly usedDiskMiB: number;
  readonly assigned: number;
  /** MiB of memory of all of them, those included that have no container. */
  readonly assignedMiB: number;
  sameFunction(functionKey: string): number;
}

interface Account {
  memoryMiB: number;
  milliCPU: number;
  tmpMiB: number;
  bothMiB: number;
  workers: number;
  assigned: number;
  assignedMemoryMiB: number;
  assignedBothMiB: number;
  readonly functions: Tally;
}

/** Key of a function: workers of one namespace and function name. */
export function functionKeyOf(worker: LambdaWorker): string {
  return `${worker.metadata.namespace ?? ''}/${functionNameOf(worker)}`;
}

/** Whether a container is to exist as soon as the worker is assigned. */
export function startsAtOnce(worker: LambdaWorker): boolean {
  return worker.spec.desiredState !== 'Absent' && worker.metadata.deletionTimestamp === undefined;
}

/**
 * Whether a container exists or soon will: running, paused, being made or being removed. Its room is free only once the
 * node reports for the present generation that there is none (rests Absent, or removed idle).
 */
export function takesRoom(worker: LambdaWorker): boolean {
  const { metadata, spec, status } = worker;
  if (isTrue(status?.conditions, workerConditions.cleanedUp)) {
    return false;
  }
  if (status?.phase === 'Absent') {
    return status.observedGeneration !== metadata.generation && spec.desiredState !== 'Absent';
  }
  return status?.phase !== undefined || spec.desiredState !== 'Absent';
}

/** Whether the worker takes CPU: its room, unless it is paused. Agents may tell of a pause or a wake some minutes late. */
export function isAwake(worker: LambdaWorker): boolean {
  return takesRoom(worker) && worker.status?.phase !== 'Paused';
}

/** Whether the agent cannot start the worker for want of room. */
export function isRefusedByFullNode(worker: LambdaWorker): boolean {
  const ready = findCondition(worker.status?.conditions, workerConditions.ready);
  return ready?.status === 'False' && ready.reason === ('NodeFull' satisfies WorkerReason);
}

/** Whether the agent cannot make the worker's next container beside the one that serves, for want of room. */
export function isReplacedLater(worker: LambdaWorker): boolean {
  const upToDate = findCondition(worker.status?.conditions, workerConditions.upToDate);
  return upToDate?.status === 'False' && upToDate.reason === ('NodeFull' satisfies WorkerReason);
}

/** Whether its node has cleaned up after a deletion, which may still wait for other nodes. */
function isOver({ metadata, status }: LambdaWorker): boolean {
  return metadata.deletionTimestamp !== undefined && isTrue(status?.conditions, workerConditions.cleanedUp);
}

/**
 * Assignments of all workers, with their sums by node and namespace: those of the resources as last seen, and this
 * controller's own decisions that the cache does not show yet. Nothing else is counted before its write: placement
 * counts the room of nodes by these assignments, quotas their grants, and functions their shares.
 */
export class AssignmentCache {
  readonly #entries = new Map<string, Entry>();
  readonly #assumed = new Map<string, Entry>();
  readonly #accounts = new Map<string, Account>();
  readonly #usages = new Map<string, Usage>();

  /**
   * Takes in a worker as it was last seen.
   *
   * @returns the node that has more room than before, if any
   */
  observe(worker: LambdaWorker): string | undefined {
    const uid = worker.metadata.uid ?? '';
    const assumed = this.#assumed.get(uid);
    const seen = worker.status?.assignment;
    if (assumed !== undefined && (seen === undefined || isBehind(seen, assumed))) {
      return undefined;
    }
    this.#assumed.delete(uid);
    if (seen === undefined || isOver(worker)) {
      return this.#replace(uid, undefined);
    }
    return this.#replace(uid, entryOf(worker, seen, takesRoom(worker), isAwake(worker)));
  }

  /** Removes a deleted worker; returns the node that has more room than before. */
  forget(uid: string): string | undefined {
    this.#assumed.delete(uid);
    return this.#replace(uid, undefined);
  }

  /** Counts a decision before it is written, for the next decision. */
  assume(worker: LambdaWorker, assignment: Assignment): void {
    const uid = worker.metadata.uid ?? '';
    const isSame = worker.status?.assignment?.nodeName === assignment.nodeName;
    const [room, awake] = isSame ? [takesRoom(worker), isAwake(worker)] : [startsAtOnce(worker), startsAtOnce(worker)];
    const entry = entryOf(worker, assignment, room, awake);
    this.#assumed.set(uid, entry);
    this.#replace(uid, entry);
  }

  /** Takes back a decision that could not be written; `worker` has the true state. */
  retract(worker: LambdaWorker): void {
    this.#assumed.delete(worker.metadata.uid ?? '');
    this.observe(worker);
  }

  /** Assignment that was decided and is not in the cache yet. */
  assumed(uid: string): Assignment | undefined {
    return this.#assumed.get(uid)?.assignment;
  }

  /** Sums of the workers of a namespace that have a node. */
  usage(namespace: string): Usage {
    return this.#usages.get(namespace) ?? { memoryMiB: 0, milliCPU: 0, workers: 0 };
  }

  /** @param tmpOnDisk whether `/tmp` of its workers is on disk, and counts as no memory. Default: no. */
  load(nodeName: string, tmpOnDisk = false): NodeLoad {
    const account = this.#accounts.get(nodeName) ?? newAccount();
    const { assigned, functions, milliCPU, workers } = account;
    return {
      used: { memoryMiB: tmpOnDisk ? account.memoryMiB : account.bothMiB, milliCPU, workers },
      usedDiskMiB: tmpOnDisk ? account.tmpMiB : 0,
      assigned,
      assignedMiB: tmpOnDisk ? account.assignedMemoryMiB : account.assignedBothMiB,
      sameFunction: (functionKey) => functions.get(functionKey),
    };
  }

  #replace(uid: string, next: Entry | undefined): string | undefined {
    const last = this.#entries.get(uid);
    if (last !== undefined) {
      this.#book(last, -1);
    }
    if (next === undefined) {
      this.#entries.delete(uid);
    } else {
      this.#entries.set(uid, next);
      this.#book(next, 1);
    }
    const isFreed =
      last !== undefined &&
      last.workers === 1 &&
      (next?.assignment.nodeName !== last.assignment.nodeName || takesLess(next, last));
    return isFreed ? last.assignment.nodeName : undefined;
  }

  #book(entry: Entry, sign: 1 | -1): void {
    const { assignment, counted, namespace } = entry;
    const { nodeName } = assignment;
    const usage = this.usage(namespace);
    this.#usages.set(namespace, {
      memoryMiB: usage.memoryMiB + sign * counted.memoryMiB,
      milliCPU: usage.milliCPU + sign * counted.milliCPU,
      workers: usage.workers + sign,
    });
    if (usage.workers + sign === 0) {
      this.#usages.delete(namespace);
    }
    let account = this.#accounts.get(nodeName);
    if (account === undefined) {
      account = newAccount();
      this.#accounts.set(nodeName, account);
    }
    const { size, workers } = entry;
    account.memoryMiB += sign * workers * size.memoryMiB;
    account.tmpMiB += sign * workers * size.tmpMiB;
    account.bothMiB += sign * workers * size.bothMiB;
    account.milliCPU += sign * entry.milliCPU;
    account.workers += sign * workers;
    account.assigned += sign;
    account.assignedMemoryMiB += sign * size.memoryMiB;
    account.assignedBothMiB += sign * size.bothMiB;
    account.functions.add(entry.functionKey, sign);
    if (account.assigned === 0) {
      this.#accounts.delete(nodeName);
    }
  }
}

/** Whether what is seen is older than what was decided. */
function isBehind(seen: Assignment, { assignment }: Entry): boolean {
  const { epoch, granted } = assignment;
  return seen.epoch < epoch || (seen.epoch === epoch && !isSameGrant(seen.granted, granted));
}

function entryOf(worker: LambdaWorker, assignment: Assignment, room: boolean, awake: boolean): Entry {
  const { bothMiB, ephemeralStorageMiB: tmpMiB, memoryMiB, milliCPU } = allowedOf(worker, assignment.granted);
  return {
    assignment,
    namespace: worker.metadata.namespace ?? '',
    functionKey: functionKeyOf(worker),
    counted: assignment.granted ?? grantOf(worker),
    size: { memoryMiB, tmpMiB, bothMiB },
    milliCPU: awake ? milliCPU : 0,
    workers: room ? 1 : 0,
  };
}

function newAccount(): Account {
  const sums = {
    memoryMiB: 0,
    tmpMiB: 0,
    bothMiB: 0,
    milliCPU: 0,
    workers: 0,
    assigned: 0,
    assignedMemoryMiB: 0,
    assignedBothMiB: 0,
  };
  return { ...sums, functions: new Tally() };
}

function takesLess(next: Entry, last: Entry): boolean {
  const { bothMiB, memoryMiB, tmpMiB } = next.size;
  const isSmaller = memoryMiB < last.size.memoryMiB || tmpMiB < last.size.tmpMiB || bothMiB < last.size.bothMiB;
  return next.workers < last.workers || next.milliCPU < last.milliCPU || isSmaller;
}
