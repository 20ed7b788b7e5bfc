import { HOLD_SELECTOR, lambdaNodes } from '../../api/lambda-node.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import { type Pod, pods } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { isGuarded, releasePatch } from './hold-pod.ts';

const RETRY_MS = 10_000;

/** Seconds of grace of a Pod that we let go. */
const GRACE_SECONDS = 1;

/**
 * Releases a Pod of ours and ends it. In this order: our own deletion must not look like a drain. One that another party
 * has deleted is there until its grace is over, since no kubelet ends a grace that runs; its object goes at once all the
 * same, and its process, which does nothing, when its grace is over.
 */
export async function removeHoldPod(
  client: Pick<KubeClient, 'patch' | 'delete'>,
  pod: Pod,
  options: CallOptions,
): Promise<void> {
  if (isGuarded(pod)) {
    await client.patch(pods, objectKey(pod), { kind: 'json', body: releasePatch(pod) }, options);
  }
  await client.delete(pods, objectKey(pod), {
    ...options,
    uid: pod.metadata.uid,
    gracePeriodSeconds: pod.metadata.deletionTimestamp === undefined ? GRACE_SECONDS : 0,
  });
}

export interface HoldRemovalOptions {
  readonly client: Pick<KubeClient, 'list' | 'patch' | 'delete'>;
  readonly systemNamespace: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Removes the hold Pods of an earlier controller where this one makes none, and the bounds that came of them: without
 * their finalizer taken off, a drain would wait for ever. Tries until that succeeds or `signal` fires. Ends at once
 * where the controller may not list Pods: such a controller never made any.
 */
export async function removeHoldPods(options: HoldRemovalOptions, signal: AbortSignal): Promise<void> {
  const { client, systemNamespace, clock, logger } = options;
  const onError = (error: unknown): void => logger.warn({ error: messageOf(error) }, 'hold Pods could not be removed');
  await repeat({ clock, everyMs: RETRY_MS, onError }, signal, async () => {
    try {
      const selected = { namespace: systemNamespace, labelSelector: HOLD_SELECTOR };
      const { items } = await client.list(pods, selected, { signal });
      for (const pod of items) {
        await removeHoldPod(client, pod, { signal });
        logger.info({ pod: pod.metadata.name }, 'hold Pod removed, since none are to be made');
      }
      for (const { metadata, status } of (await client.list(lambdaNodes, {}, { signal })).items) {
        if (status?.reserved !== undefined) {
          const patch = { kind: 'merge', body: { status: { reserved: null } } } as const;
          await client.patch(lambdaNodes, { name: metadata.name }, patch, { signal, subresource: 'status' });
        }
      }
    } catch (error) {
      if (!hasCode(error, 'Forbidden')) {
        throw error;
      }
      logger.debug({ error: messageOf(error) }, 'hold Pods cannot be looked for');
    }
    return true;
  });
}
