import { createHash } from 'node:crypto';
import type { AnyToleration } from '../scheduling/taint.ts';
import type { HoldState } from './hold-pod.ts';

/** A worker that no node has room for. */
export interface Homeless {
  readonly memoryMiB: number;
  /** Thousandths of a core. */
  readonly milliCPU: number;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: readonly AnyToleration[];
}

/** Amounts of a piece of demand. */
export type PieceSize = Pick<Homeless, 'memoryMiB' | 'milliCPU'>;

/** A part of what homeless workers need, which one node has to have as a whole. */
export interface DemandPiece extends Homeless {
  /** Of the workers that ask for the same nodes. */
  readonly group: string;
  readonly index: number;
}

/** A demand Pod as it is. */
export interface DemandView {
  readonly name: string;
  readonly group: string;
  readonly index: number;
  readonly state: HoldState;
  /** The node that the scheduler has found. */
  readonly nodeName: string | undefined;
  /** Milliseconds since its node was found, or since it ended. */
  readonly sinceMs: number;
}

/** How far the node of a demand Pod is: without an agent that is ready, or ready for workers. */
export type NodeProgress = 'coming' | 'ready';

export interface DemandInput {
  readonly pieces: readonly DemandPiece[];
  readonly pods: readonly DemandView[];
  readonly progressOf: (node: string) => NodeProgress;
  /** Whether demand Pods of a group may be made again: the last ones found a node just now. */
  readonly mayAsk: (group: string) => boolean;
}

export type DemandAction =
  | { readonly kind: 'create'; readonly piece: DemandPiece }
  | { readonly kind: 'remove'; readonly name: string }
  /** The scheduler has found room on a node that workers can be placed on: the Pod makes way for them. */
  | { readonly kind: 'offer'; readonly name: string; readonly group: string; readonly nodeName: string };

/** Pods of one group, and of all: an autoscaler adds nodes step by step. */
const MAX_OF_GROUP = 5;
const MAX_PODS = 20;
/** Milliseconds that a new node gets until its agent is ready. */
export const AGENT_WITHIN_MS = 600_000;

function groupOf({ nodeSelector, tolerations }: Homeless): string {
  const selector = Object.entries(nodeSelector).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify([selector, tolerations]))
    .digest('hex')
    .slice(0, 10);
}

/** Fills pieces of a size, the largest workers first. A larger worker is a piece of its own. */
function piecesOf(sizes: readonly PieceSize[], most: PieceSize): readonly PieceSize[] {
  const pieces: { memoryMiB: number; milliCPU: number }[] = [];
  for (const { memoryMiB, milliCPU } of sizes.toSorted(
    (a, b) => b.memoryMiB - a.memoryMiB || b.milliCPU - a.milliCPU,
  )) {
    const fitting = pieces.find(
      (filled) => filled.memoryMiB + memoryMiB <= most.memoryMiB && filled.milliCPU + milliCPU <= most.milliCPU,
    );
    if (fitting === undefined) {
      pieces.push({ memoryMiB, milliCPU });
    } else {
      fitting.memoryMiB += memoryMiB;
      fitting.milliCPU += milliCPU;
    }
  }
  return pieces;
}

/**
 * The demand of workers without room, in pieces of the size of a node. Each group has its first piece before any
 * has its second, and the order of the workers changes nothing.
 *
 * @param most what a node may promise to workers
 */
export function demandOf(homeless: readonly Homeless[], most: PieceSize): readonly DemandPiece[] {
  return [...Map.groupBy(homeless, groupOf)]
    .flatMap(([group, workers]) => {
      const [{ nodeSelector, tolerations } = { nodeSelector: {}, tolerations: [] }] = workers;
      return piecesOf(workers, most)
        .slice(0, MAX_OF_GROUP)
        .map((size, index) => ({ group, index, ...size, nodeSelector, tolerations }));
    })
    .toSorted((a, b) => a.index - b.index || (a.group < b.group ? -1 : 1));
}

function actionFor(pod: DemandView, input: DemandInput): DemandAction | undefined {
  const isWanted = input.pieces.some(({ group, index }) => group === pod.group && index === pod.index);
  if (pod.state.kind === 'leaving' || pod.state.kind === 'evicted') {
    return undefined;
  }
  if (!isWanted || pod.state.kind === 'ended') {
    return { kind: 'remove', name: pod.name };
  }
  if (pod.nodeName === undefined) {
    return undefined;
  }
  if (input.progressOf(pod.nodeName) === 'ready') {
    return { kind: 'offer', name: pod.name, group: pod.group, nodeName: pod.nodeName };
  }
  return pod.sinceMs >= AGENT_WITHIN_MS ? { kind: 'remove', name: pod.name } : undefined;
}

/** The changes of demand Pods. While the same workers wait for the same nodes there are none. */
export function decideDemand(input: DemandInput): readonly DemandAction[] {
  const { pieces, pods, mayAsk } = input;
  const missing = pieces
    .filter(({ group, index }) => mayAsk(group) && !pods.some((pod) => pod.group === group && pod.index === index))
    .slice(0, Math.max(0, MAX_PODS - pods.length));
  return [
    ...pods.flatMap((pod) => actionFor(pod, input) ?? []),
    ...missing.map((piece): DemandAction => ({ kind: 'create', piece })),
  ];
}
