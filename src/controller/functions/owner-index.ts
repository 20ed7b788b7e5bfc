import {
  calledNameOf,
  FUNCTION_LABEL,
  functionOwnerOf,
  isElder,
  type LambdaFunction,
} from '../../api/lambda-function.ts';
import { functionNameOf, type LambdaWorker } from '../../api/lambda-worker.ts';
import { keyText } from '../../kube/api/object-key.ts';
import type { Informer, KubeObject } from '../../kube/api/types.ts';

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

/** Index of the cache of functions: by namespace and by the name that callers write. */
export const CALLED_INDEX = 'called-name';

export function calledIndex(owner: LambdaFunction): readonly string[] {
  return [keyText({ namespace: owner.metadata.namespace, name: calledNameOf(owner) })];
}

type Functions = Pick<Informer<LambdaFunction>, 'cache'>;

/** The functions that callers name as they do this one, which is among them as long as it is there. */
export function namesakesOf(owner: LambdaFunction, { cache }: Functions): readonly LambdaFunction[] {
  return calledIndex(owner).flatMap((name) => cache.byIndex(CALLED_INDEX, name));
}

/** Name of the function that has the name for callers in place of this one; undefined where this one has it. */
export function otherHolderOf(owner: LambdaFunction, functions: Functions): string | undefined {
  const oldest = namesakesOf(owner, functions).reduce((one, other) => (isElder(other, one) ? other : one), owner);
  return oldest.metadata.uid === owner.metadata.uid ? undefined : oldest.metadata.name;
}
