import type { KubeObject, ObjectKey, ResourceType } from './types.ts';

/** `group/version`, or the version alone of the core group. */
export function apiVersionOf(type: ResourceType<KubeObject>): string {
  return type.group === '' ? type.version : `${type.group}/${type.version}`;
}

/** Path of a kind of object, of one namespace or of all. */
export function collectionPath(type: ResourceType<KubeObject>, namespace: string | undefined): string {
  const root = `/${type.group === '' ? 'api' : 'apis'}/${apiVersionOf(type)}`;
  const scope = type.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${root}${scope}/${type.plural}`;
}

/** Path of one object, or of a subresource of it. */
export function objectPath(type: ResourceType<KubeObject>, key: ObjectKey, subresource?: string): string {
  const path = `${collectionPath(type, key.namespace)}/${encodeURIComponent(key.name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}

/** `?a=b` for what is set, or nothing. */
export function queryText(parameters: Readonly<Record<string, string | number | boolean | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== '') {
      query.set(name, String(value));
    }
  }
  const text = query.toString();
  return text === '' ? '' : `?${text}`;
}
