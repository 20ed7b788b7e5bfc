import type { KubeClient, KubeObject, ResourceType } from '../../src/kube/api/types.ts';

/** Deletes all objects of a kind, those with finalizers as well. */
export async function clearObjects<T extends KubeObject>(client: KubeClient, type: ResourceType<T>): Promise<void> {
  for (const { metadata } of (await client.list(type)).items) {
    const { name, namespace } = metadata;
    const key = namespace === undefined ? { name } : { namespace, name };
    if ((metadata.finalizers ?? []).length > 0) {
      await client.patch(type, key, { kind: 'merge', body: { metadata: { finalizers: null } } });
    }
    await client.delete(type, key);
  }
}
