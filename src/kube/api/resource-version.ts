import type { KubeObject } from './types.ts';

/**
 * Whether `a` is an older version of the object than `b`. Versions of one kind can be ordered since Kubernetes 1.35.
 */
export function isOlder(a: KubeObject, b: KubeObject): boolean {
  const [left, right] = [Number(a.metadata.resourceVersion), Number(b.metadata.resourceVersion)];
  return Number.isSafeInteger(left) && Number.isSafeInteger(right) && left < right;
}

/**
 * Whether an answer of the API server shows an object that is gone: some kinds are answered when they are deleted, and all
 * when their last finalizer is taken away.
 */
export function isGone({ metadata }: KubeObject): boolean {
  const { deletionGracePeriodSeconds = 0, deletionTimestamp, finalizers = [] } = metadata;
  return deletionTimestamp !== undefined && finalizers.length === 0 && deletionGracePeriodSeconds === 0;
}
