import { lambdaNodes } from '../../api/lambda-node.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { ApiError, isUnavailable } from '../../kube/api/api-error.ts';
import { microTime } from '../../kube/api/micro-time.ts';
import { apiVersionOf } from '../../kube/api/resource-path.ts';
import { type Lease, leases } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';

const renewEveryMs = 10_000;
const retryMs = 2_000;
const deadlineMs = 8_000;
/** Seconds after which the controller takes a node for lost, for people who look at the Lease. */
const leaseDurationSeconds = 40;

export interface NodeLeaseOptions {
  readonly client: Pick<KubeClient, 'patch' | 'create'>;
  readonly nodeName: string;
  readonly namespace: string;
  /** Uid of the LambdaNode of the node, which owns the Lease; undefined while that is not known. */
  readonly ownerUid?: () => string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** @param beganAt monotonic milliseconds */
  readonly onRenewal?: (ok: boolean, beganAt: number) => void;
}

/** Renews the Lease of the node every ten seconds until `signal` fires, as the sign that the agent lives. */
export async function keepNodeLease(options: NodeLeaseOptions, signal: AbortSignal): Promise<void> {
  const { clock, logger, onRenewal } = options;
  const owner = new LeaseOwner(options);
  let failing = false;
  while (!signal.aborted) {
    const began = clock.monotonic();
    try {
      const lease = await renew(options, signal);
      onRenewal?.(true, began);
      await owner.see(lease, signal);
      if (failing) {
        logger.info('node lease is renewed again');
      }
      failing = false;
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      onRenewal?.(false, began);
      if (!failing) {
        logger.warn({ err: error }, 'node lease cannot be renewed; trying again until it can');
      }
      failing = true;
    }
    const wait = failing ? retryMs : renewEveryMs - (clock.monotonic() - began);
    await sleep(clock, Math.max(retryMs, wait), signal);
  }
}

/**
 * Makes the LambdaNode the owner of the Lease, so that the deletion of the one takes the other along. Apart from the
 * renewal: a cluster may refuse an owner to accounts that may not delete the Lease, and a sign of life depends on nothing.
 */
class LeaseOwner {
  readonly #options: NodeLeaseOptions;
  /** The owner that was refused. */
  #refused: string | undefined;

  constructor(options: NodeLeaseOptions) {
    this.#options = options;
  }

  /** Never rejects. A failed write is tried again after the next renewal, a refused one with another owner. */
  async see({ metadata: { ownerReferences } }: Lease, signal: AbortSignal): Promise<void> {
    const { client, logger, namespace, nodeName: name, ownerUid } = this.#options;
    const uid = ownerUid?.();
    // An owner in a version that is served no more is none to the collector.
    const apiVersion = apiVersionOf(lambdaNodes);
    const isOwned = ownerReferences?.some((owner) => owner.uid === uid && owner.apiVersion === apiVersion) === true;
    if (uid === undefined || uid === this.#refused || isOwned) {
      return;
    }
    const body = { metadata: { ownerReferences: [{ apiVersion, kind: lambdaNodes.kind, name, uid }] } };
    try {
      await client.patch(leases, { namespace, name }, { kind: 'merge', body }, { signal, deadlineMs });
    } catch (error) {
      this.#refused = isUnavailable(error) ? undefined : uid;
      logger.debug({ err: error }, 'the node lease gets no owner');
    }
  }
}

async function renew(options: NodeLeaseOptions, signal: AbortSignal): Promise<Lease> {
  const { client, nodeName: name, namespace, clock } = options;
  const spec = { holderIdentity: name, leaseDurationSeconds, renewTime: microTime(clock.now()) };
  try {
    return await client.patch(leases, { namespace, name }, { kind: 'merge', body: { spec } }, { signal, deadlineMs });
  } catch (error) {
    if (!(error instanceof ApiError && error.code === 'NotFound')) {
      throw error;
    }
    return await client.create(
      leases,
      { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace }, spec },
      { signal, deadlineMs },
    );
  }
}
