import type { EventReason } from '../../api/condition.ts';
import { type LambdaWorker, lambdaWorkers, WORKER_FINALIZER } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { mayBeWritten } from '../../kube/api/api-error.ts';
import { keyText, objectKey, parseKeyText } from '../../kube/api/object-key.ts';
import type { KubeClient, ObjectCache, ObjectKey } from '../../kube/api/types.ts';
import type { ReconcileResult } from '../../kube/controller/reconciler.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { type RecordedEvent, referenceTo } from '../../kube/events/event-series.ts';
import type { ControllerMetrics, WriteCause } from '../metrics/controller-metrics.ts';
import { isSilent } from '../nodes/liveness.ts';
import type { QuotaBook } from '../quota/quota-book.ts';
import { type AssignmentCache, isRefusedByFullNode, isSameGrant } from '../scheduling/assignment-cache.ts';
import type { Homeless } from '../scheduling/homeless.ts';
import type { NodeSnapshot, WorkerStanding } from '../scheduling/node-snapshot.ts';
import type { PlacementStrategy } from '../scheduling/place.ts';
import { decide } from './decide.ts';
import type { WorkerDecision } from './decision.ts';
import { DisruptionBudget } from './disruption-budget.ts';
import type { LeftNodes } from './left-nodes.ts';
import { Rewordings } from './rewordings.ts';
import type { ShareKeeper } from './share-keeper.ts';
import { type ShareStanding, withShare } from './share-step.ts';
import { clearancePatch, finalizerPatch, onlyRewords, statusPatch } from './status-draft.ts';
import { WorkerPlacer } from './worker-placer.ts';

export interface WorkerReconcilerOptions {
  /** Writes through it show in the caches. */
  readonly client: KubeClient;
  /** Has the caches show what became of writes without an answer, to an object and to those that are named after it. */
  readonly settle: (key: ObjectKey, call: CallOptions) => Promise<void>;
  readonly workers: ObjectCache<LambdaWorker>;
  readonly snapshot: NodeSnapshot;
  readonly left: Pick<LeftNodes, 'of'>;
  readonly shares: Pick<ShareKeeper, 'doubt' | 'standing'>;
  readonly strategy: PlacementStrategy;
  readonly assignments: AssignmentCache;
  readonly quotas: Pick<QuotaBook, 'grant' | 'note'>;
  /** Told when workers that wait may have room. */
  readonly onRoom: () => void;
  readonly events: EventSink<EventReason>;
  readonly metrics: ControllerMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Steps in one round: the finalizer, the assignment, and one to spare. */
const MAX_STEPS = 3;
/**
 * Least milliseconds between two moves of one worker for want of room: nodes that count differently must not pass it to
 * and fro.
 */
const FULL_MOVE_INTERVAL_MS = 15_000;
/** Milliseconds until a worker that has to wait asks the disruption budget again. */
const TURN_REQUEUE_MS = 1_000;
/** Milliseconds until a worker is looked at again that is to leave a silent node, once its share has lapsed there. */
const SHARE_REQUEUE_MS = 5_000;
/** Milliseconds until the cache should have caught up, as after a conflict; its event usually comes first. */
const CACHE_REQUEUE_MS = 500;

/** A decision of one kind. */
type Step<Kind extends WorkerDecision['kind']> = Extract<WorkerDecision, { readonly kind: Kind }>;

type EventKind = Pick<RecordedEvent<EventReason>, 'type' | 'reason' | 'action'>;

const eventKinds: Readonly<Record<WriteCause, EventKind | undefined>> = {
  assigned: { type: 'Normal', reason: 'Assigned', action: 'Assign' },
  moved: { type: 'Normal', reason: 'Reassigned', action: 'Assign' },
  refused: { type: 'Warning', reason: 'FailedScheduling', action: 'Assign' },
  unassigned: { type: 'Warning', reason: 'Unassigned', action: 'Assign' },
  lost: { type: 'Warning', reason: 'NodeLost', action: 'Watch' },
  told: undefined,
  shared: undefined,
};

/** Carries out the steps of {@link decide} for one worker at a time. */
export class WorkerReconciler {
  readonly #options: WorkerReconcilerOptions;
  readonly #placer: WorkerPlacer;
  /** By key, the monotonic milliseconds since when a deletion waits for a node that the worker left. */
  readonly #awaiting = new Map<string, number>();
  /** By uid, the generation with which a worker was first seen in deletion: a later one is of a change. */
  readonly #deletedAs = new Map<string, number>();
  /** By uid, the node whose loss was written to the worker. */
  readonly #lossTold = new Map<string, string>();
  /** By uid, the monotonic milliseconds of the last move away from a full node. */
  readonly #leftFullAt = new Map<string, number>();
  readonly #rewordings: Rewordings;
  readonly #turns: DisruptionBudget;
  /** By uid, workers that wait for the disruption budget. */
  readonly #inTurn = new Set<string>();

