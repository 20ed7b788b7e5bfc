import { isTrue, nodeConditions } from '../api/condition.ts';
import { isCordoned, type LambdaNode, lambdaNodes } from '../api/lambda-node.ts';
import type { LambdaWorker } from '../api/lambda-worker.ts';
import type { CallOptions } from '../common/deadline.ts';
import { nodes as coreNodes, type Node } from '../kube/resource-types.ts';
import type { KubeClient, ObjectCache } from '../kube/types.ts';
import { completeImageName } from './image-name.ts';
import { functionKeyOf, type Ledger } from './ledger.ts';
import type { NodeLiveness } from './liveness.ts';
import type { Candidate } from './placement.ts';
import type { NodeStanding } from './worker-decision.ts';

/** Kubernetes' own word that a node is shut down and will not come back with what it had. */
const OUT_OF_SERVICE_TAINT = 'node.kubernetes.io/out-of-service';

const none = { memoryMiB: 0, workers: 0 } as const;

/**
 * Why a node will never come back with its workers; undefined while it may.
 *
 * @param isFresh whether its agent has been heard of lately
 */
export function goneBecause(
  lambdaNode: LambdaNode | undefined,
  node: Node | undefined,
  isFresh: boolean,
): string | undefined {
  if (lambdaNode === undefined) {
    return 'its LambdaNode was deleted';
  }
  // An agent tells of the cordon only while there is a Node to mirror; one that lives will soon tell that there is none.
  const hadNode = lambdaNode.status?.unschedulable !== undefined;
  if (node === undefined && hadNode && !isFresh) {
    return 'its Node was deleted';
  }
  if (node?.spec?.taints?.some((taint) => taint.key === OUT_OF_SERVICE_TAINT) === true) {
    return `its Node carries the taint ${OUT_OF_SERVICE_TAINT}`;
  }
  return undefined;
}

/** What of a node decides about placement; equal for two versions between which nothing of it changed. */
export function placementFingerprint(node: LambdaNode): string {
  return JSON.stringify([
    isTrue(node.status?.conditions, nodeConditions.ready),
    isCordoned(node),
    node.metadata.labels ?? {},
    node.status?.capacity ?? none,
  ]);
}

export interface NodeDirectoryOptions {
  /** For second looks, past the cache. */
  readonly client: KubeClient;
  readonly lambdaNodes: ObjectCache<LambdaNode>;
  readonly nodes: ObjectCache<Node>;
  readonly liveness: NodeLiveness;
  readonly ledger: Ledger;
}

/** Nodes as decisions about workers need them. */
export class NodeDirectory {
  readonly #options: NodeDirectoryOptions;
  /** By version of the node; the lists are long and looked at for every worker. */
  readonly #images = new WeakMap<LambdaNode, ReadonlySet<string>>();

  constructor(options: NodeDirectoryOptions) {
    this.#options = options;
  }

  standing(name: string): NodeStanding {
    const { liveness } = this.#options;
    const state = liveness.of(name);
    const because = goneBecause(
      this.#options.lambdaNodes.get({ name }),
      this.#options.nodes.get({ name }),
      state === 'fresh',
    );
    return { liveness: state, ...(because === undefined ? {} : { goneBecause: because }) };
  }

  /** Asks the API server itself whether the node is gone for good. */
  async isGone(name: string, options?: CallOptions): Promise<boolean> {
    const { client, liveness } = this.#options;
    const [lambdaNode, node] = await Promise.all([
      client.get(lambdaNodes, { name }, options),
      client.get(coreNodes, { name }, options),
    ]);
    return goneBecause(lambdaNode, node, liveness.of(name) === 'fresh') !== undefined;
  }

  /**
   * All nodes, for the placement of one worker.
   *
   * @param trustNodes also count what nodes themselves say they have promised, when that is more
   */
  candidates(worker: LambdaWorker, trustNodes: boolean): readonly Candidate[] {
    const functionKey = functionKeyOf(worker);
    const image = completeImageName(worker.spec.image);
    return this.#options.lambdaNodes
      .list()
      .map((node) => this.#candidate(node, functionKey, image, trustNodes));
  }

  #candidate(node: LambdaNode, functionKey: string, image: string, trustNodes: boolean): Candidate {
    const { name } = node.metadata;
    const load = this.#options.ledger.load(name);
    const standing = this.standing(name);
    const said = trustNodes ? (node.status?.allocated ?? none) : none;
    return {
      name,
      labels: node.metadata.labels ?? {},
      ready:
        isTrue(node.status?.conditions, nodeConditions.ready) &&
        standing.liveness !== 'lost' &&
        standing.goneBecause === undefined &&
        node.metadata.deletionTimestamp === undefined,
      fresh: standing.liveness === 'fresh',
      cordoned: isCordoned(node),
      capacity: node.status?.capacity ?? none,
      used: {
        memoryMiB: Math.max(load.used.memoryMiB, said.memoryMiB),
        workers: Math.max(load.used.workers, said.workers),
      },
      assigned: load.assigned,
      sameFunction: load.sameFunction(functionKey),
      hasImage: this.#imagesOf(node).has(image),
    };
  }

  #imagesOf(node: LambdaNode): ReadonlySet<string> {
    let images = this.#images.get(node);
    if (images === undefined) {
      images = new Set(node.status?.images);
      this.#images.set(node, images);
    }
    return images;
  }
}
