import { HOLD_FINALIZER, type LambdaNode, type LambdaNodeStatus, lambdaNodes } from '../../api/lambda-node.ts';
import { quantityToMiB, quantityToMilli } from '../../api/quantity.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import { type Pod, pods, serviceAccounts } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import {
  amountsOf,
  CONTAINER,
  IMAGE_ANNOTATION,
  LIMIT_MORE,
  OWN_MIB,
  type Owner,
  ownedByAccount,
  type PodAmounts,
  RESERVE_ACCOUNT,
} from './hold-pod.ts';
import { isGuarded } from './hold-view.ts';

/** Milliseconds for which the owner of Pods is not read again. */
const OWNER_MS = 1_000;

/** Seconds of grace of a Pod that we let go. */
const GRACE_SECONDS = 1;

/** The change of a hold Pod that is there. */
export type PodChange =
  /** Other amounts; without an amount of CPU, that of the Pod stays. */
  | ({ readonly kind: 'resize' } & PodAmounts)
  | { readonly kind: 'renewImage'; readonly image: string }
  | { readonly kind: 'remove'; readonly because: string }
  /** The end of a guard that another party has deleted. */
  | { readonly kind: 'release'; readonly because: 'drained' | 'calledOff' | 'gone' | 'tainted' };

export interface HoldWriterOptions {
  readonly client: Pick<KubeClient, 'create' | 'delete' | 'get' | 'patch'>;
  readonly systemNamespace: string;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly logger: Logger;
}

/** Carries out what was decided for hold Pods of any role. Errors are those of the API server. */
export class HoldWriter {
  readonly #options: HoldWriterOptions;
  /** The owner of Pods as it was read, and when (monotonic milliseconds). */
  #account: { readonly at: number; readonly owner: Owner | undefined } | undefined;

  constructor(options: HoldWriterOptions) {
    this.#options = options;
  }

  /** Tells the agent of a node what is reserved for its workers together; null where they may have all. */
  async promise(
    node: LambdaNode,
    reserved: NonNullable<LambdaNodeStatus['reserved']> | null,
    options: CallOptions,
  ): Promise<void> {
    const { client, logger } = this.#options;
    const { name, uid } = node.metadata;
    const before = node.status?.reserved;
    if (before?.memoryMiB === reserved?.memoryMiB && before?.milliCPU === reserved?.milliCPU) {
      return;
    }
    const body = { metadata: { uid }, status: { reserved } };
    const call = { ...options, subresource: 'status' } as const;
    await client.patch(lambdaNodes, { name }, { kind: 'merge', body }, call);
    logger.info({ node: name, reserved }, 'node may promise other amounts');
  }

  /** Makes a Pod. One that is no guard goes with the release, by its owner. */
  async make(pod: Pod, options: CallOptions): Promise<void> {
    const { client, logger } = this.#options;
    const { name } = pod.metadata;
    const owner = isGuarded(pod) ? undefined : await this.#owner(options);
    await client.create(pods, owner === undefined ? pod : ownedByAccount(pod, owner), options);
    logger.info({ pod: name, requests: pod.spec?.containers?.[0]?.resources?.requests }, 'hold Pod made');
  }