  constructor(options: WorkerReconcilerOptions) {
    this.#options = options;
    this.#placer = new WorkerPlacer(options);
    this.#turns = new DisruptionBudget(options);
    this.#rewordings = new Rewordings(options.clock);
  }

  /** Keys of workers that wait for a fitting node. */
  waiting(): readonly string[] {
    return this.#placer.waiting();
  }

  /** Call it before waiting workers are looked at again, since nodes have changed. */
  forgetRefusals(): void {
    this.#placer.forgetRefusals();
  }

  /** Workers among them that more nodes would help. */
  homeless(): readonly Homeless[] {
    return this.#placer.homeless();
  }

  /** Keys of workers whose deletion waits for a node that they left. */
  awaiting(): readonly string[] {
    return [...this.#awaiting.keys()];
  }

  /** Hears each state of a worker that is there: a look may come after several. */
  note({ metadata }: Pick<LambdaWorker, 'metadata'>): void {
    const { deletionTimestamp, generation = 0, uid = '' } = metadata;
    if (deletionTimestamp !== undefined && !this.#deletedAs.has(uid)) {
      this.#deletedAs.set(uid, generation);
    }
  }

  forget(key: string, uid: string): void {
    this.#placer.forget(key);
    this.#awaiting.delete(key);
    this.#deletedAs.delete(uid);
    this.#lossTold.delete(uid);
    this.#leftFullAt.delete(uid);
    this.#rewordings.forget(uid);
    this.#turns.forget(uid);
    this.#inTurn.delete(uid);
  }

  /** Errors are those of the API server; the key is then tried again after a growing wait. */
  async reconcile(key: string, options: CallOptions): Promise<ReconcileResult> {
    const { workers, assignments, logger, settle, shares: keeper } = this.#options;
    await settle(parseKeyText(key), options);
    let worker = workers.get(parseKeyText(key));
    if (worker !== undefined && assignments.assumed(worker.metadata.uid ?? '') !== undefined) {
      // Its write had no answer, and the cache shows by now what became of it.
      this.#retract(worker);
    }
    for (let step = 0; step < MAX_STEPS && worker !== undefined; step++) {
      this.#placer.forget(key);
      const standing = this.#standing(worker);
      const shares = keeper.standing(worker);
      const decision = this.#decide(key, worker, standing, shares);
      if (decision.kind === 'wait') {
        this.#await(key);
        return { requeueAfterMs: decision.forMs };
      }
      this.#awaiting.delete(key);
      const pauseMs = this.#pauseBeforeRewording(worker, decision);
      if (pauseMs > 0) {
        const { requeueAfterMs = pauseMs } = this.#again(worker, standing, shares);
        return { requeueAfterMs: Math.min(requeueAfterMs, pauseMs) };
      }
      try {
        const next: LambdaWorker | 'done' = await this.#act(worker, decision, options);
        if (next === 'done') {
          return this.#again(worker, standing, shares);
        }
        worker = next;
      } catch (error) {
        if (hasCode(error, 'NotFound')) {
          return {};
        }
        if (hasCode(error, 'Conflict')) {
          logger.debug({ worker: key, step: decision.kind }, 'worker changed in the meantime');
          return { requeueAfterMs: CACHE_REQUEUE_MS };
        }
        throw error;
      }
    }
    return {};
  }

  #await(key: string): void {
    if (!this.#awaiting.has(key)) {
      this.#options.logger.info({ worker: key }, 'deletion waits for the node that the worker left');
      this.#awaiting.set(key, this.#options.clock.monotonic());
    }
  }

  /** Milliseconds since the deletion was first seen to wait. The wall clocks of two machines may be far apart. */
  #deletingMs(key: string): number {
    const now = this.#options.clock.monotonic();
    return now - (this.#awaiting.get(key) ?? now);
  }

