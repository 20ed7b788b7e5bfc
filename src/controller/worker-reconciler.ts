import { type LambdaWorker, lambdaWorkers, WORKER_FINALIZER } from '../api/lambda-worker.ts';
import { resourcesOf } from '../api/worker-resources.ts';
import type { Clock } from '../common/clock.ts';
import type { CallOptions } from '../common/deadline.ts';
import { hasCode, unreachable } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { type EventRecorder, referenceTo } from '../kube/event-recorder.ts';
import { keyText, objectKey, parseKeyText } from '../kube/object-key.ts';
import type { ReconcileResult } from '../kube/reconciler.ts';
import type { KubeClient, ObjectCache } from '../kube/types.ts';
import type { ControllerMetrics } from './controller-metrics.ts';
import { type Ledger, startsAtOnce } from './ledger.ts';
import type { NodeDirectory } from './node-directory.ts';
import { type Placement, place } from './placement.ts';
import { decide, isRefusedByFullNode, type WorkerDecision, type WriteCause } from './worker-decision.ts';
import { finalizerPatch, statusPatch } from './worker-status.ts';

/** Where Events go. */
export type EventSink = Pick<EventRecorder, 'record'>;

export interface WorkerReconcilerOptions {
  /** Fenced: refuses to write once another controller leads. */
  readonly client: KubeClient;
  readonly workers: ObjectCache<LambdaWorker>;
  readonly directory: NodeDirectory;
  readonly ledger: Ledger;
  readonly events: EventSink;
  readonly metrics: ControllerMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The finalizer, the assignment, and one to spare. */
const MAX_STEPS = 3;
/** Least time between two moves of one worker for want of room, lest nodes that count differently pass it to and fro. */
const FULL_MOVE_INTERVAL_MS = 15_000;
/** When the cache should have caught up with what made a write conflict. Its event comes first, as a rule. */
const CONFLICT_REQUEUE_MS = 500;

type EventKind = { readonly type: 'Normal' | 'Warning'; readonly reason: string; readonly action: string };

const eventKinds: Readonly<Record<WriteCause, EventKind | undefined>> = {
  assigned: { type: 'Normal', reason: 'Assigned', action: 'Assign' },
  moved: { type: 'Normal', reason: 'Reassigned', action: 'Assign' },
  refused: { type: 'Warning', reason: 'FailedScheduling', action: 'Assign' },
  lost: { type: 'Warning', reason: 'NodeLost', action: 'Watch' },
  told: undefined,
};

/** Brings one worker at a time to where {@link decide} wants it. */
export class WorkerReconciler {
  readonly #options: WorkerReconcilerOptions;
  /** Workers that a node could not be found for: a change of the nodes may help them. */
  readonly #waiting = new Set<string>();
  /** By uid, the node whose loss was written to the worker. */
  readonly #lossTold = new Map<string, string>();
  /** By uid, the monotonic time of the last move away from a full node. */
  readonly #leftFullAt = new Map<string, number>();

  constructor(options: WorkerReconcilerOptions) {
    this.#options = options;
  }

  /** Keys of workers that wait for a node to become fit. */
  waiting(): readonly string[] {
    return [...this.#waiting];
  }

  /** Drops what is remembered of a worker that no longer exists. */
  forget(key: string, uid: string): void {
    this.#waiting.delete(key);
    this.#lossTold.delete(uid);
    this.#leftFullAt.delete(uid);
  }

  /** Errors are those of the API server; the key is to be tried again after a growing wait. */
  async reconcile(key: string, options: CallOptions): Promise<ReconcileResult> {
    const { workers, ledger, logger } = this.#options;
    let worker = workers.get(parseKeyText(key));
    for (let step = 0; step < MAX_STEPS && worker !== undefined; step++) {
      if (ledger.assumed(worker.metadata.uid ?? '') !== undefined) {
        // Our last assignment has not come back yet; it will be followed by another look.
        return {};
      }
      this.#waiting.delete(key);
      const decision = this.#decide(key, worker);
      try {
        const next: LambdaWorker | 'done' = await this.#act(worker, decision, options);
        if (next === 'done') {
          return this.#mayLeaveFullNode(worker) ? {} : { requeueAfterMs: FULL_MOVE_INTERVAL_MS };
        }
        worker = next;
      } catch (error) {
        if (hasCode(error, 'NotFound')) {
          return {};
        }
        if (hasCode(error, 'Conflict')) {
          logger.debug({ worker: key, step: decision.kind }, 'worker changed in the meantime');
          return { requeueAfterMs: CONFLICT_REQUEUE_MS };
        }
        throw error;
      }
    }
    return {};
  }

  #decide(key: string, worker: LambdaWorker): WorkerDecision {
    const { directory } = this.#options;
    const uid = worker.metadata.uid ?? '';
    const assignment = worker.status?.assignment;
    const standing =
      assignment === undefined ? { liveness: 'fresh' as const } : directory.standing(assignment.nodeName);
    if (standing.liveness !== 'lost' && standing.goneBecause === undefined) {
      this.#lossTold.delete(uid);
    }
    return decide({
      worker,
      standing,
      place: (exclude) => {
        const placement = this.#place(worker, exclude);
        if (placement.kind === 'refused') {
          this.#waiting.add(key);
        }
        return placement;
      },
      isLossTold: assignment !== undefined && this.#lossTold.get(uid) === assignment.nodeName,
      mayLeaveFullNode: this.#mayLeaveFullNode(worker),
    });
  }

