import { readFileSync } from 'node:fs';
import { CLUSTER_RANGES_KEY } from '../../api/name.ts';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import type { Clock } from '../../common/clock.ts';
import { errnoOf, hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { type NamedRange, parseIpRange } from '../../common/net/ip-range.ts';
import { repeat } from '../../common/repeat.ts';
import { type ConfigMap, type Node, serviceCidrs } from '../../kube/api/resource-types.ts';
import type { KubeClient, ObjectCache } from '../../kube/api/types.ts';

/** Milliseconds between two reads of the Service ranges, and the part by which agents differ. */
const readEveryMs = 600_000;
const readSpread = 0.25;
const retryMs = 10_000;
const deadlineMs = 20_000;
/** File in the agent's state folder with the ranges that were known last, one a line. */
export const CLUSTER_RANGES_FILE = 'cluster-ranges';

export interface ClusterCidrsOptions {
  readonly client: Pick<KubeClient, 'list'>;
  /** Ranges from the command line. */
  readonly given: readonly string[];
  /** The Node of the agent. */
  readonly ownNode: Pick<ObjectCache<Node>, 'list'>;
  /** The ConfigMap with the Pod ranges of all Nodes; empty until a controller has published them. */
  readonly published: Pick<ObjectCache<ConfigMap>, 'list'>;
  /** Whether both were read in this run. */
  readonly hasSynced: () => boolean;
  /** See {@link CLUSTER_RANGES_FILE}. */
  readonly file: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random?: () => number;
}

/**
 * The address ranges of the cluster's Pods and Services, which the workers' own must not overlap. While no controller
 * has published the Pod ranges of all Nodes, only those of the agent's own Node are known. An agent that starts goes by
 * those that were known before, until it has read all: workers that are held to the cluster go on meanwhile.
 */
export class ClusterCidrs {
  readonly #options: ClusterCidrsOptions;
  /** Undefined before they were read. */
  #services: readonly NamedRange[] | undefined;
  /** Content of the file. */
  #kept: string;

  constructor(options: ClusterCidrsOptions) {
    this.#options = options;
    this.#kept = readKept(options);
  }

  /** The ranges known so far. */
  current(): readonly NamedRange[] {
    const known = this.#known();
    if (this.#isComplete()) {
      return known;
    }
    const before = this.#kept.split('\n').filter((cidr) => isRange(cidr) && !known.some((each) => each.cidr === cidr));
    return [...known, ...before.map((cidr) => ({ cidr, what: 'a range of the cluster, as known before' }))];
  }

  #isComplete(): boolean {
    return this.#services !== undefined && this.#options.hasSynced();
  }

  #known(): readonly NamedRange[] {
    const { given, ownNode, published } = this.#options;
    const own = ownNode.list().flatMap(({ metadata, spec }) =>
      (spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR])).map((cidr) => ({
        cidr,
        what: `the Pod range of node ${metadata.name}`,
      })),
    );
    const ofNodes = published
      .list()
      .flatMap(({ data }) => (data?.[CLUSTER_RANGES_KEY] ?? '').split('\n'))
      .filter((cidr) => isRange(cidr) && !own.some((each) => each.cidr === cidr))
      .map((cidr) => ({ cidr, what: 'a Pod range of the cluster' }));
    return [...given.map((cidr) => ({ cidr, what: 'a Service range' })), ...own, ...ofNodes, ...(this.#services ?? [])];
  }

  /** Reads the Service ranges periodically until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger, random = Math.random } = this.#options;
    // Soon again at the start, to keep what is complete by then.
    const everyMs = (): number => (this.#isComplete() ? readEveryMs * (1 + readSpread * random()) : retryMs);
    const onError = (error: unknown): void =>
      logger.debug({ err: error }, 'Service ranges of the cluster cannot be read');
    await repeat({ clock, everyMs, retryMs, onError }, signal, async () => {
      this.#services = await this.#read(signal);
      await this.#keep();
    });
  }

  async #keep(): Promise<void> {
    const { file, logger } = this.#options;
    const text = this.#known()
      .map(({ cidr }) => cidr)
      .join('\n');
    if (!this.#isComplete() || text === this.#kept) {
      return;
    }
    try {
      await writeFileAtomically(file, text);
      this.#kept = text;
    } catch (error) {
      logger.warn({ err: error }, 'ranges of the cluster cannot be kept for the next start');
    }
  }

  async #read(signal: AbortSignal): Promise<readonly NamedRange[]> {
    const { items } = await this.#options.client
      .list(serviceCidrs, {}, { signal, deadlineMs })
      .catch((error: unknown) => {
        // Servers before 1.33 have no ServiceCIDR, and the agent may lack the right to list them.
        if (hasCode(error, 'NotFound') || hasCode(error, 'Forbidden')) {
          return { items: [] };
        }
        throw error;
      });
    return items.flatMap(({ metadata, spec }) =>
      (spec?.cidrs ?? []).map((cidr) => ({ cidr, what: `the Service range ${metadata.name}` })),
    );
  }
}

function readKept({ file, logger }: Pick<ClusterCidrsOptions, 'file' | 'logger'>): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') {
      logger.warn({ err: error }, 'ranges of the cluster that were known before cannot be read');
    }
    return '';
  }
}

/** Other parties wrote these ranges: invalid ones are left out. */
function isRange(text: string): boolean {
  try {
    parseIpRange(text);
    return true;
  } catch {
    return false;
  }
}
