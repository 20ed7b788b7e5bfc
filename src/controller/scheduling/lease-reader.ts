import type { Clock } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { leases } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { NodeLiveness } from './liveness.ts';

const READ_EVERY_MS = 5_000;
const READ_DEADLINE_MS = 10_000;

export interface LeaseReaderOptions {
  readonly client: Pick<KubeClient, 'list'>;
  readonly systemNamespace: string;
  readonly liveness: NodeLiveness;
  readonly nodeNames: () => readonly string[];
  readonly onChange: (nodes: readonly string[]) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Reads the Leases of all nodes periodically until `signal` fires. Lists instead of a watch: only an answered read
 * proves that a renewal would have been seen.
 */
export async function readLeases(options: LeaseReaderOptions, signal: AbortSignal): Promise<void> {
  const { client, systemNamespace, liveness, nodeNames, onChange, clock, logger } = options;
  const onError = (error: unknown): void => logger.warn({ error: messageOf(error) }, 'leases could not be read');
  await repeat({ clock, everyMs: READ_EVERY_MS, onError }, signal, async () => {
    const { items } = await client.list(
      leases,
      { namespace: systemNamespace },
      { signal, deadlineMs: READ_DEADLINE_MS },
    );
    const stamps = new Map(items.map(({ metadata }) => [metadata.name, `${metadata.uid} ${metadata.resourceVersion}`]));
    const changed = liveness.observe({ at: clock.monotonic(), nodes: nodeNames(), stamps });
    if (changed.length > 0) {
      onChange(changed);
    }
  });
}
