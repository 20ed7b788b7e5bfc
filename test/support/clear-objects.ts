import { hasCode } from '../../src/common/errors.ts';
import type { KubeClient, KubeObject, ResourceType } from '../../src/kube/api/types.ts';
import { waitFor } from './wait-for.ts';

/** Deletes all objects of a kind, those with finalizers as well, and those that a controller still makes meanwhile. */
export async function clearObjects<T extends KubeObject>(client: KubeClient, type: ResourceType<T>): Promise<void> {
  await waitFor(`the end of all ${type.plural}`, async () => {
    const { items } = await client.list(type);
    for (const { metadata } of items) {
      const { name, namespace } = metadata;
      const key = namespace === undefined ? { name } : { namespace, name };
      await client.delete(type, key);
      // Afterwards: an object that is being deleted gets no further finalizer.
      await client
        .patch(type, key, { kind: 'merge', body: { metadata: { finalizers: null } } })
        .catch((error: unknown) => {
          if (!hasCode(error, 'NotFound')) {
            throw error;
          }
        });
    }
    return items.length === 0;
  });
}
