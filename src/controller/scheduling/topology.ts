import type { LambdaWorkerSpec } from '../../api/lambda-worker.ts';

/** The spread of one function's workers over parts of the cluster. */
export type TopologySpread = NonNullable<LambdaWorkerSpec['topologySpread']>;

/** A node as the spread sees it. */
export interface SpreadNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Workers of the function that are assigned to it. */
  readonly sameFunction: number;
}

/** Counts the workers of one function by part of the cluster. */
export class TopologyParts<T extends SpreadNode = SpreadNode> {
  readonly #spread: TopologySpread;
  readonly #counts = new Map<string, number>();
  readonly #fewest: number;

  /**
   * @param isOpen whether a node could take the worker but for its room: a part without any such node is no measure for
   *   the others, or the end of a zone would keep workers out of those that are left
   * @param leaves the node that the worker is on and is to leave; there it is not counted
   */
  constructor(spread: TopologySpread, nodes: readonly T[], isOpen: (node: T) => boolean, leaves: string | undefined) {
    this.#spread = spread;
    const open = new Set<string>();
    for (const node of nodes) {
      const part = node.labels[spread.topologyKey];
      if (part === undefined) {
        continue;
      }
      const workers = Math.max(0, node.sameFunction - (node.name === leaves ? 1 : 0));
      this.#counts.set(part, (this.#counts.get(part) ?? 0) + workers);
      if (isOpen(node)) {
        open.add(part);
      }
    }
    this.#fewest = Math.min(...[...open].map((part) => this.#counts.get(part) ?? 0));
  }

  /** Workers of the function in the part of the node; infinite for a node that is in no part. */
  count(node: SpreadNode): number {
    const part = node.labels[this.#spread.topologyKey];
    return part === undefined ? Number.POSITIVE_INFINITY : (this.#counts.get(part) ?? 0);
  }

  /**
   * Whether one more worker would put the part of the node too far ahead of the emptiest one, or the node is in no
   * part.
   */
  isTooFarAhead(node: SpreadNode): boolean {
    const count = this.count(node);
    return !Number.isFinite(count) || count + 1 - this.#fewest > this.#spread.maxSkew;
  }
}
