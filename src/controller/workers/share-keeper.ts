import { findCondition, isTrue, type WorkerReason, workerConditions } from '../../api/condition.ts';
import { speakerOf } from '../../api/function-settings.ts';
import { type Assignment, type LambdaWorker, perWorkerOf } from '../../api/lambda-worker.ts';
import { shareOverMs } from '../../api/share.ts';
import type { Clock } from '../../common/clock.ts';
import { Tally } from '../../common/tally.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import type { CacheEvent, ObjectCache } from '../../kube/api/types.ts';
import { isSilent } from '../nodes/liveness.ts';
import type { Silence } from '../nodes/silence.ts';
import { type AssignmentCache, functionKeyOf } from '../scheduling/assignment-cache.ts';
import type { NodeSnapshot } from '../scheduling/node-snapshot.ts';
import { COLD, decideShares, type ShareHolder } from './decide-shares.ts';
import { FUNCTION_INDEX } from './disruption-budget.ts';
import type { ShareStanding } from './share-step.ts';

/** The longest timeout that a resource may ask for, in seconds. */
const LONGEST_TIMEOUT_SECONDS = 900;
/** Milliseconds of silence after which nothing runs on a node that is gone for good: four renewals of an agent. */
const GONE_SILENT_MS = 40_000;
/** Milliseconds for which a write whose outcome is not known may still come through: longer than any request takes. */
const DOUBT_MS = 60_000;
/** Reasons for which a worker that is not ready has to be waited for, and no other takes its calls. */
const passingReasons: readonly string[] = [
  'Absent',
  'Creating',
  'Paused',
  'Pending',
  'Reassigned',
  'RemovedIdle',
  'Replacing',
  'ReplacementFailed',
  'Resolving',
  'Restarting',
  'Running',
] satisfies readonly WorkerReason[];

/** Reasons of a worker whose container comes or goes: another worker takes its calls if that has a container. */
const changingReasons: readonly string[] = ['Pulling', 'Terminating'] satisfies readonly WorkerReason[];

/** Assignment whose write had no answer, and may still come through. */
interface Doubtful {
  readonly assignment: Assignment;
  /** Monotonic milliseconds. */
  readonly until: number;
}

/** The worker in the form in which it was seen last, as far as an absent agent has to know of it. */
interface Seen {
  readonly epoch: number;
  readonly deleting: boolean;
  /** Monotonic milliseconds since when. */
  readonly at: number;
}

export interface ShareKeeperOptions {
  /** {@link FUNCTION_INDEX} is among its indexes. */
  readonly workers: Pick<ObjectCache<LambdaWorker>, 'byIndex' | 'get'>;
  /** Counts assignments before they are written, and their shares with them. */
  readonly assignments: Pick<AssignmentCache, 'assumed'>;
  readonly snapshot: Pick<NodeSnapshot, 'standing'>;
  readonly silence: Silence;
  /** Called with the keys of workers whose share may be another one, since a share has lapsed. */
  readonly onLapse: (keys: readonly string[]) => void;
  readonly clock: Clock;
}

/**
 * The shares of reserved concurrency in one term: those of the resources as last seen, and those of this controller's own
 * writes that are under way, or may still arrive.
 */
export class ShareKeeper {
  readonly #options: ShareKeeperOptions;
  /** Workers of each function that reserve concurrency or have a share; most functions have none. */
  readonly #concerned = new Tally();
  /** By uid of the worker. */
  readonly #doubtful = new Map<string, Doubtful>();
  readonly #seen = new Map<string, Seen>();
  /** Uids of workers by whose share no call can run any more, since their node was not heard for so long. */
  readonly #lapsed = new Set<string>();

  constructor(options: ShareKeeperOptions) {
    this.#options = options;
  }

  /**
   * Notes a change. Call it at every change of a worker.
   *
   * @returns keys of workers whose share may be another one now
   */
  noteWorker(change: CacheEvent<LambdaWorker>): readonly string[] {
    const { object } = change;
    const uid = object.metadata.uid ?? '';
    const functionKey = functionKeyOf(object);
    const before = change.kind === 'updated' ? change.old : undefined;
    const after = change.kind === 'deleted' ? undefined : object;
    const wasShared = this.#concerned.get(functionKey) > 0;
    const wasConcerned = concerns(change.kind === 'deleted' ? object : before);
    this.#concerned.add(functionKey, Number(concerns(after)) - Number(wasConcerned));
    if (after === undefined) {
      this.#doubtful.delete(uid);
      this.#seen.delete(uid);
      this.#lapsed.delete(uid);
    } else {
      this.#note(uid, after);
    }
    if (!wasShared && this.#concerned.get(functionKey) === 0) {
      return [];
    }
    // Others may do without a share that was counted for a deleted worker, be it written or not.
    const isChanged = after === undefined || fingerprintOf(before) !== fingerprintOf(after);
    return isChanged ? this.#changingIn(functionKey) : [];
  }

