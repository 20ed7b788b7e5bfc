import { HOLD_SELECTOR, lambdaNodes } from '../../api/lambda-node.ts';
import type { Clock } from '../../common/clock.ts';
import { hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { pods } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { HoldWriter } from './hold-writer.ts';

const RETRY_MS = 10_000;

export interface HoldRemovalOptions {
  readonly client: KubeClient;
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
  const writer = new HoldWriter(options);
  const onError = (error: unknown): void => logger.warn({ error: messageOf(error) }, 'hold Pods could not be removed');
  await repeat({ clock, everyMs: RETRY_MS, onError }, signal, async () => {
    try {
      const selected = { namespace: systemNamespace, labelSelector: HOLD_SELECTOR };
      const { items } = await client.list(pods, selected, { signal });
      for (const pod of items) {
        await writer.change(pod, { kind: 'remove', because: 'no hold Pods are to be made' }, { signal });
      }
      for (const node of (await client.list(lambdaNodes, {}, { signal })).items) {
        await writer.promise(node, null, { signal });
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
