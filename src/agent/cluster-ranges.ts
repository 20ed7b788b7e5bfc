import type { NamedRange } from '../cni/ip-range.ts';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { hasCode } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { nodes, serviceCidrs } from '../kube/resource-types.ts';
import type { KubeClient } from '../kube/types.ts';

/** Milliseconds between two reads: ranges of a cluster hardly ever change. */
const readEveryMs = 600_000;
const retryMs = 10_000;
const deadlineMs = 20_000;

export interface ClusterRangesOptions {
  readonly client: Pick<KubeClient, 'list'>;
  /** Ranges that are known without asking. */
  readonly given: readonly string[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The ranges of addresses that the cluster uses for Pods and Services; workers' own must not touch them. */
export class ClusterRanges {
  readonly #options: ClusterRangesOptions;
  #known: readonly NamedRange[] = [];

  constructor(options: ClusterRangesOptions) {
    this.#options = options;
  }

  /** As far as they are known. */
  current(): readonly NamedRange[] {
    return [...this.#options.given.map((cidr) => ({ cidr, what: 'a Service range' })), ...this.#known];
  }

  /** Reads them now and then until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let wait = readEveryMs;
      try {
        this.#known = await this.#read(signal);
      } catch (error) {
        if (signal.aborted) {
          throw error;
        }
        this.#options.logger.debug({ err: error }, 'ranges of the cluster cannot be read');
        wait = retryMs;
      }
      await sleep(this.#options.clock, wait, signal);
    }
  }

  async #read(signal: AbortSignal): Promise<readonly NamedRange[]> {
    const { client } = this.#options;
    const [nodeList, cidrList] = await Promise.all([
      client.list(nodes, {}, { signal, deadlineMs }),
      client.list(serviceCidrs, {}, { signal, deadlineMs }).catch((error: unknown) => {
        // Servers before 1.33 do not have them, and an installation may not let us look.
        if (hasCode(error, 'NotFound') || hasCode(error, 'Forbidden')) {
          return { items: [] };
        }
        throw error;
      }),
    ]);
    return [
      ...nodeList.items.flatMap(({ metadata, spec }) =>
        (spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR])).map((cidr) => ({
          cidr,
          what: `the Pod range of node ${metadata.name}`,
        })),
      ),
      ...cidrList.items.flatMap(({ metadata, spec }) =>
        (spec?.cidrs ?? []).map((cidr) => ({ cidr, what: `the Service range ${metadata.name}` })),
      ),
    ];
  }
}
