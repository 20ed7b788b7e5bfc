import { createHash } from 'node:crypto';
import type { Homeless } from '../scheduling/homeless.ts';
import type { DemandPiece } from './hold-pod.ts';
import type { DemandView } from './hold-view.ts';

/** The nodes that a worker may be placed on. */
export type Wish = Pick<Homeless, 'nodeSelector' | 'tolerations' | 'unfitArchitectures'>;

/** Amounts of a piece of demand. */
export type PieceSize = Pick<Homeless, 'memoryMiB' | 'milliCPU' | 'diskMiB'>;

/** A demand Pod as it is, and the milliseconds since its node was found, since it ended, or since it was made. */
export type AgedDemand = DemandView & { readonly sinceMs: number };

/** How far the node of a demand Pod is: without an agent that is ready, or ready for workers. */
export type NodeProgress = 'coming' | 'ready';

export interface DemandInput {
  readonly pieces: readonly DemandPiece[];
  readonly pods: readonly AgedDemand[];
  readonly progressOf: (node: string) => NodeProgress;
  /** Whether demand Pods of a group may be made again: the last ones found a node just now. */
  readonly mayAsk: (group: string) => boolean;
}

export type DemandAction =
  | { readonly kind: 'create'; readonly piece: DemandPiece }
  | { readonly kind: 'remove'; readonly name: string }
  /** The scheduler has found room on a node that workers can be placed on: the Pod makes way for them. */
  | { readonly kind: 'offer'; readonly name: string; readonly group: string; readonly nodeName: string }
  /** No agent has come to the node that was found, or no node was found while others wait for their turn. */
  | { readonly kind: 'giveUp'; readonly name: string; readonly group: string; readonly nodeName: string | undefined };

/** Pods of all groups together. */
const MAX_PODS = 500;
/** Pods of a group that no node of now is for: whether agents come to its nodes, and how large these are, is unknown. */
const MAX_OF_UNKNOWN = 5;
/** Milliseconds that a new node gets until its agent is ready, and a group until others have their turn. */
export const AGENT_WITHIN_MS = 600_000;

function groupOf({ nodeSelector, tolerations, unfitArchitectures }: Wish): string {
  const selector = Object.entries(nodeSelector).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify([selector, tolerations, unfitArchitectures.toSorted()]))
    .digest('hex')
    .slice(0, 10);
}

/**
 * Fills pieces of a size, the largest workers first. A larger worker is a piece of its own, as is each worker where the
 * size is not known.
 */
function piecesOf(sizes: readonly PieceSize[], most: PieceSize | undefined): readonly PieceSize[] {
  const pieces: { memoryMiB: number; milliCPU: number; diskMiB: number }[] = [];
  for (const { memoryMiB, milliCPU, diskMiB } of sizes.toSorted(
    (a, b) => b.memoryMiB - a.memoryMiB || b.milliCPU - a.milliCPU || b.diskMiB - a.diskMiB,
  )) {
    const fitting = pieces.find(
      (filled) =>
        most !== undefined &&
        filled.memoryMiB + memoryMiB <= most.memoryMiB &&
        filled.milliCPU + milliCPU <= most.milliCPU &&
        filled.diskMiB + diskMiB <= most.diskMiB,
    );
    if (fitting !== undefined) {
      fitting.memoryMiB += memoryMiB;
      fitting.milliCPU += milliCPU;
      fitting.diskMiB += diskMiB;
    } else if (pieces.length < (most === undefined ? MAX_OF_UNKNOWN : MAX_PODS)) {
      pieces.push({ memoryMiB, milliCPU, diskMiB });
    }
  }
  return pieces;
}

/**
 * The demand of workers without room, in pieces that a node of their choice has room for. The order of the workers
 * changes nothing.
 *
 * @param mostOf largest piece for workers with that wish; undefined where no node of now is for them
 */
export function demandOf(
  homeless: readonly Homeless[],
  mostOf: (wish: Wish) => PieceSize | undefined,
): readonly DemandPiece[] {
  return [...Map.groupBy(homeless, groupOf)].flatMap(([group, workers]) => {
    const [first] = workers;
    return first === undefined
      ? []
      : piecesOf(workers, mostOf(first)).map((size, index) => ({ ...first, ...size, group, index }));
  });
}

const keyOf = ({ group, index }: Pick<DemandPiece, 'group' | 'index'>): string => `${group} ${index}`;

function actionFor(
  pod: AgedDemand,
  isWanted: boolean,
  isCrowded: boolean,
  input: DemandInput,
): DemandAction | undefined {
  const { group, name, nodeName } = pod;
  if (pod.state.kind === 'leaving' || pod.state.kind === 'evicted') {
    return undefined;
  }
  if (!isWanted || pod.state.kind === 'ended') {
    return { kind: 'remove', name };
  }
  if (nodeName !== undefined && input.progressOf(nodeName) === 'ready') {
    return { kind: 'offer', name, group, nodeName };
  }
  const isOver = pod.sinceMs >= AGENT_WITHIN_MS && (nodeName !== undefined || isCrowded);
  return isOver ? { kind: 'giveUp', name, group, nodeName } : undefined;
}

/**
 * The changes of demand Pods. While the same workers wait for the same nodes there are none. Each group has its first
 * Pod before any has its second; where there are more groups than Pods, these have their turns.
 */
export function decideDemand(input: DemandInput): readonly DemandAction[] {
  const { pieces, pods, mayAsk } = input;
  const present = new Set(pods.map(keyOf));
  const asked = pieces
    .map((piece) => ({ piece, isMissing: !present.has(keyOf(piece)) }))
    .filter(({ piece, isMissing }) => !isMissing || mayAsk(piece.group))
    .toSorted(
      (a, b) =>
        a.piece.index - b.piece.index ||
        Number(a.isMissing) - Number(b.isMissing) ||
        (a.piece.group < b.piece.group ? -1 : 1),
    );
  const wanted = asked.slice(0, MAX_PODS);
  const keys = new Set(wanted.map(({ piece }) => keyOf(piece)));
  const isCrowded = asked.length > wanted.length;
  return [
    ...pods.flatMap((pod) => actionFor(pod, keys.has(keyOf(pod)), isCrowded, input) ?? []),
    ...wanted
      .filter(({ isMissing }) => isMissing)
      .slice(0, Math.max(0, MAX_PODS - pods.length))
      .map(({ piece }): DemandAction => ({ kind: 'create', piece })),
  ];
}
