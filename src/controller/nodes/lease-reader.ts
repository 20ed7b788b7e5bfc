import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { type Lease, leases } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { NodeLiveness, ReadNode } from './liveness.ts';
import type { Silence } from './silence.ts';

const READ_EVERY_MS = 5_000;
const READ_DEADLINE_MS = 10_000;
/** Milliseconds that a Lease may lie behind the newest one: two renewals of an agent. */
const LATE_MS = 20_000;

export interface LeaseReaderOptions {
  readonly client: Pick<KubeClient, 'list'>;
  readonly systemNamespace: string;
  readonly liveness: NodeLiveness;
  readonly silence: Silence;
  readonly nodes: () => readonly ReadNode[];
  readonly onChange: (nodes: readonly string[]) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Reads the Leases of all nodes periodically until `signal` fires. Lists instead of a watch: only an answered read
 * proves that a renewal would have been seen.
 */
export async function readLeases(options: LeaseReaderOptions, signal: AbortSignal): Promise<void> {
  const { clock, logger } = options;
  const onError = (error: unknown): void => logger.warn({ error: messageOf(error) }, 'leases could not be read');
  await repeat({ clock, everyMs: READ_EVERY_MS, onError }, signal, () => readLeasesOnce(options, { signal }));
}

/** Reads the Leases of all nodes once. Errors are those of the API server; the deadline is 10,000 ms by default. */
export async function readLeasesOnce(options: LeaseReaderOptions, call: CallOptions): Promise<void> {
  const { client, systemNamespace, liveness, nodes, onChange, clock, silence } = options;
  const beganAt = clock.monotonic();
  const { items } = await client.list(
    leases,
    { namespace: systemNamespace },
    { deadlineMs: READ_DEADLINE_MS, ...call },
  );
  const read = nodes();
  const stamps = new Map(items.map(({ metadata }) => [metadata.name, `${metadata.uid} ${metadata.resourceVersion}`]));
  const late = lateLeases(new Set(read.map(({ name }) => name)), items, clock.now());
  silence.observe(beganAt, clock.monotonic(), stamps);
  const changed = liveness.observe({ at: clock.monotonic(), nodes: read, stamps, late });
  if (changed.length > 0) {
    onChange(changed);
  }
}

/** Nodes whose Lease was renewed long before the newest of them. A Lease from the future counts as one of now. */
function lateLeases(nodes: ReadonlySet<string>, items: readonly Lease[], now: number): ReadonlySet<string> {
  const renewals = items.flatMap(({ metadata: { name }, spec }) => {
    const at = Date.parse(spec?.renewTime ?? '');
    return nodes.has(name) && Number.isFinite(at) ? [[name, Math.min(at, now)] as const] : [];
  });
  const newest = renewals.reduce((most, [, at]) => Math.max(most, at), Number.NEGATIVE_INFINITY);
  return new Set(renewals.filter(([, at]) => at < newest - LATE_MS).map(([name]) => name));
}
