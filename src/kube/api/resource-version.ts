import type { KubeObject } from './types.ts';

/**
 * Whether `a` is an older version of the object than `b`. Versions of one kind can be ordered since Kubernetes 1.35.
 */
export function isOlder(a: KubeObject, b: KubeObject): boolean {
  const [left, right] = [Number(a.metadata.resourceVersion), Number(b.metadata.resourceVersion)];
  return Number.isSafeInteger(left) && Number.isSafeInteger(right) && left < right;
}
