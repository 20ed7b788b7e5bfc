import { calledNameOf, isElder, type LambdaFunction } from '../../api/lambda-function.ts';
import { keyText } from '../../kube/api/object-key.ts';
import type { Informer } from '../../kube/api/types.ts';

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
