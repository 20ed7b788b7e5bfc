import type { NodeFacts } from '../step/state.ts';
import type { WorkerContext } from './context.ts';

type Parts = Pick<WorkerContext, 'capacity' | 'claims' | 'inits' | 'limiter' | 'outlook'> & {
  readonly holdsShare: NodeFacts['holdsShare'];
  readonly tmpOnDisk: () => boolean;
};

/** Facts of the node for its workers' decisions, as they are at each question. */
export function factsOf(parts: Parts): NodeFacts {
  const { capacity, claims, holdsShare, inits, limiter, outlook, tmpOnDisk } = parts;
  return {
    get runtimeDown() {
      return outlook.isDown;
    },
    get allocated() {
      return capacity.allocated;
    },
    get limits() {
      return capacity.limits;
    },
    get tmpOnDisk() {
      return tmpOnDisk();
    },
    fits: (containerId, memoryMiB, without) => capacity.fits(containerId, memoryMiB, without),
    mayFitLater: (containerId, memoryMiB, without) => capacity.mayFitLater(containerId, memoryMiB, without),
    mayReplace: (uid, replaced) => limiter.mayTake(uid, replaced),
    holdsShare,
    mayClaim: (containerId, uid) => claims.mayClaim(containerId, uid),
    initOf: (containerId) => inits.link(containerId),
  };
}
