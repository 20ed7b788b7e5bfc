import { checkDefinitions } from '../api/schema-revision.ts';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import type { Logger } from '../common/logger.ts';
import { customResourceDefinitions } from '../kube/api/resource-types.ts';
import type { KubeClient } from '../kube/api/types.ts';

const RETRY_MS = 3_000;

/**
 * Waits until the definitions fit.
 *
 * @param report called after each look that found a fault
 * @throws {AbortedError} when `signal` fires
 */
export async function waitForSchema(
  client: KubeClient,
  clock: Clock,
  logger: Logger,
  report: (health: Health) => void,
  signal: AbortSignal,
): Promise<void> {
  let last = '';
  for (;;) {
    let health: Health;
    try {
      health = await checkDefinitions((name) => client.get(customResourceDefinitions, { name }, { signal }));
    } catch (error) {
      signal.throwIfAborted();
      health = { ok: false, reason: 'ApiServerUnavailable', message: messageOf(error) };
    }
    if (health.ok) {
      return;
    }
    report(health);
    if (health.message !== last) {
      logger.warn({ reason: health.reason, message: health.message }, 'waiting for the resource definitions');
      last = health.message;
    }
    await sleep(clock, RETRY_MS, signal);
  }
}
