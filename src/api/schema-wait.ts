import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import type { Health, HealthReason } from '../common/health.ts';
import type { Logger } from '../common/logger.ts';
import { customResourceDefinitions } from '../kube/api/resource-types.ts';
import type { KubeClient } from '../kube/api/types.ts';
import { checkDefinitions } from './schema-revision.ts';

const RETRY_MS = 3_000;
const READ_DEADLINE_MS = 10_000;

export interface SchemaWaitOptions {
  readonly client: Pick<KubeClient, 'get'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Reason of the health while the API server cannot be read. */
  readonly unreadable: HealthReason;
  /** Called after each read. */
  readonly report: (health: Health) => void;
}

/**
 * Waits until the installed resource definitions fit this program.
 *
 * @throws {AbortedError} when `signal` fires
 */
export async function waitForSchema(options: SchemaWaitOptions, signal: AbortSignal): Promise<void> {
  const { clock, logger, report } = options;
  let last = '';
  for (;;) {
    const health = await readSchema(options, signal);
    report(health);
    if (health.ok) {
      return;
    }
    if (health.message !== last) {
      logger.warn({ reason: health.reason, message: health.message }, 'waiting for the resource definitions');
      last = health.message;
    }
    await sleep(clock, RETRY_MS, signal);
  }
}

async function readSchema({ client, unreadable }: SchemaWaitOptions, signal: AbortSignal): Promise<Health> {
  try {
    return await checkDefinitions((name) =>
      client.get(customResourceDefinitions, { name }, { signal, deadlineMs: READ_DEADLINE_MS }),
    );
  } catch (error) {
    signal.throwIfAborted();
    const message = `cannot read the resource definitions: ${messageOf(error)}`;
    return { ok: false, reason: unreadable, message };
  }
}
