import type { KubeObject, ObjectKey } from './types.ts';

/** Namespace and name of an object. */
export function objectKey(object: KubeObject): ObjectKey {
  const { namespace, name } = object.metadata;
  return { namespace, name };
}

/** `namespace/name`, or `name` of a cluster-scoped object: the form in which work queues hold keys. */
export function keyText(key: ObjectKey): string {
  return key.namespace === undefined ? key.name : `${key.namespace}/${key.name}`;
}

/** The reverse of {@link keyText}. */
export function parseKeyText(text: string): ObjectKey {
  const slash = text.indexOf('/');
  return slash < 0 ? { name: text } : { namespace: text.slice(0, slash), name: text.slice(slash + 1) };
}
