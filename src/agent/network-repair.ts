import type { NodeNetwork } from '../cni/node-network.ts';
import type { Clock } from '../common/clock.ts';
import type { CallOptions } from '../common/deadline.ts';
import type { ContainerRuntime } from '../runtime/container-runtime.ts';

/** Milliseconds that an attachment must have been without a container: a worker may just be in the making. */
const minAgeMs = 120_000;

/** Removes attachments, namespaces and addresses that a crash left behind. */
export class NetworkRepair {
  readonly #network: Pick<NodeNetwork, 'list' | 'repair'>;
  readonly #runtime: Pick<ContainerRuntime, 'list'>;
  readonly #clock: Clock;
  /** Since when each attachment has been seen without a container. */
  readonly #unclaimedSince = new Map<string, number>();

  constructor(
    network: Pick<NodeNetwork, 'list' | 'repair'>,
    runtime: Pick<ContainerRuntime, 'list'>,
    clock: Clock,
  ) {
    this.#network = network;
    this.#runtime = runtime;
    this.#clock = clock;
  }

  /**
   * Looks once. An attachment goes when it had no container at two looks that lie far enough apart; a namespace or an
   * address that belongs to no attachment goes at once.
   */
  async look(options: CallOptions = {}): Promise<void> {
    const attachments = await this.#network.list();
    const containers = new Set((await this.#runtime.list(options)).map(({ containerId }) => containerId));
    const now = this.#clock.monotonic();
    const inUse = new Set<string>();
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
      }
    }
    const present = new Set(attachments.map(({ containerId }) => containerId));
    for (const containerId of this.#unclaimedSince.keys()) {
      if (!present.has(containerId)) {
        this.#unclaimedSince.delete(containerId);
      }
    }
    await this.#network.repair(inUse, options);
  }
}
