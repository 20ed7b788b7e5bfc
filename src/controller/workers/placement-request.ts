import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { requestedMilliCPU, resourcesOf } from '../../api/worker-resources.ts';
import { isRefusedByFullNode, startsAtOnce } from '../scheduling/assignment-cache.ts';
import type { PlacementRequest } from '../scheduling/place.ts';

/** The needs of a worker that its resource tells. */
export function placementRequest(
  worker: LambdaWorker,
): Omit<PlacementRequest, 'strategy' | 'unfitArchitectures' | 'exclude'> {
  const { nodeName, nodeSelector, topologySpread } = worker.spec;
  const { ephemeralStorageMiB: tmpMiB, memoryMiB } = resourcesOf(worker);
  return {
    memoryMiB,
    tmpMiB,
    milliCPU: requestedMilliCPU(worker),
    // A worker that leaves a full node is to be woken, in whichever state it rests.
    takesRoom: isRefusedByFullNode(worker) || startsAtOnce(worker),
    nodeName,
    nodeSelector,
    spread: topologySpread,
    leaves: worker.status?.assignment?.nodeName,
  };
}
