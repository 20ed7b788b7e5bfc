import type { LambdaNode } from '../../api/lambda-node.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isAwake, isRefusedByFullNode, isReplacedLater, takesRoom } from '../scheduling/assignment-cache.ts';

/** The word of an agent that hold Pods depend on; equal for two versions without a relevant change. */
export function nodeWord({ status = {} }: LambdaNode): string {
  const { allocated, capacity, ephemeralStorage, promised, unschedulable } = status;
  return JSON.stringify([allocated, capacity, ephemeralStorage?.medium, promised, unschedulable]);
}

/** Fingerprint of a worker: its place, and what it takes. */
export function holdFingerprint(worker: LambdaWorker): string {
  const { metadata, spec, status } = worker;
  const { resources, ephemeralStorage, timeoutSeconds, wakePolicy } = spec;
  const waits = [isRefusedByFullNode(worker), isReplacedLater(worker)];
  const cpu = [resources?.requests?.cpu, resources?.limits?.cpu, isAwake(worker)];
  const size = [resources?.limits?.memory, ephemeralStorage, takesRoom(worker), metadata.deletionTimestamp];
  return JSON.stringify([status?.assignment?.nodeName, timeoutSeconds, wakePolicy, ...size, ...cpu, ...waits]);
}