  /** Reads the owner of Pods, once for all that are made within a short time: they may be hundreds. */
  async #owner(options: CallOptions): Promise<Owner | undefined> {
    const { client, clock, systemNamespace: namespace } = this.#options;
    const now = clock.monotonic();
    if (this.#account === undefined || now - this.#account.at >= OWNER_MS) {
      const owner = await client.get(serviceAccounts, { namespace, name: RESERVE_ACCOUNT }, options);
      this.#account = { at: now, owner };
    }
    return this.#account.owner;
  }

  async change(pod: Pod, change: PodChange, options: CallOptions): Promise<void> {
    const { client, logger } = this.#options;
    const { name } = pod.metadata;
    switch (change.kind) {
      case 'resize': {
        const patch = { kind: 'json', body: resizePatch(pod, change) } as const;
        await client.patch(pods, objectKey(pod), patch, { ...options, subresource: 'resize' });
        logger.info({ pod: name, memoryMiB: change.memoryMiB, milliCPU: change.milliCPU }, 'hold Pod resized');
        return;
      }
      case 'renewImage': {
        const { image } = change;
        await client.patch(pods, objectKey(pod), { kind: 'json', body: imagePatch(pod, image) }, options);
        logger.info({ pod: name, image }, 'hold Pod got another image');
        return;
      }
      case 'remove':
      case 'release':
        await this.#remove(pod, options);
        logger.info({ pod: name, because: change.because }, 'hold Pod let go');
        return;
      default:
        return unreachable(change);
    }
  }

  /**
   * Releases a Pod and ends it. In this order: our own deletion must not look like a drain. A Pod that another party has
   * deleted is there until its grace is over, since no kubelet ends a grace that runs; its object goes at once all the
   * same, and its process, which does nothing, when its grace is over.
   */
  async #remove(pod: Pod, options: CallOptions): Promise<void> {
    const { client } = this.#options;
    if (isGuarded(pod)) {
      await client.patch(pods, objectKey(pod), { kind: 'json', body: releasePatch(pod) }, options);
    }
    await client.delete(pods, objectKey(pod), {
      ...options,
      uid: pod.metadata.uid,
      gracePeriodSeconds: pod.metadata.deletionTimestamp === undefined ? GRACE_SECONDS : 0,
    });
  }
}

/** Asks the kubelet to allocate other amounts to a Pod, by its subresource `resize`. CPU stays where none is given. */
export function resizePatch(pod: Pod, { memoryMiB, milliCPU }: PodAmounts): readonly object[] {
  const index = pod.spec?.containers?.findIndex(({ name }) => name === CONTAINER) ?? 0;
  const path = `/spec/containers/${index}`;
  const limits = pod.spec?.containers?.[index]?.resources?.limits;
  const asked = { memoryMiB: memoryMiB + OWN_MIB, milliCPU: milliCPU ?? 0 };
  const higher = amountsOf(asked, LIMIT_MORE);
  // No limit can be taken off a Pod, and one that is lowered may restart its container.
  const isLow = (limit: number | undefined, wanted: number): boolean => limit !== undefined && limit < wanted;
  const raised = [
    ...(isLow(quantityToMiB(limits?.memory, Number.POSITIVE_INFINITY), asked.memoryMiB) ? (['memory'] as const) : []),
    ...(isLow(quantityToMilli(limits?.cpu), asked.milliCPU) ? (['cpu'] as const) : []),
  ];
  return [
    { op: 'test', path: '/metadata/uid', value: pod.metadata.uid },
    { op: 'test', path: `${path}/name`, value: CONTAINER },
    ...raised.map((name) => ({ op: 'replace', path: `${path}/resources/limits/${name}`, value: higher[name] })),
    // Also where there was none; no request can be taken off a Pod.
    ...(milliCPU === undefined ? [] : [{ op: 'add', path: `${path}/resources/requests/cpu`, value: `${milliCPU}m` }]),
    { op: 'replace', path: `${path}/resources/requests/memory`, value: `${memoryMiB + OWN_MIB}Mi` },
  ];
}

/** Puts another image into a running Pod of ours. Its memory stays reserved, unlike with a new Pod. */
export function imagePatch(pod: Pod, image: string): readonly object[] {
  const index = pod.spec?.containers?.findIndex(({ name }) => name === CONTAINER) ?? 0;
  const note =
    pod.metadata.annotations === undefined
      ? { op: 'add', path: '/metadata/annotations', value: { [IMAGE_ANNOTATION]: image } }
      : { op: 'add', path: `/metadata/annotations/${IMAGE_ANNOTATION.replace('/', '~1')}`, value: image };
  return [
    { op: 'test', path: '/metadata/uid', value: pod.metadata.uid },
    { op: 'test', path: `/spec/containers/${index}/name`, value: CONTAINER },
    note,
    { op: 'replace', path: `/spec/containers/${index}/image`, value: image },
  ];
}

/** Removes our finalizer from a Pod and leaves all others. */
export function releasePatch(pod: Pod): readonly object[] {
  const index = pod.metadata.finalizers?.indexOf(HOLD_FINALIZER) ?? 0;
  return [
    { op: 'test', path: '/metadata/uid', value: pod.metadata.uid },
    { op: 'test', path: `/metadata/finalizers/${index}`, value: HOLD_FINALIZER },
    { op: 'remove', path: `/metadata/finalizers/${index}` },
  ];
}
