import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { requestedMilliCPU, resourcesOf, takenMiB } from '../../api/worker-resources.ts';
import type { Placement, ScheduledReason } from './place.ts';
import type { Tolerations } from './taint.ts';

/** A worker that no node of now can take, and that a further node may. */
export interface Homeless {
  readonly memoryMiB: number;
  /** Thousandths of a core. */
  readonly milliCPU: number;
  /** MiB of its `/tmp` on disk; 0 where that is memory. */
  readonly diskMiB: number;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: Tolerations;
  /** Processors that its image is not made for. */
  readonly unfitArchitectures: readonly string[];
}

/**
 * Reasons for which a worker waits that one more node would take. A node that is not ready is on its way, or on its way
 * out, and the spread of a function is nothing that a Pod could tell.
 */
const homelessReasons: readonly ScheduledReason[] = [
  'AllCordoned',
  'NoNodes',
  'NoneFits',
  'NoneHeld',
  'NoneMatches',
  'NoneTolerated',
  'WrongArchitecture',
];

/** A refusal, as far as waiting depends on it. */
export interface Refusal extends Pick<Extract<Placement, { readonly kind: 'refused' }>, 'reason' | 'leaving'> {
  /** Processors that the image was found not to be made for. */
  readonly unfitArchitectures: readonly string[];
}

/**
 * The needs of a worker that more nodes would help; undefined for another. Where ESB leaves each of its nodes, none
 * would.
 */
export function homelessBy(
  { leaving, reason, unfitArchitectures }: Refusal,
  worker: LambdaWorker | undefined,
  tmpOnDisk: boolean,
): Homeless | undefined {
  const isHelped = homelessReasons.includes(reason) && (reason === 'NoNodes' || !leaving);
  if (worker === undefined || worker.spec.nodeName !== undefined || !isHelped) {
    return undefined;
  }
  const { nodeSelector = {}, tolerations = [] } = worker.spec;
  const resources = resourcesOf(worker);
  return {
    memoryMiB: takenMiB(resources, tmpOnDisk),
    milliCPU: requestedMilliCPU(worker),
    diskMiB: tmpOnDisk ? resources.ephemeralStorageMiB : 0,
    nodeSelector,
    tolerations,
    unfitArchitectures,
  };
}
