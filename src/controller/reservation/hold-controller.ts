import type { EventReason } from '../../api/condition.ts';
import { type LambdaNode, lambdaNodes as lambdaNodeType } from '../../api/lambda-node.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { ApiError } from '../../kube/api/api-error.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import type { Pod } from '../../kube/api/resource-types.ts';
import type { CacheEvent, Informer, KubeClient, ObjectCache, ObjectKey } from '../../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerMetrics,
  watchOf,
} from '../../kube/controller/reconciler.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import { earlierClosure } from '../nodes/node-state.ts';
import type { AssignmentCache } from '../scheduling/assignment-cache.ts';
import type { NodeClosures, NodeSnapshot } from '../scheduling/node-snapshot.ts';
import type { GuardAction } from './decide-guard.ts';
import { allocatedMilliCPU, type ReserveAction, requestedMiB } from './decide-reserve.ts';
import { holdFingerprint, nodeWord } from './hold-changes.ts';
import { guardGraceSeconds, guardPod, guardPodName, type HoldSettings, reservePod } from './hold-pod.ts';
import { holdNodeOf, reserveView } from './hold-view.ts';
import { HoldWriter } from './hold-writer.ts';
import { LastWords } from './last-words.ts';
import { type Closing, type NodeTrack, newTrack, UNHELD_AFTER_MS } from './node-track.ts';
import { type NodeLook, type NodePlan, planNode } from './plan-node.ts';
import { restingOf, stepMiB, wantedMiB, wantedMilliCPU } from './sizing.ts';
import { podTolerations } from './tolerations.ts';

/** The input for hold Pods. */
export interface HoldSource {
  readonly settings: HoldSettings;
  /** Hold Pods of the system namespace, synced already; {@link HOLD_INDEX} is among its indexes. */
  readonly pods: Informer<Pod>;
}

/** Index of hold Pods: by their node. */
export const HOLD_INDEX = 'node';

export function holdIndex(pod: Pod): readonly string[] {
  const node = holdNodeOf(pod);
  return node === undefined ? [] : [node];
}

export interface HoldControllerOptions extends HoldSource {
  /** Its writes show in the caches at once. */
  readonly client: KubeClient;
  /** Has the caches show what became of a write to an object that had no answer. Errors are those of the API server. */
  readonly settle: (key: ObjectKey, call: CallOptions) => Promise<void>;
  readonly systemNamespace: string;
  readonly lambdaNodes: ObjectCache<LambdaNode>;
  /** The workers of a node. */
  readonly workersOf: (node: string) => readonly LambdaWorker[];
  readonly snapshot: Pick<NodeSnapshot, 'capacity' | 'isTmpOnDisk' | 'presence'>;
  readonly assignments: AssignmentCache;
  readonly events: EventSink<EventReason>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ReconcilerMetrics;
  readonly onClosure: (node: string) => void;
}

/** Errors of a write to a Pod that is not as the cache shows it. */
const behind = ['AlreadyExists', 'Conflict', 'NotFound'] as const;

/** Milliseconds after which the cache should show what another party has written. */
const CATCH_UP_MS = 1_000;
/** Milliseconds that an agent gets to start the workers that it has room for now, and to tell. */
const START_MS = 10_000;

const CONCURRENCY = 4;

/**
 * Keeps a guard and a reservation for each node that has workers, as {@link planNode} says.
 * Looks at a node after each change that concerns its Pods.
 */
export class HoldController implements NodeClosures {
  readonly #options: HoldControllerOptions;
  readonly #queue: Reconciler;
  readonly #writer: HoldWriter;
  readonly #words = new LastWords();
  readonly #tracks = new Map<string, NodeTrack>();
  /** Nodes that this controller has looked at. */
  readonly #looked = new Set<string>();

  constructor(options: HoldControllerOptions) {
    this.#options = options;
    this.#writer = new HoldWriter(options);
    const { clock, logger, metrics, pods } = options;
    const reconcile = (node: string, call: CallOptions): Promise<ReconcileResult> => this.reconcile(node, call);
    const watches = [watchOf(pods, ({ object }) => holdIndex(object))];
    this.#queue = createReconciler({ name: 'holds', workers: CONCURRENCY, watches, reconcile, logger, clock, metrics });
  }

