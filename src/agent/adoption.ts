import type { WorkerInfo } from '../runtime/container-runtime.ts';

export interface ServiceFacts {
  /** The container that served when the record was written. */
  readonly serving: string | undefined;
  /** The shape that is wanted. */
  readonly shapeHash: string;
}

/**
 * The containers of one worker as an agent finds them at its start, the one that serves first. Where no record tells, it is
 * the one of an earlier shape: it was ready before the other one was begun.
 */
export function inOrderOfService(
  containers: readonly WorkerInfo[],
  facts: ServiceFacts,
): readonly WorkerInfo[] {
  const rank = ({ containerId, shapeHash, task }: WorkerInfo): number => {
    const alive = task.kind === 'Running' || task.kind === 'Paused';
    return (
      (alive ? 4 : 0) + (containerId === facts.serving ? 2 : 0) + (shapeHash === facts.shapeHash ? 0 : 1)
    );
  };
  return containers.toSorted(
    (one, other) => rank(other) - rank(one) || one.createdAt.getTime() - other.createdAt.getTime(),
  );
}
