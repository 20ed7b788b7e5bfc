import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { WorkerRecord } from './worker-record.ts';

export interface ServiceFacts {
  /** The container that served when the record was written. */
  readonly serving: string | undefined;
  /** The shape that is wanted. */
  readonly shapeHash: string;
}

/**
 * The containers of one worker as an agent finds them at its start, the one that serves first. Where no record tells,
 * it is the one of an earlier shape: it was ready before the other one was begun.
 */
export function inOrderOfService(containers: readonly WorkerInfo[], facts: ServiceFacts): readonly WorkerInfo[] {
  const rank = (info: WorkerInfo): number => {
    const { containerId, shapeHash } = info;
    const alive = ['Running', 'Paused'].includes(stateOf(info));
    return (alive ? 4 : 0) + (containerId === facts.serving ? 2 : 0) + (shapeHash === facts.shapeHash ? 0 : 1);
  };
  return containers.toSorted(
    (one, other) => rank(other) - rank(one) || one.createdAt.getTime() - other.createdAt.getTime(),
  );
}

/**
 * Whether the port of the container that serves was seen open by the agent that made it. Nothing is frozen before that,
 * and where no record tells, nothing is replaced before that.
 */
export function wasReady(info: WorkerInfo, record: WorkerRecord | undefined, shapeHash: string): boolean {
  if (stateOf(info) === 'Paused') {
    return true;
  }
  if (record === undefined) {
    return info.shapeHash !== shapeHash;
  }
  // An earlier process may have been started as well, before this container was made.
  return record.startedAt !== undefined && Date.parse(record.startedAt) >= info.createdAt.getTime();
}

function stateOf({ task }: WorkerInfo): string {
  return task.kind === 'Unanswering' ? task.kernel : task.kind;
}
