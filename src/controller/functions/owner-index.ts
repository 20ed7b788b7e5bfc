import { functionOwnerOf } from '../../api/lambda-function.ts';
import { keyText } from '../../kube/api/object-key.ts';
import type { KubeObject } from '../../kube/api/types.ts';

/** Index of the caches of workers and versions: by namespace and name of the LambdaFunction that owns them. */
export const OWNER_INDEX = 'function-owner';

export function ownerIndex({ metadata }: KubeObject): readonly string[] {
  const owner = functionOwnerOf(metadata);
  return owner === undefined ? [] : [keyText({ namespace: metadata.namespace, name: owner.name })];
}
