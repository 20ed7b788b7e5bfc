import { createHash } from 'node:crypto';
import { HOLD_FINALIZER, holdLabels, type LambdaNode, lambdaNodes } from '../../api/lambda-node.ts';
import { quantityToMiB } from '../../api/quantity.ts';
import type { Pod } from '../../kube/api/resource-types.ts';

export interface HoldSettings {
  readonly image: string;
  readonly pullPolicy: string;
  readonly priorityClassName?: string | undefined;
}

/** Annotation of a hold Pod: the requested image, which admission webhooks may have replaced. */
const IMAGE_ANNOTATION = 'esb.dev/image';
/** Service account without rights; it brings the pull secrets of the image. */
const SERVICE_ACCOUNT = 'esb-hold';
const NAME_PREFIX = 'esb-hold-';
const CONTAINER = 'hold';
const MAX_NAME_LENGTH = 253;
/** Seconds; the Pod ends at once when asked to. */
const GRACE_SECONDS = 5;
const USER_ID = 65_532;

/** The name of a node's hold Pod: one node, one name, so that two controllers can never create two. */
export function holdPodName(nodeName: string): string {
  const name = `${NAME_PREFIX}${nodeName}`;
  if (name.length <= MAX_NAME_LENGTH) {
    return name;
  }
  const digest = createHash('sha256').update(nodeName).digest('hex').slice(0, 16);
  return `${name.slice(0, MAX_NAME_LENGTH - digest.length - 1)}-${digest}`;
}

/**
 * The Pod that reserves the memory of a node's workers. The Pod requests the memory that the node may promise them, so
 * that scheduler, kubelet and autoscalers count it; its eviction is the sign that the node is drained. The Pod goes
 * through the scheduler, which alone knows whether the memory is free; `spec.nodeName` would bypass the scheduler.
 */
export function holdPod(settings: HoldSettings, node: LambdaNode, namespace: string): Pod {
  const { name, uid = '' } = node.metadata;
  return {
    metadata: {
      name: holdPodName(name),
      namespace,
      labels: holdLabels,
      annotations: { 'cluster-autoscaler.kubernetes.io/safe-to-evict': 'false', [IMAGE_ANNOTATION]: settings.image },
      finalizers: [HOLD_FINALIZER],
      // `kubectl drain` refuses Pods without an owner that would create them again.
      ownerReferences: [
        {
          apiVersion: `${lambdaNodes.group}/${lambdaNodes.version}`,
          kind: lambdaNodes.kind,
          name,
          uid,
          controller: true,
        },
      ],
    },
    spec: {
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [name] }] }],
          },
        },
      },
      // Any taint that evicts the Pod would look like a drain, and workers have tolerations of their own.
      tolerations: [{ operator: 'Exists' }],
      containers: [
        {
          name: CONTAINER,
          image: settings.image,
          imagePullPolicy: settings.pullPolicy,
          args: ['hold'],
          resources: { requests: { memory: `${memoryOf(node)}Mi` } },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
      serviceAccountName: SERVICE_ACCOUNT,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      priorityClassName: settings.priorityClassName,
      terminationGracePeriodSeconds: GRACE_SECONDS,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: USER_ID,
        runAsGroup: USER_ID,
        seccompProfile: { type: 'RuntimeDefault' },
      },
    },
  };
}

/** MiB that the hold Pod of a node has to request. */
export function memoryOf(node: LambdaNode): number {
  return node.status?.capacity?.memoryMiB ?? 0;
}

/** The node of a hold Pod; undefined for a Pod that is none of ours. */
export function holdNodeOf(pod: Pod): string | undefined {
  return pod.metadata.ownerReferences?.find(({ kind }) => kind === lambdaNodes.kind)?.name;
}

/**
 * How a hold Pod is doing:
 * - `waiting`: the scheduler has not looked at it, or has found no room for it (`refusal`);
 * - `held`: its node counts its memory;
 * - `ended`: it has ended for good, as the kubelet does when it evicts or refuses a Pod;
 * - `evicted`: somebody has deleted it, and waits until the node has no workers;
 * - `leaving`: we have let it go.
 */
export type HoldState =
  | { readonly kind: 'waiting'; readonly refusal?: string }
  | { readonly kind: 'held' }
  | { readonly kind: 'ended'; readonly refusal: string }
  | { readonly kind: 'evicted' }
  | { readonly kind: 'leaving' };

/** The parts of a hold Pod that decisions depend on. */
export interface HoldView {
  readonly state: HoldState;
  /** Whether the finalizer delays the deletion of the Pod. */
  readonly guarded: boolean;
  /** The requested image; of a Pod without that annotation, its image. */
  readonly image: string;
  readonly memoryMiB: number;
}

export function isGuarded(pod: Pod): boolean {
  return pod.metadata.finalizers?.includes(HOLD_FINALIZER) === true;
}

function stateOf(pod: Pod): HoldState {
  const { status } = pod;
  if (pod.metadata.deletionTimestamp !== undefined) {
    return { kind: isGuarded(pod) ? 'evicted' : 'leaving' };
  }
  if (status?.phase === 'Failed' || status?.phase === 'Succeeded') {
    return { kind: 'ended', refusal: status.message ?? status.reason ?? `it has ended (${status.phase})` };
  }
  const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (pod.spec?.nodeName !== undefined || scheduled?.status === 'True') {
    return { kind: 'held' };
  }
  return scheduled?.reason === 'Unschedulable'
    ? { kind: 'waiting', refusal: scheduled.message ?? 'the scheduler finds no room for it' }
    : { kind: 'waiting' };
}

export function holdView(pod: Pod): HoldView {
  const container = pod.spec?.containers?.find(({ name }) => name === CONTAINER);
  return {
    state: stateOf(pod),
    guarded: isGuarded(pod),
    image: pod.metadata.annotations?.[IMAGE_ANNOTATION] ?? container?.image ?? '',
    memoryMiB: quantityToMiB(container?.resources?.requests?.memory, 0),
  };
}

/** Puts another image into a running hold Pod. Its memory stays reserved, unlike with a new Pod. */
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

/** Removes our finalizer from a hold Pod and leaves all others. */
export function releasePatch(pod: Pod): readonly object[] {
  const index = pod.metadata.finalizers?.indexOf(HOLD_FINALIZER) ?? 0;
  return [
    { op: 'test', path: '/metadata/uid', value: pod.metadata.uid },
    { op: 'test', path: `/metadata/finalizers/${index}`, value: HOLD_FINALIZER },
    { op: 'remove', path: `/metadata/finalizers/${index}` },
  ];
}
