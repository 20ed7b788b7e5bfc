import { type LambdaNode, lambdaNodes as lambdaNodeType } from '../../api/lambda-node.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { KubeClient, ObjectCache } from '../../kube/api/types.ts';
import {
  createReconciler,
  type ReconcileResult,
  type Reconciler,
  type ReconcilerMetrics,
} from '../../kube/controller/reconciler.ts';
import type { NodeLiveness } from './liveness.ts';
import { type HoldClosure, nodeStatePatch } from './node-state.ts';

const CONCURRENCY = 4;
/** Milliseconds after which the cache should have caught up with another writer. */
const CATCH_UP_MS = 500;

export interface StateKeeperOptions {
  readonly client: Pick<KubeClient, 'patch'>;
  readonly lambdaNodes: Pick<ObjectCache<LambdaNode>, 'get'>;
  readonly liveness: Pick<NodeLiveness, 'life'>;
  readonly closures: {
    closureOf(node: string): HoldClosure | undefined;
    becauseOf?(node: string): string | undefined;
  };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ReconcilerMetrics;
}

/**
 * Keeps the state of each node in its LambdaNode, for people and for the controller that leads next. Writes nothing
 * about a node that is well.
 */
export class StateKeeper {
  readonly #options: StateKeeperOptions;
  readonly #queue: Reconciler;

  constructor(options: StateKeeperOptions) {
    this.#options = options;
    const { clock, logger, metrics } = options;
    const reconcile = (name: string, call: CallOptions): Promise<ReconcileResult> => this.reconcile(name, call);
    this.#queue = createReconciler({ name: 'node-states', workers: CONCURRENCY, reconcile, logger, clock, metrics });
  }

  /** Looks at a node whose state or LambdaNode may have changed. */
  look(node: string): void {
    this.#queue.add(node);
  }

  start(): void {
    this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.stop();
  }

  /** Errors are those of the API server; the node is then looked at again after a growing wait. */
  async reconcile(name: string, call: CallOptions): Promise<ReconcileResult> {
    const { client, lambdaNodes, liveness, closures, clock } = this.#options;
    const node = lambdaNodes.get({ name });
    if (node === undefined || node.metadata.deletionTimestamp !== undefined) {
      return {};
    }
    const closed = { closure: closures.closureOf(name), because: closures.becauseOf?.(name) };
    const patch = nodeStatePatch(node, { life: liveness.life(name), ...closed }, clock.now());
    if (patch === undefined) {
      return {};
    }
    try {
      await client.patch(lambdaNodeType, { name }, patch, { ...call, subresource: 'status' });
      return {};
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return {};
      }
      if (hasCode(error, 'Conflict')) {
        return { requeueAfterMs: CATCH_UP_MS };
      }
      throw error;
    }
  }
}
