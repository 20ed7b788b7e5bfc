import type { NodeNetwork } from '../../cni/contract.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';

/** Milliseconds that an attachment must have been without a container: a worker may just be in the making. */
const minAgeMs = 120_000;

/** Removes attachments, namespaces and addresses that a crash left behind. */
export class NetworkGarbageCollector {
  readonly #network: Pick<NodeNetwork, 'list' | 'repair'>;
  readonly #runtime: Pick<ContainerRuntime, 'list'>;
  readonly #clock: Clock;
  /** Since when each attachment has been seen without a container. */
  #unclaimedSince = new Map<string, number>();

  constructor(network: Pick<NodeNetwork, 'list' | 'repair'>, runtime: Pick<ContainerRuntime, 'list'>, clock: Clock) {
    this.#network = network;
    this.#runtime = runtime;
    this.#clock = clock;
  }

  /**
   * Looks once. An attachment goes when it had no container at two looks that lie far enough apart; a namespace or an
   * address that belongs to no attachment goes at once. Returns what was removed.
   */
  async look(options: CallOptions = {}): Promise<readonly string[]> {
    const attached = new Set((await this.#network.list()).map(({ containerId }) => containerId));
    const workers = await this.#runtime.list(options);
    const containers = new Set(workers.map(({ containerId }) => containerId));
    const claims = new Map(
      workers.flatMap(({ address, containerId, egress, ip = address?.ip }) =>
        ip === undefined ? [] : [[ip, { containerId, egress }] as const],
      ),
    );
    const now = this.#clock.monotonic();
    const since = this.#unclaimedSince;
    this.#unclaimedSince = new Map();
    const unclaimed = new Set<string>();
    for (const containerId of attached.difference(containers)) {
      const firstSeen = since.get(containerId) ?? now;
      if (now - firstSeen < minAgeMs) {
        this.#unclaimedSince.set(containerId, firstSeen);
      } else {
        unclaimed.add(containerId);
      }
    }
    return await this.#network.repair(attached.difference(unclaimed), { ...options, claims, unclaimed });
  }
}
