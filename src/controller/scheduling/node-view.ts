import { isTrue, nodeConditions } from '../../api/condition.ts';
import { isCordoned, isRetired, type LambdaNode, type NodeAmounts } from '../../api/lambda-node.ts';
import { quantityToMiB } from '../../api/quantity.ts';
import type { Node } from '../../kube/api/resource-types.ts';
import type { Liveness } from './liveness.ts';
import type { Closure } from './place.ts';
import { OUT_OF_SERVICE_TAINT, type Taint, UNSCHEDULABLE_TAINT } from './taint.ts';

const none = { memoryMiB: 0, workers: 0 } as const;

/** Taints by which autoscalers say that a node is about to go; its drain is theirs. */
const departureTaints: readonly string[] = ['ToBeDeletedByClusterAutoscaler', 'karpenter.sh/disrupted'];

/**
 * Whether there was a Node and is none any more. An agent tells of the cordon only while there is a Node to mirror; one that
 * lives will soon tell that there is none.
 */
export function isNodeDeleted(lambdaNode: LambdaNode, node: Node | undefined, isFresh: boolean): boolean {
  return node === undefined && lambdaNode.status?.unschedulable !== undefined && !isFresh;
}

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
  if (isNodeDeleted(lambdaNode, node, isFresh)) {
    return 'its Node was deleted';
  }
  // A node whose agent is heard of can still clean up; the taint alone says that somebody was sure of the opposite.
  if (!isFresh && node?.spec?.taints?.some((taint) => taint.key === OUT_OF_SERVICE_TAINT) === true) {
    return `its Node carries the taint ${OUT_OF_SERVICE_TAINT}`;
  }
  return undefined;
}

/** Whether the Node itself says that nothing new is to come; its agent tells of it a little later. */
export function isNodeCordoned(node: Node | undefined): boolean {
  return (
    node?.spec?.unschedulable === true ||
    node?.spec?.taints?.some(({ key }) => key === UNSCHEDULABLE_TAINT || departureTaints.includes(key)) ===
      true
  );
}

/** What of a LambdaNode decides about placement; equal for two versions between which nothing of it changed. */
export function placementFingerprint(node: LambdaNode): string {
  return JSON.stringify([
    isTrue(node.status?.conditions, nodeConditions.ready),
    isCordoned(node),
    isRetired(node),
    node.metadata.labels ?? {},
    node.status?.capacity ?? none,
  ]);
}

/** What of a Node decides about workers. */
export function nodeFingerprint(node: Node): string {
  return JSON.stringify([
    node.spec?.unschedulable === true,
    node.spec?.taints ?? [],
    node.metadata.labels ?? {},
    node.status?.capacity?.memory,
  ]);
}

/**
 * Labels by which a node is chosen: those of its Node, which its agent cannot write. Only where there is no Node, as in a
 * local instance, the agent's own word counts.
 */
function labelsOf({ lambdaNode, node }: NodeFacts): Readonly<Record<string, string>> {
  return (node ?? lambdaNode)?.metadata.labels ?? {};
}

/** What the agent says may be promised, and no more than its Node has at all. */
function capacityOf({ lambdaNode, node }: NodeFacts): NodeAmounts {
  const { memoryMiB, workers } = lambdaNode?.status?.capacity ?? none;
  const most = quantityToMiB(node?.status?.capacity?.memory, Number.POSITIVE_INFINITY);
  return { memoryMiB: Math.min(memoryMiB, most), workers };
}

/** What a node is to every worker. */
export interface NodeView {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly liveness: Liveness;
  readonly goneBecause: string | undefined;
  /** Says itself that it can run workers, and is neither lost nor gone. */
  readonly ready: boolean;
  readonly closed: Closure | undefined;
  /** Those that workers may tolerate or not. */
  readonly taints: readonly Taint[];
  readonly capacity: NodeAmounts;
  /** Promised, by its own word. */
  readonly said: NodeAmounts;
  readonly images: ReadonlySet<string>;
}

/** What a view is made of. */
export interface NodeFacts {
  readonly lambdaNode: LambdaNode | undefined;
  readonly node: Node | undefined;
  readonly liveness: Liveness;
  /** What its hold Pod says. */
  readonly closure: Closure | undefined;
}

function closedBy({ lambdaNode, node, closure }: NodeFacts): Closure | undefined {
  if (lambdaNode !== undefined && isRetired(lambdaNode)) {
    return 'retired';
  }
  if (closure === 'draining') {
    return closure;
  }
  return (lambdaNode !== undefined && isCordoned(lambdaNode)) || isNodeCordoned(node) ? 'cordoned' : closure;
}

export function nodeView(name: string, facts: NodeFacts): NodeView {
  const { lambdaNode, node, liveness } = facts;
  const because = goneBecause(lambdaNode, node, liveness === 'fresh');
  return {
    name,
    labels: labelsOf(facts),
    liveness,
    goneBecause: because,
    ready:
      isTrue(lambdaNode?.status?.conditions, nodeConditions.ready) &&
      liveness !== 'lost' &&
      because === undefined &&
      lambdaNode?.metadata.deletionTimestamp === undefined,
    closed: closedBy(facts),
    taints: (node?.spec?.taints ?? []).filter(({ key }) => key !== UNSCHEDULABLE_TAINT),
    capacity: capacityOf(facts),
    said: lambdaNode?.status?.allocated ?? none,
    images: new Set(lambdaNode?.status?.images),
  };
}

/** What is known of the node that a worker is assigned to. */
export interface NodeStanding {
  readonly liveness: Liveness;
  /** Why the node will never come back, as a clause ("its LambdaNode was deleted"); absent while it may. */
  readonly goneBecause?: string;
  /** Why the worker is to live elsewhere although its node is well; absent while it may stay. */
  readonly leave?: Leave;
}

/** Why a worker is to leave a node that is well. */
export type Leave =
  /** ESB leaves the node: a worker that fits nowhere else is taken away. */
  | { readonly kind: 'retired' }
  /** The Node has a taint of effect NoExecute that the worker does not tolerate; the same holds. */
  | { readonly kind: 'tainted'; readonly taint: string }
  /** The node is being drained: a worker that fits nowhere else stays until it does. */
  | { readonly kind: 'draining' };
