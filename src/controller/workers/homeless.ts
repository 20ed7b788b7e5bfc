import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { requestedMilliCPU, resourcesOf, takenMiB } from '../../api/worker-resources.ts';
import type { ScheduledReason } from '../scheduling/place.ts';

/** Reasons for which a worker waits that one more node would take. */
const homelessReasons: readonly ScheduledReason[] = ['NoneFits', 'NoneHeld', 'NoNodes'];

/** A worker that no node has room for. */
export interface Homeless {
  readonly memoryMiB: number;
  readonly milliCPU: number;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: NonNullable<LambdaWorker['spec']['tolerations']>;
}

/** The needs of a worker that more nodes would help; undefined for another. */
export function homelessBy(
  reason: ScheduledReason,
  worker: LambdaWorker | undefined,
  tmpOnDisk: boolean,
): Homeless | undefined {
  if (worker === undefined || worker.spec.nodeName !== undefined || !homelessReasons.includes(reason)) {
    return undefined;
  }
  const { nodeSelector = {}, tolerations = [] } = worker.spec;
  const amounts = { memoryMiB: takenMiB(resourcesOf(worker), tmpOnDisk), milliCPU: requestedMilliCPU(worker) };
  return { ...amounts, nodeSelector, tolerations };
}
