import { isTrue, nodeConditions } from '../../api/condition.ts';
import type { LambdaNode } from '../../api/lambda-node.ts';

/** Milliseconds within which an agent tells of a container that was made: it writes every ten seconds. */
const TOLD_WITHIN_MS = 12_000;

interface Word {
  readonly at: number;
  readonly allocated: string;
}

/** Whether the agent has said that nothing of ESB is left on the node, or was removed since. */
function isLeft(node: LambdaNode | undefined): boolean {
  return node === undefined || isTrue(node.status?.conditions, nodeConditions.retired);
}

function allocatedOf(node: LambdaNode | undefined): string {
  return JSON.stringify(node?.status?.allocated ?? null);
}

/**
 * Keeps the report of each agent about its containers at the time when a worker was last given to another node. Until
 * the agent reports something else, a container that was made just before may be there all the same.
 */
export class LastWords {
  readonly #words = new Map<string, Word>();

  /**
   * Notes that a worker was given to another node.
   *
   * @param node as it is then
   * @param now monotonic milliseconds
   */
  note(name: string, node: LambdaNode | undefined, now: number): void {
    this.#words.set(name, { at: now, allocated: allocatedOf(node) });
  }

  /** Milliseconds for which the word of the agent may be out of date; 0 where it holds. */
  unsettledMs(name: string, node: LambdaNode | undefined, now: number): number {
    const word = this.#words.get(name);
    const left = word === undefined ? 0 : word.at + TOLD_WITHIN_MS - now;
    if (left > 0 && !isLeft(node) && word?.allocated === allocatedOf(node)) {
      return left;
    }
    this.#words.delete(name);
    return 0;
  }
}
