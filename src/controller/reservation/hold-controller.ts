import type { EventReason } from '../../api/condition.ts';
import { type LambdaNode, lambdaNodes as lambdaNodeType } from '../../api/lambda-node.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import { type Pod, pods as podType } from '../../kube/api/resource-types.ts';
import type { CacheEvent, Informer, KubeClient, ObjectCache } from '../../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerMetrics,
} from '../../kube/controller/reconciler.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import { earlierClosure } from '../nodes/node-state.ts';
import type { AssignmentCache } from '../scheduling/assignment-cache.ts';
import type { NodeClosures, NodeSnapshot } from '../scheduling/node-snapshot.ts';
import { decideHold, type HoldAction, type HoldDecision, UNHELD_AFTER_MS } from './decide.ts';
import { type HoldSettings, holdNodeOf, holdPod, holdPodName, holdView, imagePatch, memoryOf } from './hold-pod.ts';
import { releaseHoldPod, removeHoldPod } from './removal.ts';

/** The input for hold Pods. */
export interface HoldSource {
  readonly settings: HoldSettings;
  /** Hold Pods of the system namespace, synced already. */
  readonly pods: Informer<Pod>;
}

export interface HoldControllerOptions extends HoldSource {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  readonly lambdaNodes: ObjectCache<LambdaNode>;
  readonly snapshot: Pick<NodeSnapshot, 'presence'>;
  readonly assignments: AssignmentCache;
  readonly events: EventSink<EventReason>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ReconcilerMetrics;
  readonly onClosure: (node: string) => void;
}

/** The memory of one node. */
interface Track {
  /** The Pod and its state at the last look, and since when (monotonic milliseconds). */
  seen: string;
  since: number;
  unheldSince: number | undefined;
  /** Whether the node was cordoned at some time while the Pod was in its state. */
  wasCordoned: boolean;
  closure: HoldDecision['closure'];
}

/** Errors of a write to a Pod that is not as the cache shows it. */
const behind = ['AlreadyExists', 'Conflict', 'Invalid', 'NotFound'] as const;
/** Milliseconds after which the cache should have caught up. */
const CATCH_UP_MS = 1_000;

const CONCURRENCY = 4;

/**
 * Keeps one hold Pod for each node that has workers, as {@link decideHold} decides. Looks at a Pod after each change
 * that concerns the Pod.
 */
export class HoldController implements NodeClosures {
  readonly #options: HoldControllerOptions;
  readonly #queue: Reconciler;
  readonly #tracks = new Map<string, Track>();
  /** Nodes that this controller has looked at. */
  readonly #looked = new Set<string>();
  /** Nodes that had workers at the last change of a worker. */
  readonly #loaded = new Set<string>();
  #unsubscribe: (() => void) | undefined;

  constructor(options: HoldControllerOptions) {
    this.#options = options;
    const { clock, logger, metrics } = options;
    const reconcile = (node: string, call: CallOptions): Promise<ReconcileResult> => this.reconcile(node, call);
    this.#queue = createReconciler({ name: 'holds', workers: CONCURRENCY, reconcile, logger, clock, metrics });
  }

  /** Until the first look at a node, the closure that the leader before has found. */
  closureOf(node: string): HoldDecision['closure'] {
    return this.#looked.has(node) ? this.#tracks.get(node)?.closure : this.#earlier(node);
  }

  look(node: string): void {
    this.#queue.add(node);
  }

  /** Looks at the node when its agent has reported other containers. */
  noteNode(change: CacheEvent<LambdaNode>): void {
    const { object } = change;
    const present = ({ status }: LambdaNode) => `${status?.allocated?.workers} ${status?.capacity?.memoryMiB}`;
    if (change.kind !== 'updated' || present(object) !== present(change.old)) {
      this.look(object.metadata.name);
    }
  }

  /**
   * Looks at the nodes of a changed worker where their first worker came or their last one went. Call it after the
   * assignment cache has the change.
   */
  noteWorker(change: CacheEvent<LambdaWorker>): void {
    const nodes = [change.object, ...(change.kind === 'updated' ? [change.old] : [])].map(
      ({ status }) => status?.assignment?.nodeName,
    );
    for (const node of new Set(nodes)) {
      if (node === undefined) {
        continue;
      }
      const isLoaded = this.#options.assignments.load(node).assigned > 0;
      if (isLoaded !== this.#loaded.has(node)) {
        this.#queue.add(node);
      }
      if (isLoaded) {
        this.#loaded.add(node);
      } else {
        this.#loaded.delete(node);
      }
    }
  }