  /** The standing of a worker; undefined where its function has no shares. */
  standing(worker: LambdaWorker): ShareStanding | undefined {
    const functionKey = functionKeyOf(worker);
    if (this.#concerned.get(functionKey) === 0) {
      return undefined;
    }
    const { uid = '' } = worker.metadata;
    const others = this.#options.workers
      .byIndex(FUNCTION_INDEX, functionKey)
      .filter(({ metadata }) => metadata.uid !== uid);
    const staying = [...others, worker].filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    const speaker = speakerOf(staying.map((resource) => ({ resource })));
    const reserved = speaker?.resource.spec.concurrency?.reserved;
    const self = this.#holder(worker);
    const nodeName = worker.status?.assignment?.nodeName;
    const standing = nodeName === undefined ? undefined : this.#options.snapshot.standing(worker, nodeName);
    return {
      inForce: reserved === undefined ? 0 : (self?.inForce ?? 0),
      isSettled: self?.isSettled ?? true,
      isSilent: standing !== undefined && (isSilent(standing.liveness) || standing.goneBecause !== undefined),
      next: (anew) => {
        if (worker.metadata.deletionTimestamp !== undefined) {
          return worker.status?.assignment?.share;
        }
        if (reserved === undefined) {
          return undefined;
        }
        const own = anew ? unassigned(uid, worker) : self;
        const holders = others.flatMap((other) => this.#holder(other) ?? []);
        return decideShares(reserved, own === undefined ? holders : [...holders, own]).get(uid);
      },
    };
  }

  /** Counts the share of a write that had no answer, for as long as it may still come through. */
  doubt(worker: LambdaWorker, assignment: Assignment): void {
    const until = this.#options.clock.monotonic() + DOUBT_MS;
    this.#doubtful.set(worker.metadata.uid ?? '', { assignment, until });
  }

  #keysOf(functionKey: string): readonly string[] {
    return this.#options.workers.byIndex(FUNCTION_INDEX, functionKey).map((worker) => keyText(objectKey(worker)));
  }

  /**
   * Keys of workers whose share is to be another one. One decision for all: with many workers each confirms its share,
   * and each confirmation would lead to a look at each of them.
   */
  #changingIn(functionKey: string): readonly string[] {
    const workers = this.#options.workers
      .byIndex(FUNCTION_INDEX, functionKey)
      .filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    const reserved = speakerOf(workers.map((resource) => ({ resource })))?.resource.spec.concurrency?.reserved;
    if (reserved === undefined) {
      return this.#keysOf(functionKey);
    }
    const all = this.#options.workers.byIndex(FUNCTION_INDEX, functionKey);
    const shares = decideShares(
      reserved,
      all.flatMap((worker) => this.#holder(worker) ?? []),
    );
    return workers
      .filter(({ metadata, status }) => shares.get(metadata.uid ?? '') !== status?.assignment?.share)
      .map((worker) => keyText(objectKey(worker)));
  }

