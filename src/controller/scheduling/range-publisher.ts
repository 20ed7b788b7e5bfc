import { CLUSTER_RANGES_KEY, CLUSTER_RANGES_NAME } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import { configMaps, type Node } from '../../kube/api/resource-types.ts';
import type { KubeClient, ObjectCache } from '../../kube/api/types.ts';

/** Milliseconds between two looks. Each change goes to every agent, so that new Nodes are gathered. */
const LOOK_EVERY_MS = 300_000;
const RETRY_MS = 10_000;

export interface RangePublisherOptions {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  readonly systemNamespace: string;
  /** Synced already. */
  readonly nodes: Pick<ObjectCache<Node>, 'list'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Publishes the Pod ranges of all Nodes in a ConfigMap until `signal` fires, one range a line. Agents keep the
 * addresses of their workers out of these ranges; if each agent listed all Nodes, the work would grow with the square
 * of the cluster.
 */
export async function publishRanges(options: RangePublisherOptions, signal: AbortSignal): Promise<void> {
  const { clock, logger } = options;
  const onError = (error: unknown): void =>
    logger.warn({ error: messageOf(error) }, 'ranges of the cluster could not be published');
  await repeat({ clock, everyMs: LOOK_EVERY_MS, retryMs: RETRY_MS, onError }, signal, () =>
    publish(options, { signal }),
  );
}

async function publish(options: RangePublisherOptions, call: CallOptions): Promise<void> {
  const { client, systemNamespace, nodes, logger } = options;
  const ranges = [...new Set(nodes.list().flatMap(podRangesOf))].toSorted();
  const data = { [CLUSTER_RANGES_KEY]: ranges.map((range) => `${range}\n`).join('') };
  const key = { namespace: systemNamespace, name: CLUSTER_RANGES_NAME };
  const present = await client.get(configMaps, key, call);
  if (present === undefined) {
    const labels = { 'app.kubernetes.io/part-of': 'esb' };
    await client.create(configMaps, { metadata: { ...key, labels }, data }, call);
  } else if (present.data?.[CLUSTER_RANGES_KEY] !== data[CLUSTER_RANGES_KEY]) {
    await client.update(configMaps, { ...present, data: { ...present.data, ...data } }, call);
  } else {
    return;
  }
  logger.info({ ranges: ranges.length }, 'ranges of the cluster published');
}

function podRangesOf({ spec }: Node): readonly string[] {
  return spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]);
}