  /** Until the first look at a node, the closure that the leader before has found. */
  closureOf(node: string): ReturnType<NodeClosures['closureOf']> {
    return this.#looked.has(node) ? this.#tracks.get(node)?.closing?.closure : this.#earlier(node);
  }

  /** Why the node is closed, where this controller has found that. */
  becauseOf(node: string): string | undefined {
    return this.#tracks.get(node)?.closing?.because;
  }

  /** A worker that waits for room is seen here before the node is looked at for it. */
  isGrowing(nodeName: string): boolean {
    const track = this.#tracks.get(nodeName);
    if (track?.growsUntil !== undefined || track?.closing !== undefined) {
      return track.closing === undefined;
    }
    const { node, wantedMiB: wanted } = this.#look(nodeName);
    return (node?.status?.reserved?.memoryMiB ?? wanted) < wanted;
  }

  look(node: string): void {
    this.#queue.add(node);
  }

  /** Opens a node that the scheduler has found room on, for as long as a reservation may be refused again. */
  reopen(node: string): void {
    const track = this.#tracks.get(node);
    if (track?.closing?.closure === 'unheld') {
      track.unheldSince = undefined;
      track.closing = undefined;
      this.#options.onClosure(node);
      this.#queue.add(node);
    }
  }

  /** Looks at the node when its agent has reported other containers. */
  noteNode(change: CacheEvent<LambdaNode>): void {
    const { object } = change;
    if (change.kind !== 'updated' || nodeWord(object) !== nodeWord(change.old)) {
      this.look(object.metadata.name);
    }
  }

  /**
   * Looks at the nodes that a worker came to or left, or where it takes more or less than before. Call it after the
   * assignment cache has the change.
   */
  noteWorker(change: CacheEvent<LambdaWorker>): void {
    if (change.kind === 'updated' && holdFingerprint(change.object) === holdFingerprint(change.old)) {
      return;
    }
    const { clock, lambdaNodes } = this.#options;
    const left = change.kind === 'updated' ? change.old.status?.assignment?.nodeName : undefined;
    if (left !== undefined && left !== change.object.status?.assignment?.nodeName) {
      this.#words.note(left, lambdaNodes.get({ name: left }), clock.monotonic());
    }
    for (const { status } of [change.object, ...(change.kind === 'updated' ? [change.old] : [])]) {
      if (status?.assignment !== undefined) {
        this.#queue.add(status.assignment.nodeName);
      }
    }
  }

  start(): void {
    this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.stop();
  }

