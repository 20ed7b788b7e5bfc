import type { LambdaNode } from '../../api/lambda-node.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Pod } from '../../kube/api/resource-types.ts';
import type { CacheEvent, Informer } from '../../kube/api/types.ts';
import { createReconciler, type Reconciler, type ReconcilerMetrics } from '../../kube/controller/reconciler.ts';
import type { NodeClosures } from '../scheduling/node-snapshot.ts';
import { type HoldSettings, holdNodeOf } from './hold-pod.ts';
import { HoldReconciler, type HoldReconcilerOptions } from './reconciler.ts';

/** The input for hold Pods. */
export interface HoldSource {
  readonly settings: HoldSettings;
  /** Hold Pods of the system namespace, synced already. */
  readonly pods: Informer<Pod>;
}

export interface HoldControllerOptions extends Omit<HoldReconcilerOptions, 'pods' | 'settings'> {
  readonly source: HoldSource;
  readonly metrics: ReconcilerMetrics;
}

/** Nodes at a time. */
const CONCURRENCY = 4;

/** Looks at a node's hold Pod after each change that concerns the Pod. */
export class HoldController implements NodeClosures {
  readonly #options: HoldControllerOptions;
  readonly #reconciler: HoldReconciler;
  readonly #queue: Reconciler;
  /** Nodes that had workers at the last change of a worker. */
  readonly #loaded = new Set<string>();
  #unsubscribe: (() => void) | undefined;

  constructor(options: HoldControllerOptions) {
    this.#options = options;
    const { source, logger, clock, metrics } = options;
    this.#reconciler = new HoldReconciler({ ...options, pods: source.pods.cache, settings: source.settings });
    this.#queue = createReconciler({
      name: 'holds',
      workers: CONCURRENCY,
      reconcile: (node, context) => this.#reconciler.reconcile(node, { signal: context.signal }),
      logger,
      clock,
      metrics,
    });
  }

  closureOf(node: string): ReturnType<NodeClosures['closureOf']> {
    return this.#reconciler.closureOf(node);
  }

  /** Looks at a node that has changed. */
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
    this.#unsubscribe = this.#options.source.pods.subscribe(({ object }) => {
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
}