  #standing(worker: LambdaWorker): WorkerStanding {
    const nodeName = worker.status?.assignment?.nodeName;
    return nodeName === undefined ? { liveness: 'fresh' } : this.#options.snapshot.standing(worker, nodeName);
  }

  /** Milliseconds until a write that changes only a text is due. */
  #pauseBeforeRewording(worker: LambdaWorker, decision: WorkerDecision): number {
    const isRewording = decision.kind === 'write' && onlyRewords(worker, decision.status);
    return isRewording ? this.#rewordings.pauseMs(worker.metadata.uid ?? '') : 0;
  }

  /** The time of the next round without an event. */
  #again(worker: LambdaWorker, { changesAfterMs }: WorkerStanding, shares?: ShareStanding): ReconcileResult {
    if (shares?.isSilent === true && shares.inForce > 0) {
      return { requeueAfterMs: SHARE_REQUEUE_MS };
    }
    if (this.#inTurn.has(worker.metadata.uid ?? '')) {
      return { requeueAfterMs: TURN_REQUEUE_MS };
    }
    if (!this.#mayLeaveFullNode(worker)) {
      return { requeueAfterMs: Math.min(FULL_MOVE_INTERVAL_MS, changesAfterMs ?? FULL_MOVE_INTERVAL_MS) };
    }
    return changesAfterMs === undefined ? {} : { requeueAfterMs: changesAfterMs };
  }

  #decide(key: string, worker: LambdaWorker, standing: WorkerStanding, shares?: ShareStanding): WorkerDecision {
    const uid = worker.metadata.uid ?? '';
    const { assignment } = worker.status ?? {};
    const { deletionTimestamp } = worker.metadata;
    const { left } = this.#options;
    if (!isSilent(standing.liveness) && standing.goneBecause === undefined) {
      this.#lossTold.delete(uid);
    }
    if (standing.leave === undefined) {
      this.#turns.forget(uid);
    }
    this.#inTurn.delete(uid);
    const decision = decide({
      worker,
      standing,
      left: deletionTimestamp === undefined ? [] : left.of(worker),
      deletingMs: deletionTimestamp === undefined ? 0 : this.#deletingMs(key),
      place: (exclude, unfitArchitectures) => this.#placer.place(key, worker, exclude, unfitArchitectures),
      grant: () => this.#placer.grant(key, worker),
      isLossTold: assignment !== undefined && this.#lossTold.get(uid) === assignment.nodeName,
      mayLeaveFullNode: this.#mayLeaveFullNode(worker),
      mayLeave: () => {
        const may = this.#turns.mayLeave(worker);
        if (!may) {
          this.#inTurn.add(uid);
        }
        return may;
      },
    });
    return shares === undefined ? decision : withShare(decision, worker, shares);
  }

  #mayLeaveFullNode(worker: LambdaWorker): boolean {
    const leftAt = this.#leftFullAt.get(worker.metadata.uid ?? '');
    return leftAt === undefined || this.#options.clock.monotonic() - leftAt >= FULL_MOVE_INTERVAL_MS;
  }

  /** Returns the worker after the step, for another step. */
  async #act(
    worker: LambdaWorker,
    decision: Exclude<WorkerDecision, { readonly kind: 'wait' }>,
    options: CallOptions,
  ): Promise<LambdaWorker | 'done'> {
    const { client } = this.#options;
    const finalizers = worker.metadata.finalizers ?? [];
    switch (decision.kind) {
      case 'nothing':
        return 'done';
      case 'addFinalizer':
        return await client.patch(
          lambdaWorkers,
          objectKey(worker),
          finalizerPatch(worker, [...finalizers, WORKER_FINALIZER]),
          options,
        );
      case 'removeFinalizer':
        await this.#release(worker, decision, options);
        return 'done';
      case 'write':
        await this.#write(worker, decision, options);
        return 'done';
      default:
        return unreachable(decision);
    }
  }

  async #release(worker: LambdaWorker, decision: Step<'removeFinalizer'>, options: CallOptions): Promise<void> {
    const { client, snapshot, events, metrics, logger } = this.#options;
    const nodeName = worker.status?.assignment?.nodeName;
    if (decision.isNodeGone && nodeName !== undefined && !(await snapshot.isGone(nodeName, options))) {
      return;
    }
    const { generation = 0, uid = '' } = worker.metadata;
    // Before the write: the news that the worker is gone may come before its answer.
    const isChangeLost = generation > (this.#deletedAs.get(uid) ?? generation);
    const rest = (worker.metadata.finalizers ?? []).filter((finalizer) => finalizer !== WORKER_FINALIZER);
    await client.patch(lambdaWorkers, objectKey(worker), finalizerPatch(worker, rest), options);
    if (worker.metadata.deletionTimestamp === undefined) {
      return;
    }
    metrics.released();
    logger.info({ worker: keyText(objectKey(worker)), because: decision.because }, 'worker let go');
    if (isChangeLost) {
      events.record({
        regarding: referenceTo(lambdaWorkers, worker),
        type: 'Warning',
        reason: 'ChangeLost',
        action: 'Delete',
        note: 'the spec was changed while the worker was being deleted, and the change is gone with it: apply it again',
      });
    }
    if (decision.isNodeGone) {
      events.record({
        regarding: referenceTo(lambdaWorkers, worker),
        type: 'Warning',
        reason: 'CleanupSkipped',
        action: 'Delete',
        note: `nothing was cleaned up on ${nodeName}: ${decision.because}`,
      });
    }
  }

  async #write(worker: LambdaWorker, decision: Step<'write'>, options: CallOptions): Promise<void> {
    const { client, snapshot, assignments, clock, events, metrics, logger, shares } = this.#options;
    const call = { ...options, subresource: 'status' } as const;
    const uid = worker.metadata.uid ?? '';
    const { assignment } = decision.status;
    const before = worker.status?.assignment;
    const isMove = assignment !== undefined && assignment.epoch !== before?.epoch;
    const isNew = isMove || (assignment !== undefined && !isSameGrant(assignment.granted, before?.granted));
    if (isNew) {
      // Before the first await, so that the next placement, grant and share count the assignment.
      assignments.assume(worker, assignment);
    }
    if (isMove && assignment.nodeName !== before?.nodeName) {
      this.#turns.noteMoved(worker);
    }
    let written: LambdaWorker;
    try {
      if (decision.goneNode !== undefined && !(await snapshot.isGone(decision.goneNode, options))) {
        if (isNew) {
          this.#retract(worker);
        }
        return;
      }
      const patch = statusPatch(worker, decision.status, clock.now());
      written = await client.patch(lambdaWorkers, objectKey(worker), patch, call);
    } catch (error) {
      // One that may have come through counts until the next round has read what became of it.
      if (isNew && !mayBeWritten(error)) {
        this.#retract(worker);
      } else if (isMove) {
        shares.doubt(worker, assignment);
      }
      throw error;
    }
    this.#remember(uid, worker, decision);
    metrics.written(decision.cause);
    // Events and metrics report the usual course: thousands of log lines would cost more than the decisions.
    logger[decision.cause === 'assigned' || decision.cause === 'shared' ? 'debug' : 'info'](
      { worker: keyText(objectKey(worker)), cause: decision.cause, assignment, note: decision.note },
      'worker status written',
    );
    const kind = eventKinds[decision.cause];
    if (kind !== undefined) {
      events.record({ regarding: referenceTo(lambdaWorkers, worker), ...kind, note: decision.note });
    }
    if (decision.cause === 'unassigned') {
      await client.patch(lambdaWorkers, objectKey(worker), clearancePatch(written), call);
    }
  }

  /** Takes back what was assumed for a worker, of which the cache may have heard since. */
  #retract(worker: LambdaWorker): void {
    const { assignments, onRoom, quotas, workers } = this.#options;
    const { namespace = '', uid = '' } = worker.metadata;
    const present = workers.get(objectKey(worker));
    if (present?.metadata.uid === uid) {
      assignments.retract(present);
    } else {
      assignments.forget(uid);
    }
    // Others may have been refused the room that was taken for it. No change of any object tells that it is free.
    quotas.note(namespace);
    onRoom();
  }

  #remember(uid: string, worker: LambdaWorker, decision: Step<'write'>): void {
    if (decision.cause === 'lost' && decision.status.assignment !== undefined) {
      this.#lossTold.set(uid, decision.status.assignment.nodeName);
    }
    if (decision.cause === 'moved' && isRefusedByFullNode(worker)) {
      this.#leftFullAt.set(uid, this.#options.clock.monotonic());
    }
  }
}