  /** Errors are those of the API server; the node is then looked at again after a growing wait. */
  async reconcile(nodeName: string, options: CallOptions): Promise<ReconcileResult> {
    const { pods, settle } = this.#options;
    for (const pod of pods.cache.byIndex(HOLD_INDEX, nodeName)) {
      await settle(objectKey(pod), options);
    }
    const look = this.#look(nodeName);
    if (look.guard === undefined && look.reserves.length === 0 && look.assigned === 0) {
      const wasClosed = this.closureOf(nodeName) !== undefined;
      this.#tracks.delete(nodeName);
      this.#looked.add(nodeName);
      if (wasClosed) {
        this.#options.onClosure(nodeName);
      }
      await this.#promise(look, 0, options);
      return {};
    }
    const { guard, reserve, waitsMs } = this.#plan(look);
    try {
      // Before the reservation becomes smaller. A larger one is promised once the kubelet has allocated it.
      await this.#promise(look, reserve.promiseMiB, options);
      // A guard that is refused holds up no reservation.
      const outcomes = [
        await settled(this.#changeGuard(look, guard.action, options)),
        await settled(this.#changeReserve(look, reserve.action, options)),
      ];
      const errors = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
      const refused = errors.find((error) => error instanceof ApiError && isRefusal(error));
      this.#track(nodeName).refusal = refused === undefined ? this.#track(nodeName).refusal : messageOf(refused);
      for (const error of refused === undefined ? errors : [refused]) {
        throw error;
      }
    } catch (error) {
      if (behind.some((code) => hasCode(error, code))) {
        return { requeueAfterMs: CATCH_UP_MS };
      }
      throw error;
    }
    return waitsMs.length === 0 ? {} : { requeueAfterMs: Math.min(...waitsMs) };
  }

  /** Tells the agent what its workers may have. No kubelet allocates anything on a node that is none of Kubernetes. */
  async #promise({ node, presence, reserves }: NodeLook, memoryMiB: number, options: CallOptions): Promise<void> {
    if (node !== undefined) {
      const milliCPU = allocatedMilliCPU(reserves.map(({ view }) => view));
      await this.#writer.promise(node, presence.isOutside ? null : { memoryMiB, milliCPU }, options);
    }
  }

  async #changeGuard(look: NodeLook, action: GuardAction, options: CallOptions): Promise<void> {
    const { settings, systemNamespace } = this.#options;
    const { graceSeconds, guard, node, presence } = look;
    if (action.kind === 'create' && node !== undefined) {
      const tolerations = podTolerations(presence.taints);
      await this.#writer.make(guardPod(settings, node, systemNamespace, graceSeconds, tolerations), options);
    } else if (action.kind !== 'create' && action.kind !== 'nothing' && guard !== undefined) {
      await this.#writer.change(guard, action, options);
    }
  }

  async #changeReserve(look: NodeLook, action: ReserveAction, options: CallOptions): Promise<void> {
    const { settings, systemNamespace } = this.#options;
    const { node, presence, reserves } = look;
    if (action.kind === 'create' && node !== undefined) {
      const tolerations = podTolerations(presence.taints);
      await this.#writer.make(reservePod(settings, node, systemNamespace, action, tolerations, action.index), options);
    } else if (action.kind !== 'create' && action.kind !== 'nothing') {
      const pod = reserves.find(({ view }) => view.name === action.name)?.pod;
      await (pod === undefined ? undefined : this.#writer.change(pod, action, options));
    }
  }