  #mayLeaveFullNode(worker: LambdaWorker): boolean {
    const leftAt = this.#leftFullAt.get(worker.metadata.uid ?? '');
    return leftAt === undefined || this.#options.clock.monotonic() - leftAt >= FULL_MOVE_INTERVAL_MS;
  }

  #place(worker: LambdaWorker, exclude: string | undefined): Placement {
    const { nodeName, nodeSelector } = worker.spec;
    const isWoken = isRefusedByFullNode(worker);
    return place(
      {
        memoryMiB: resourcesOf(worker).memoryMiB,
        // One that leaves a full node is to be woken, wherever it rests.
        takesRoom: isWoken || startsAtOnce(worker),
        nodeName,
        nodeSelector,
        exclude,
      },
      this.#options.directory.candidates(worker, isWoken),
    );
  }

  /** Gives the worker as it is after the step when there may be another one. */
  async #act(
    worker: LambdaWorker,
    decision: WorkerDecision,
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

  async #release(
    worker: LambdaWorker,
    decision: WorkerDecision & { readonly kind: 'removeFinalizer' },
    options: CallOptions,
  ): Promise<void> {
    const { client, directory, events, metrics, logger } = this.#options;
    const nodeName = worker.status?.assignment?.nodeName;
    if (decision.isNodeGone && nodeName !== undefined && !(await directory.isGone(nodeName, options))) {
      return;
    }
    const rest = (worker.metadata.finalizers ?? []).filter((finalizer) => finalizer !== WORKER_FINALIZER);
    await client.patch(lambdaWorkers, objectKey(worker), finalizerPatch(worker, rest), options);
    metrics.released();
    logger.info({ worker: keyText(objectKey(worker)), because: decision.because }, 'worker let go');
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

  async #write(
    worker: LambdaWorker,
    decision: WorkerDecision & { readonly kind: 'write' },
    options: CallOptions,
  ): Promise<void> {
    const { client, directory, ledger, clock, events, metrics, logger, workers } = this.#options;
    const uid = worker.metadata.uid ?? '';
    const { assignment } = decision.status;
    const before = worker.status?.assignment;
    const isNew = assignment !== undefined && assignment.epoch !== before?.epoch;
    if (isNew) {
      // Before anything is awaited, so that the next placement counts it.
      ledger.assume(worker, assignment);
    }
    try {
      if (decision.goneNode !== undefined && !(await directory.isGone(decision.goneNode, options))) {
        ledger.retract(worker);
        return;
      }
      await client.patch(
        lambdaWorkers,
        objectKey(worker),
        statusPatch(worker, decision.status, clock.now()),
        { ...options, subresource: 'status' },
      );
    } catch (error) {
      // It may have been written all the same; then the cache will say so.
      if (isNew) {
        ledger.retract(workers.get(objectKey(worker)) ?? worker);
      }
      throw error;
    }
    this.#remember(uid, worker, decision);
    metrics.written(decision.cause);
    logger.info(
      { worker: keyText(objectKey(worker)), cause: decision.cause, assignment, note: decision.note },
      'worker status written',
    );
    const kind = eventKinds[decision.cause];
    if (kind !== undefined) {
      events.record({ regarding: referenceTo(lambdaWorkers, worker), ...kind, note: decision.note });
    }
  }

  #remember(uid: string, worker: LambdaWorker, decision: WorkerDecision & { readonly kind: 'write' }): void {
    if (decision.cause === 'lost' && decision.status.assignment !== undefined) {
      this.#lossTold.set(uid, decision.status.assignment.nodeName);
    }
    if (decision.cause === 'moved' && isRefusedByFullNode(worker)) {
      this.#leftFullAt.set(uid, this.#options.clock.monotonic());
    }
  }
}
