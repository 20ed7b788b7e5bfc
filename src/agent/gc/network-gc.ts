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
  readonly #unclaimedSince = new Map<string, number>();

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
    const attachments = await this.#network.list();
    const workers = await this.#runtime.list(options);
    const containers = new Set(workers.map(({ containerId }) => containerId));
    const claims = new Map(
      workers.flatMap(({ address, containerId }) =>
        address === undefined ? [] : [[address.ip, containerId] as const],
      ),
    );
    const now = this.#clock.monotonic();
    const inUse = new Set<string>();
    const unclaimed = new Set<string>();
    for (const { containerId } of attachments) {
      if (containers.has(containerId)) {
        this.#unclaimedSince.delete(containerId);
        inUse.add(containerId);
        continue;
      }
      const since = this.#unclaimedSince.get(containerId) ?? now;
      this.#unclaimedSince.set(containerId, since);
      if (now - since < minAgeMs) {
        inUse.add(containerId);
      } else {
        this.#unclaimedSince.delete(containerId);
        unclaimed.add(containerId);
      }
    }
    const present = new Set(attachments.map(({ containerId }) => containerId));
    for (const containerId of this.#unclaimedSince.keys()) {
      if (!present.has(containerId)) {
        this.#unclaimedSince.delete(containerId);
      }
    }
    return await this.#network.repair(inUse, { ...options, claims, unclaimed });
  }
}