  #look(nodeName: string): NodeLook {
    const { assignments, clock, lambdaNodes, pods, settings, snapshot, workersOf } = this.#options;
    const namespace = this.#options.systemNamespace;
    const node = lambdaNodes.get({ name: nodeName });
    const workers = workersOf(nodeName);
    const tmpOnDisk = snapshot.isTmpOnDisk(nodeName);
    const { assigned, used } = assignments.load(nodeName, tmpOnDisk);
    const allocated = node?.status?.allocated;
    const unsettledMs = assigned > 0 ? 0 : this.#words.unsettledMs(nodeName, node, clock.monotonic());
    const { memoryMiB: capacityMiB, milliCPU } = snapshot.capacity(nodeName);
    const resting = restingOf(workers, tmpOnDisk);
    const heldMiB = allocated?.memoryMiB ?? 0;
    const usedMiB = Math.max(used.memoryMiB, heldMiB);
    const reserves = pods.cache.byIndex(HOLD_INDEX, nodeName).flatMap((pod) => {
      const view = reserveView(pod);
      return view === undefined ? [] : [{ pod, view }];
    });
    return {
      nodeName,
      node,
      presence: snapshot.presence(nodeName),
      guard: pods.cache.get({ namespace, name: guardPodName(nodeName) }),
      reserves,
      assigned,
      present: Math.max(allocated?.workers ?? 0, unsettledMs > 0 ? 1 : 0),
      unsettledMs,
      image: settings.image,
      // Containers that are there keep their memory, also where the node may promise less than before.
      wantedMiB: Math.max(
        wantedMiB({ ...resting, usedMiB, capacityMiB }),
        Math.min(heldMiB, requestedMiB(reserves.map(({ view }) => view))),
      ),
      stepMiB: stepMiB(capacityMiB),
      wantedMilliCPU: wantedMilliCPU(used.milliCPU, resting, milliCPU),
      graceSeconds: guardGraceSeconds(Math.max(0, ...workers.map(({ spec }) => spec.timeoutSeconds))),
    };
  }

  /** Plans what becomes of the Pods of the node, and closes or opens it to workers by that. */
  #plan(look: NodeLook): NodePlan {
    const now = this.#options.clock.monotonic();
    const track = this.#track(look.nodeName);
    const plan = planNode(look, track, now);
    this.#close(look, track, plan.closing, plan.guard.action);
    const growsForMs = this.#grow(look.nodeName, track, plan.isSmaller, now);
    return growsForMs === undefined ? plan : { ...plan, waitsMs: [...plan.waitsMs, growsForMs] };
  }

  #track(nodeName: string): NodeTrack {
    let track = this.#tracks.get(nodeName);
    if (track === undefined) {
      const closure = this.closureOf(nodeName);
      const now = this.#options.clock.monotonic();
      track = newTrack(closure, closure === 'unheld' ? now - UNHELD_AFTER_MS : undefined, now);
      this.#tracks.set(nodeName, track);
      this.#looked.add(nodeName);
    }
    return track;
  }

  /**
   * Workers that wait for room leave once their node has all that it will have, and its agent has had the time to start
   * them.
   *
   * @param isSmaller whether the agent lets workers have less than is wanted
   * @returns milliseconds until then
   */
  #grow(nodeName: string, track: NodeTrack, isSmaller: boolean, now: number): number | undefined {
    const isOver = track.growsUntil !== undefined && (track.closing !== undefined || now >= track.growsUntil);
    if (isSmaller) {
      track.growsUntil = now + START_MS;
    } else if (isOver) {
      track.growsUntil = undefined;
      // A node that was closed was told just now.
      if (track.closing === undefined) {
        this.#options.onClosure(nodeName);
      }
    }
    return isSmaller || track.growsUntil === undefined ? undefined : track.growsUntil - now;
  }

  #earlier(nodeName: string): ReturnType<NodeClosures['closureOf']> {
    const node = this.#options.lambdaNodes.get({ name: nodeName });
    return node === undefined ? undefined : earlierClosure(node);
  }

  /** Closes or opens the node to workers, and tells that. */
  #close({ nodeName, node }: NodeLook, track: NodeTrack, closing: Closing | undefined, action: GuardAction): void {
    const last = track.closing?.closure;
    if (last === closing?.closure) {
      // With the reason of that time: each further refusal has other numbers, and is no news.
      return;
    }
    track.closing = closing;
    const { events, logger, onClosure } = this.#options;
    logger.info({ node: nodeName, closing, last }, 'node closed or opened to workers');
    const regarding = node === undefined ? undefined : referenceTo(lambdaNodeType, node);
    if (regarding !== undefined) {
      if (closing?.closure === 'draining') {
        const note = `${closing.because ?? 'its guard Pod was evicted'}: its workers move to other nodes as far as those have room`;
        events.record({ regarding, type: 'Normal', reason: 'Draining', action: 'Drain', note });
      } else if (closing?.closure === 'unheld') {
        const note = `the node gets no more workers, since its Pods are refused: ${closing.because ?? 'their kubelet has not looked at them'}`;
        events.record({ regarding, type: 'Warning', reason: 'HoldRefused', action: 'Hold', note });
      } else if (last === 'draining' && action.kind === 'release') {
        const isDrained = action.because === 'drained';
        const note = isDrained
          ? 'the node has no workers any more'
          : 'the node is not cordoned, and its workers stay, since they fit nowhere else';
        const [type, reason] = isDrained ? (['Normal', 'Drained'] as const) : (['Warning', 'DrainCalledOff'] as const);
        events.record({ regarding, type, reason, action: 'Drain', note });
      }
    }
    onClosure(nodeName);
  }
}

/** Whether the API server has refused a write that is as it should be, and will again. */
function isRefusal({ code, retryable, status }: ApiError): boolean {
  return status !== undefined && !retryable && !behind.some((one) => one === code);
}

async function settled(write: Promise<void>): Promise<PromiseSettledResult<void>> {
  const [outcome] = await Promise.allSettled([write]);
  return outcome;
}