  #note(uid: string, { metadata, status }: LambdaWorker): void {
    const epoch = status?.assignment?.epoch ?? 0;
    const deleting = metadata.deletionTimestamp !== undefined;
    const seen = this.#seen.get(uid);
    if (seen?.epoch !== epoch || seen.deleting !== deleting) {
      this.#seen.set(uid, { epoch, deleting, at: this.#options.clock.monotonic() });
      this.#lapsed.delete(uid);
    }
    const doubtful = this.#doubtful.get(uid);
    if (doubtful !== undefined && doubtful.assignment.epoch <= epoch) {
      this.#doubtful.delete(uid);
    }
  }

  /** A worker that has a node, with what is known of it beside its resource. */
  #holder(worker: LambdaWorker): ShareHolder | undefined {
    const { uid = '' } = worker.metadata;
    const seen = this.#holderOf(worker);
    const epoch = worker.status?.assignment?.epoch ?? 0;
    const unseen = this.#unseen(uid).filter((assignment) => assignment.epoch > epoch);
    if (unseen.length === 0) {
      return seen;
    }
    const base = seen ?? unassigned(uid, worker);
    const shares = unseen.map(({ share = base.perWorker }) => share);
    const inForce = Math.max(base.inForce, ...shares);
    return { ...base, share: shares[0] ?? 0, inForce, isSettled: false };
  }

  /** Assignments that may be in force, although the cache does not show them, the last decision first. */
  #unseen(uid: string): readonly Assignment[] {
    const doubtful = this.#doubtful.get(uid);
    const mayCome = doubtful !== undefined && doubtful.until > this.#options.clock.monotonic();
    return [this.#options.assignments.assumed(uid) ?? [], mayCome ? doubtful.assignment : []].flat();
  }

  #holderOf(worker: LambdaWorker): ShareHolder | undefined {
    const { metadata, status } = worker;
    const { uid = '' } = metadata;
    const { assignment, share: said } = status ?? {};
    const deleting = metadata.deletionTimestamp !== undefined;
    if (assignment === undefined || (deleting && isTrue(status?.conditions, workerConditions.cleanedUp))) {
      return undefined;
    }
    const perWorker = perWorkerOf(worker);
    const share = assignment.share ?? perWorker;
    const isReached = !deleting && this.#isReached(worker, assignment);
    const down = downReason(worker);
    const base = {
      ...unassigned(uid, worker),
      share,
      isCallable: isReached && down === undefined,
      isPassing: isReached && down !== undefined && changingReasons.includes(down),
    };
    if (this.#hasLapsed(worker, assignment)) {
      return { ...base, inForce: deleting ? 0 : share, ...(deleting ? { share: 0 } : {}) };
    }
    const isSaid = assignment.share === undefined ? said === undefined : said?.epoch === assignment.epoch;
    // Before its first assignment a worker was nowhere. An unknown number may be as many calls as the worker takes.
    const calls = said?.calls ?? (assignment.epoch === 1 && assignment.share !== undefined ? 0 : perWorker);
    return { ...base, inForce: Math.max(share, calls), isSettled: isSaid && !deleting };
  }

  /** Whether calls would reach the container of a worker. */
  #isReached(worker: LambdaWorker, { nodeName }: Assignment): boolean {
    const { spec } = worker;
    const { goneBecause, leave, liveness } = this.#options.snapshot.standing(worker, nodeName);
    const isKept = spec.wakePolicy === 'Never' && spec.desiredState !== 'Running';
    return !isSilent(liveness) && goneBecause === undefined && leave === undefined && !isKept;
  }

  /**
   * Whether no call can run any more by the share of a worker: its agent has let it lapse, and what ran then is over. The
   * node must not have been heard since the assignment as it is now was there: its agent may have read it meanwhile.
   */
  #hasLapsed(worker: LambdaWorker, { epoch, nodeName }: Assignment): boolean {
    const { metadata, spec, status } = worker;
    const { uid = '' } = metadata;
    const seen = this.#seen.get(uid);
    const { goneBecause } = this.#options.snapshot.standing(worker, nodeName);
    const silentMs = this.#options.silence.of(nodeName, seen?.at ?? Number.POSITIVE_INFINITY);
    // A call that began before the timeout was changed has the longer one.
    const isCurrent = status?.observedGeneration === metadata.generation;
    const timeoutSeconds = isCurrent ? spec.timeoutSeconds : LONGEST_TIMEOUT_SECONDS;
    const overMs = goneBecause === undefined ? shareOverMs(timeoutSeconds, perWorkerOf(worker) > 1) : GONE_SILENT_MS;
    const hasLapsed = seen?.epoch === epoch && silentMs >= overMs;
    if (hasLapsed && !this.#lapsed.has(uid)) {
      this.#lapsed.add(uid);
      this.#options.onLapse(this.#keysOf(functionKeyOf(worker)));
    } else if (!hasLapsed) {
      this.#lapsed.delete(uid);
    }
    return hasLapsed;
  }
}

/** A worker that is to have its first share. */
function unassigned(uid: string, worker: LambdaWorker): ShareHolder {
  const { phase } = worker.status ?? {};
  const rank = phase === 'Running' ? 0 : phase === 'Paused' ? 1 : COLD;
  const free = { share: 0, inForce: 0, isSettled: true, isCallable: true, isPassing: false } as const;
  return { uid, version: worker.spec.version, perWorker: perWorkerOf(worker), ...free, rank };
}

/** Why a worker answers no calls, by its agent; undefined for a reason that another worker need not stand in for. */
function downReason({ status }: LambdaWorker): string | undefined {
  const { conditions } = status ?? {};
  // Agents before the condition Callable tell that by Ready.
  const said =
    findCondition(conditions, workerConditions.callable) ?? findCondition(conditions, workerConditions.ready);
  return said?.status === 'False' && !passingReasons.includes(said.reason) ? said.reason : undefined;
}

/** Whether the function of a worker may have shares because of that worker. */
function concerns(worker: LambdaWorker | undefined): boolean {
  return worker?.spec.concurrency?.reserved !== undefined || worker?.status?.assignment?.share !== undefined;
}

/** The fields of a worker that the shares of its function depend on. */
function fingerprintOf(worker: LambdaWorker | undefined): string {
  if (worker === undefined) {
    return '';
  }
  const { metadata, spec, status } = worker;
  return JSON.stringify([
    metadata.deletionTimestamp !== undefined,
    perWorkerOf(worker),
    spec.concurrency?.reserved,
    spec.desiredState,
    spec.wakePolicy,
    status?.assignment,
    status?.share,
    isTrue(status?.conditions, workerConditions.cleanedUp),
    downReason(worker),
  ]);
}
