import type { LambdaNode } from '../../api/lambda-node.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import type { CacheEvent, ObjectCache } from '../../kube/api/types.ts';
import type { NodeSnapshot } from '../scheduling/node-snapshot.ts';
import type { LeftNode } from './decision.ts';
import { NODE_WORD_MS } from './deletion.ts';

/** Index of the LambdaNodes' cache: by the uids of workers that leave them. */
export const LEAVING_INDEX = 'leaving';

export function leavingIndex(node: LambdaNode): readonly string[] {
  return node.status?.leaving ?? [];
}

export interface LeftNodesOptions {
  /** {@link LEAVING_INDEX} is among its indexes. */
  readonly lambdaNodes: ObjectCache<LambdaNode>;
  readonly snapshot: Pick<NodeSnapshot, 'standing'>;
  readonly clock: Clock;
}

/** Remembers which workers left which nodes a short time ago. */
export class LeftNodes {
  readonly #options: LeftNodesOptions;
  /** By uid and node, monotonic milliseconds. */
  readonly #leftAt = new Map<string, Map<string, number>>();
  /** Monotonic milliseconds since when moves are remembered. */
  readonly #beganAt: number;

  constructor(options: LeftNodesOptions) {
    this.#options = options;
    this.#beganAt = options.clock.monotonic();
  }

  /** Notes a move. Call it at every change of a worker. */
  noteWorker(change: CacheEvent<LambdaWorker>): void {
    const uid = change.object.metadata.uid ?? '';
    if (change.kind === 'deleted') {
      this.#leftAt.delete(uid);
      return;
    }
    const before = change.kind === 'updated' ? change.old.status?.assignment?.nodeName : undefined;
    if (before === undefined || before === change.object.status?.assignment?.nodeName) {
      return;
    }
    const now = this.#options.clock.monotonic();
    const recent = [...(this.#leftAt.get(uid) ?? [])].filter(([, at]) => now - at < NODE_WORD_MS);
    this.#leftAt.set(uid, new Map([...recent, [before, now]]));
  }

  /**
   * Notes the workers that a LambdaNode no longer lists: that node has had its word. Call it at every change of a
   * LambdaNode.
   *
   * @returns whether workers that leave a node may be concerned
   */
  noteNode(change: CacheEvent<LambdaNode>): boolean {
    const before = change.kind === 'updated' ? leavingIndex(change.old) : [];
    const now = change.kind === 'deleted' ? [] : leavingIndex(change.object);
    const gone = before.filter((uid) => !now.includes(uid));
    for (const uid of gone) {
      this.#leftAt.get(uid)?.delete(change.object.metadata.name);
    }
    return gone.length > 0 || change.kind === 'deleted';
  }

  /** Nodes other than the present one that may have a container of the worker. */
  of(worker: LambdaWorker): readonly LeftNode[] {
    const { clock, snapshot, lambdaNodes } = this.#options;
    const { metadata, status } = worker;
    const uid = metadata.uid ?? '';
    const now = clock.monotonic();
    const leftAt = this.#leftAt.get(uid);
    const hasMoved = status?.lastEpoch !== undefined || (status?.assignment?.epoch ?? 0) > 1;
    const mayHaveMissed = hasMoved && now - this.#beganAt < NODE_WORD_MS;
    const listing = mayHaveMissed ? lambdaNodes.list() : lambdaNodes.byIndex(LEAVING_INDEX, uid);
    const names = new Set([...listing.map((node) => node.metadata.name), ...(leftAt?.keys() ?? [])]);
    names.delete(status?.assignment?.nodeName ?? '');
    return [...names].map((name) => {
      const { goneBecause, liveness } = snapshot.standing(worker, name);
      return {
        liveness,
        goneBecause,
        lists: lambdaNodes.get({ name })?.status?.leaving?.includes(uid) === true,
        leftMs: now - (leftAt?.get(name) ?? this.#beganAt),
      };
    });
  }
}
