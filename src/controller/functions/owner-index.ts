import { calledNameOf, FUNCTION_LABEL, functionOwnerOf, type LambdaFunction } from '../../api/lambda-function.ts';
import { functionNameOf, type LambdaWorker } from '../../api/lambda-worker.ts';
import { keyText } from '../../kube/api/object-key.ts';
import type { KubeObject } from '../../kube/api/types.ts';

/** Index of the caches of workers and versions: by namespace and name of the LambdaFunction that owns them. */
export const OWNER_INDEX = 'function-owner';

export function ownerIndex({ metadata }: KubeObject): readonly string[] {
  const owner = functionOwnerOf(metadata);
  return owner === undefined ? [] : [keyText({ namespace: metadata.namespace, name: owner.name })];
}

/** Index of the cache of versions: those without a controller, by namespace and the LambdaFunction that their label names. */
export const ORPHAN_INDEX = 'function-label';

export function orphanIndex({ metadata }: KubeObject): readonly string[] {
  const name = metadata.labels?.[FUNCTION_LABEL];
  const isOrphan = metadata.ownerReferences?.some(({ controller }) => controller === true) !== true;
  return name !== undefined && isOrphan ? [keyText({ namespace: metadata.namespace, name })] : [];
}

/** Whether a worker is one of those that a function keeps: by the uid, and of the same name for callers. */
export function isOwned(worker: LambdaWorker, owner: LambdaFunction): boolean {
  const { uid } = functionOwnerOf(worker.metadata) ?? {};
  return uid !== undefined && uid === owner.metadata.uid && functionNameOf(worker) === calledNameOf(owner);
}
