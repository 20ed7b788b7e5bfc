import { type LambdaNode, lambdaNodes } from '../../api/lambda-node.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import { type Pod, pods, serviceAccounts } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { NodePresence } from '../scheduling/node-snapshot.ts';
import type { GuardAction } from './decide-guard.ts';
import { allocatedMilliCPU, type ReserveAction } from './decide-reserve.ts';
import {
  guardPod,
  guardPodName,
  type HoldSettings,
  imagePatch,
  type PodAmounts,
  RESERVE_ACCOUNT,
  type ReserveView,
  reservePod,
  reservePodName,
  resizePatch,
} from './hold-pod.ts';
import { removeHoldPod } from './removal.ts';
import { podTolerations } from './tolerations.ts';

export interface HoldWriterOptions {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  readonly settings: HoldSettings;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly logger: Logger;
}

/** A node and its Pods, as they were last seen. */
export interface HeldNode {
  readonly nodeName: string;
  readonly node: LambdaNode | undefined;
  readonly presence: NodePresence;
  readonly guard: Pod | undefined;
  readonly reserves: readonly { readonly pod: Pod; readonly view: ReserveView }[];
  readonly graceSeconds: number;
}

/** Milliseconds after which the cache should have caught up with a write. */
export const CATCH_UP_MS = 1_000;

/** An action for a Pod that is there. */
type ChangeAction = Exclude<ReserveAction, { readonly kind: 'nothing' | 'create' }>;

function versionOf({ metadata }: Pod): string {
  return `${metadata.uid} ${metadata.resourceVersion}`;
}

/**
 * Carries out what was decided for the Pods of a node, and nothing twice that the cache does not show yet. Errors are
 * those of the API server.
 */
export class HoldWriter {
  readonly #options: HoldWriterOptions;
  /** By what was written, monotonic milliseconds. */
  readonly #written = new Map<string, number>();

  constructor(options: HoldWriterOptions) {
    this.#options = options;
  }

  /** Whether a Pod of the reservation was written just now and the cache shows the version of before. */
  isAhead({ reserves }: HeldNode): boolean {
    return reserves.some(({ pod }) => this.#isWritten(versionOf(pod)));
  }

  #isWritten(what: string): boolean {
    const at = this.#written.get(what);
    return at !== undefined && this.#options.clock.monotonic() - at < CATCH_UP_MS;
  }

  /** Writes, unless the same was written just now. A failed write may be tried again at once. */
  async #once(what: string, write: () => Promise<void>): Promise<void> {
    if (this.#isWritten(what)) {
      return;
    }
    await write();
    const now = this.#options.clock.monotonic();
    for (const [each, at] of this.#written) {
      if (now - at >= CATCH_UP_MS) {
        this.#written.delete(each);
      }
    }
    this.#written.set(what, now);
  }

  /** Tells the agent how many MiB its workers may have together, and how much CPU is reserved for them. */
  async promise(held: HeldNode, memoryMiB: number, options: CallOptions): Promise<void> {
    const { node, nodeName, presence, reserves } = held;
    const before = node?.status?.reserved;
    const milliCPU = allocatedMilliCPU(reserves.map(({ view }) => view));
    // No kubelet allocates anything on a node that is none of Kubernetes: its workers may have all.
    const reserved = presence.isOutside ? null : { memoryMiB, milliCPU };
    if (node === undefined || (before?.memoryMiB === reserved?.memoryMiB && before?.milliCPU === reserved?.milliCPU)) {
      return;
    }
    const { client, logger } = this.#options;
    const { resourceVersion, uid } = node.metadata;
    await this.#once(`${uid} ${resourceVersion} ${JSON.stringify(reserved)}`, async () => {
      const body = { metadata: { uid }, status: { reserved } };
      const call = { ...options, subresource: 'status' } as const;
      await client.patch(lambdaNodes, { name: nodeName }, { kind: 'merge', body }, call);
      logger.info({ node: nodeName, reserved }, 'node may promise other amounts');
    });
  }

  async guard(look: HeldNode, action: GuardAction, options: CallOptions): Promise<void> {
    const { client, systemNamespace, settings, logger } = this.#options;
    const { graceSeconds, guard, node, nodeName, presence } = look;
    switch (action.kind) {
      case 'nothing':
        return;
      case 'create':
        if (node !== undefined) {
          await this.#once(guardPodName(nodeName), async () => {
            const tolerations = podTolerations(presence.taints);
            await client.create(pods, guardPod(settings, node, systemNamespace, graceSeconds, tolerations), options);
            logger.info({ node: nodeName, graceSeconds }, 'guard Pod made');
          });
        }
        return;
      case 'renewImage':
        if (guard !== undefined) {
          await this.#renewImage(guard, options);
        }
        return;
      case 'release':
      case 'remove':
        if (guard !== undefined) {
          await removeHoldPod(client, guard, options);
        }
        logger.info({ node: nodeName, because: action.because }, 'guard Pod let go');
        return;
      default:
        return unreachable(action);
    }
  }

  async reserve(look: HeldNode, action: ReserveAction, options: CallOptions): Promise<void> {
    if (action.kind === 'nothing') {
      return;
    }
    if (action.kind === 'create') {
      await this.#makeReservation(look, action.index, action, options);
      return;
    }
    const { nodeName, reserves } = look;
    const pod = reserves.find(({ view }) => view.name === action.name)?.pod;
    if (pod !== undefined) {
      await this.#once(versionOf(pod), () => this.#change(nodeName, pod, action, options));
    }
  }

  async #change(nodeName: string, pod: Pod, action: ChangeAction, options: CallOptions): Promise<void> {
    const { client, logger } = this.#options;
    switch (action.kind) {
      case 'resize': {
        const { memoryMiB, milliCPU } = action;
        const patch = { kind: 'json', body: resizePatch(pod, action) } as const;
        await client.patch(pods, objectKey(pod), patch, { ...options, subresource: 'resize' });
        logger.info({ node: nodeName, memoryMiB, milliCPU }, 'reservation resized');
        return;
      }
      case 'renewImage':
        await this.#renewImage(pod, options);
        return;
      case 'remove':
        await removeHoldPod(client, pod, options);
        logger.info({ node: nodeName, because: action.because }, 'reservation removed');
        return;
      default:
        return unreachable(action);
    }
  }

  async #makeReservation(look: HeldNode, index: number, amounts: PodAmounts, options: CallOptions): Promise<void> {
    const { client, systemNamespace: namespace, settings, logger } = this.#options;
    const { node, nodeName, presence } = look;
    if (node === undefined) {
      return;
    }
    await this.#once(reservePodName(nodeName, index), async () => {
      const tolerations = podTolerations(presence.taints);
      const owner = await client.get(serviceAccounts, { namespace, name: RESERVE_ACCOUNT }, options);
      await client.create(pods, reservePod(settings, node, namespace, amounts, tolerations, owner, index), options);
      const { memoryMiB, milliCPU } = amounts;
      logger.info({ node: nodeName, index, memoryMiB, milliCPU }, 'reservation made');
    });
  }

  async #renewImage(pod: Pod, options: CallOptions): Promise<void> {
    const { client, settings, logger } = this.#options;
    await client.patch(pods, objectKey(pod), { kind: 'json', body: imagePatch(pod, settings.image) }, options);
    logger.info({ pod: pod.metadata.name, image: settings.image }, 'hold Pod got another image');
  }
}