  start(): void {
    this.#unsubscribe = this.#options.pods.subscribe(({ object }) => {
      const node = holdNodeOf(object);
      if (node !== undefined) {
        this.#queue.add(node);
      }
    });
    this.#queue.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#queue.stop();
  }

  /** Errors are those of the API server; the node is then looked at again after a growing wait. */
  async reconcile(nodeName: string, options: CallOptions): Promise<ReconcileResult> {
    const { pods, systemNamespace, lambdaNodes, assignments } = this.#options;
    const pod = pods.cache.get({ namespace: systemNamespace, name: holdPodName(nodeName) });
    const node = lambdaNodes.get({ name: nodeName });
    const { assigned } = assignments.load(nodeName);
    if (pod === undefined && assigned === 0) {
      const wasClosed = this.closureOf(nodeName) !== undefined;
      this.#tracks.delete(nodeName);
      this.#looked.add(nodeName);
      if (wasClosed) {
        this.#options.onClosure(nodeName);
      }
      return {};
    }
    const decision = this.#decide(nodeName, node, pod, assigned);
    try {
      await this.#act(nodeName, node, pod, decision.action, options);
    } catch (error) {
      if (behind.some((code) => hasCode(error, code))) {
        return { requeueAfterMs: CATCH_UP_MS };
      }
      throw error;
    }
    return decision.againAfterMs === undefined ? {} : { requeueAfterMs: decision.againAfterMs };
  }

  #decide(nodeName: string, node: LambdaNode | undefined, pod: Pod | undefined, assigned: number): HoldDecision {
    const { clock, settings, snapshot } = this.#options;
    const now = clock.monotonic();
    const view = pod === undefined ? undefined : holdView(pod);
    const seen = `${pod?.metadata.uid ?? ''} ${view?.state.kind ?? ''}`;
    let track = this.#tracks.get(nodeName);
    if (track === undefined) {
      const closure = this.closureOf(nodeName);
      const unheldSince = closure === 'unheld' ? now - UNHELD_AFTER_MS : undefined;
      track = { seen, since: now, unheldSince, wasCordoned: false, closure };
      this.#tracks.set(nodeName, track);
      this.#looked.add(nodeName);
    }
    if (track.seen !== seen) {
      track.seen = seen;
      track.since = now;
      track.wasCordoned = false;
    }
    if (view?.state.kind === 'held') {
      track.unheldSince = undefined;
    } else if (view !== undefined && 'refusal' in view.state) {
      track.unheldSince ??= now;
    }
    const presence = snapshot.presence(nodeName);
    track.wasCordoned ||= presence.cordoned;
    const decision = decideHold({
      ...presence,
      uncordoned: track.wasCordoned && !presence.cordoned,
      assigned,
      present: node?.status?.allocated?.workers ?? 0,
      wanted: { image: settings.image, memoryMiB: node === undefined ? 0 : memoryOf(node) },
      pod: view,
      sinceMs: now - track.since,
      unheldForMs: track.unheldSince === undefined ? undefined : now - track.unheldSince,
    });
    const last = track.closure;
    track.closure = decision.closure;
    if (last !== decision.closure) {
      this.#tell(nodeName, node, last, decision);
      this.#options.onClosure(nodeName);
    }
    return decision;
  }

  #tell(
    nodeName: string,
    node: LambdaNode | undefined,
    last: HoldDecision['closure'],
    { closure, refusal, action }: HoldDecision,
  ): void {
    const { events, logger } = this.#options;
    logger.info({ node: nodeName, closure, last, refusal }, 'node closed or opened to workers');
    if (node === undefined) {
      return;
    }
    const regarding = referenceTo(lambdaNodeType, node);
    if (closure === 'draining') {
      events.record({
        regarding,
        type: 'Normal',
        reason: 'Draining',
        action: 'Drain',
        note: 'its hold Pod was evicted: its workers move to other nodes as far as those have room',
      });
    } else if (closure === 'unheld') {
      events.record({
        regarding,
        type: 'Warning',
        reason: 'HoldRefused',
        action: 'Hold',
        note: `the node gets no more workers, since its hold Pod finds no room: ${refusal ?? 'refused before'}`,
      });
    } else if (last === 'draining' && action.kind === 'release') {
      const isDrained = action.because === 'drained';
      events.record({
        regarding,
        type: isDrained ? 'Normal' : 'Warning',
        reason: isDrained ? 'Drained' : 'DrainCalledOff',
        action: 'Drain',
        note: isDrained
          ? 'the node has no workers any more'
          : 'the node is not cordoned, and its workers stay, since they fit nowhere else',
      });
    }
  }

  #earlier(nodeName: string): HoldDecision['closure'] {
    const node = this.#options.lambdaNodes.get({ name: nodeName });
    return node === undefined ? undefined : earlierClosure(node);
  }

  async #act(
    nodeName: string,
    node: LambdaNode | undefined,
    pod: Pod | undefined,
    action: HoldAction,
    options: CallOptions,
  ): Promise<void> {
    const { client, systemNamespace, settings, logger } = this.#options;
    switch (action.kind) {
      case 'nothing':
        return;
      case 'create':
        if (node !== undefined) {
          await client.create(podType, holdPod(settings, node, systemNamespace), options);
          logger.info({ node: nodeName, memoryMiB: memoryOf(node) }, 'hold Pod made');
        }
        return;
      case 'renewImage':
        if (pod !== undefined) {
          await client.patch(podType, objectKey(pod), { kind: 'json', body: imagePatch(pod, settings.image) }, options);
          logger.info({ node: nodeName, image: settings.image }, 'hold Pod got another image');
        }
        return;
      case 'release':
        if (pod !== undefined) {
          await releaseHoldPod(client, pod, options);
        }
        logger.info({ node: nodeName, because: action.because }, 'hold Pod let go');
        return;
      case 'remove':
        if (pod !== undefined) {
          await removeHoldPod(client, pod, options);
        }
        logger.info({ node: nodeName, because: action.because }, 'hold Pod removed');
        return;
      default:
        return unreachable(action);
    }
  }
}
