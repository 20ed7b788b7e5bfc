import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { ApiError } from '../../kube/api/api-error.ts';
import { microTime } from '../../kube/api/micro-time.ts';
import { leases } from '../../kube/api/resource-types.ts';
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
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onRenewal?: (ok: boolean) => void;
}

/** Renews the Lease of the node every ten seconds until `signal` fires, as the sign that the agent lives. */
export async function keepNodeLease(options: NodeLeaseOptions, signal: AbortSignal): Promise<void> {
  const { clock, logger, onRenewal } = options;
  let failing = false;
  while (!signal.aborted) {
    const began = clock.monotonic();
    try {
      await renew(options, signal);
      onRenewal?.(true);
      if (failing) {
        logger.info('node lease is renewed again');
      }
      failing = false;
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      onRenewal?.(false);
      if (!failing) {
        logger.warn({ err: error }, 'node lease cannot be renewed; trying again until it can');
      }
      failing = true;
    }
    const wait = failing ? retryMs : renewEveryMs - (clock.monotonic() - began);
    await sleep(clock, Math.max(retryMs, wait), signal);
  }
}

async function renew(options: NodeLeaseOptions, signal: AbortSignal): Promise<void> {
  const { client, nodeName: name, namespace, clock } = options;
  const spec = { holderIdentity: name, leaseDurationSeconds, renewTime: microTime(clock.now()) };
  try {
    await client.patch(leases, { namespace, name }, { kind: 'merge', body: { spec } }, { signal, deadlineMs });
  } catch (error) {
    if (!(error instanceof ApiError && error.code === 'NotFound')) {
      throw error;
    }
    await client.create(
      leases,
      { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace }, spec },
      { signal, deadlineMs },
    );
  }
}
