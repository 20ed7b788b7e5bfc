import { functionOwnerOf, lambdaFunctions } from '../../api/lambda-function.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { keyText, objectKey, parseKeyText } from '../../kube/api/object-key.ts';
import type { KubeClient, KubeObject, ResourceType } from '../../kube/api/types.ts';
import { isLiving } from './readiness.ts';
import { inTurns, type WriteOutcome } from './write-outcome.ts';

/**
 * Deletes objects of a function that is gone, or was made again under its name. Each goes only as the cache shows it: the
 * garbage collector takes the reference of an orphan away before its owner goes.
 *
 * @param key of the function
 * @param uid of the function as the cache has it; undefined for none
 * @param objects those that name a function of the key as their owner
 */
export async function removeStrays<T extends KubeObject>(
  { client, logger }: { readonly client: Pick<KubeClient, 'delete' | 'get'>; readonly logger: Logger },
  type: ResourceType<T>,
  key: string,
  uid: string | undefined,
  objects: readonly T[],
  call: CallOptions,
): Promise<WriteOutcome[]> {
  const strays = objects.filter((object) => isLiving(object) && functionOwnerOf(object.metadata)?.uid !== uid);
  // The cache of functions may be behind that of the objects, and no cache tells that there is no function.
  const owner = strays.length === 0 ? undefined : await client.get(lambdaFunctions, parseKeyText(key), call);
  return await inTurns(strays, async ({ metadata }) => {
    if (functionOwnerOf(metadata)?.uid === owner?.metadata.uid) {
      return 'behind';
    }
    const { resourceVersion } = metadata;
    await client.delete(type, objectKey({ metadata }), { ...call, uid: metadata.uid, resourceVersion });
    const object = `${type.kind} ${keyText(objectKey({ metadata }))}`;
    logger.info({ object, function: key }, 'object deleted, since its function is gone');
    return undefined;
  });
}
