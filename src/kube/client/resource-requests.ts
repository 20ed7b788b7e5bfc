import { unreachable } from '../../common/errors.ts';
import { keyText, objectKey } from '../api/object-key.ts';
import { apiVersionOf, collectionPath, objectPath, queryText, selectors } from '../api/resource-path.ts';
import type { KubeObject, ListParameters, ObjectKey, PatchBody, ResourceType } from '../api/types.ts';
import type { KubeRequest } from './transport.ts';

const JSON_TYPE = 'application/json';

/** The requests about one kind of object. */
export class ResourceRequests<T extends KubeObject> {
  readonly #type: ResourceType<T>;

  constructor(type: ResourceType<T>) {
    this.#type = type;
  }

  get(key: ObjectKey): KubeRequest {
    return { what: this.#describe('get', key), method: 'GET', path: objectPath(this.#type, key, undefined) };
  }

  list(
    parameters: ListParameters,
    page: { readonly limit: number | undefined; readonly continue: string | undefined },
  ): KubeRequest {
    return this.#read('list', parameters, { ...page });
  }

  watch(
    parameters: ListParameters & { readonly resourceVersion: string; readonly timeoutSeconds: number },
  ): KubeRequest {
    const { resourceVersion, timeoutSeconds } = parameters;
    const query = { watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds };
    return this.#read('watch', parameters, query);
  }

  create(object: T): KubeRequest {
    return {
      what: this.#describe('create', objectKey(object)),
      method: 'POST',
      path: collectionPath(this.#type, object.metadata.namespace),
      body: JSON.stringify(this.#typed(object)),
      contentType: JSON_TYPE,
    };
  }

  update(object: T, subresource: string | undefined): KubeRequest {
    const key = objectKey(object);
    return {
      what: this.#describe('update', key),
      method: 'PUT',
      path: objectPath(this.#type, key, subresource),
      body: JSON.stringify(this.#typed(object)),
      contentType: JSON_TYPE,
    };
  }

  patch(key: ObjectKey, patch: PatchBody, subresource: string | undefined): KubeRequest {
    const { fieldManager } = patch;
    const query = queryText(patch.kind === 'apply' ? { fieldManager, force: true } : { fieldManager });
    return {
      what: this.#describe('patch', key),
      method: 'PATCH',
      path: `${objectPath(this.#type, key, subresource)}${query}`,
      ...this.#patchContent(key, patch),
    };
  }

  /** @param uid deletes only the object with this uid */
  delete(key: ObjectKey, uid: string | undefined): KubeRequest {
    return {
      what: this.#describe('delete', key),
      method: 'DELETE',
      path: objectPath(this.#type, key, undefined),
      body: JSON.stringify({
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        ...(uid === undefined ? {} : { preconditions: { uid } }),
      }),
      contentType: JSON_TYPE,
    };
  }

  #read(
    verb: string,
    parameters: ListParameters,
    query: Readonly<Record<string, string | number | boolean | undefined>>,
  ): KubeRequest {
    const text = queryText({ ...selectors(parameters), ...query });
    return {
      what: this.#describe(verb),
      method: 'GET',
      path: `${collectionPath(this.#type, parameters.namespace)}${text}`,
    };
  }

  #patchContent(key: ObjectKey, patch: PatchBody): Pick<KubeRequest, 'body' | 'contentType'> {
    switch (patch.kind) {
      case 'merge':
        return { contentType: 'application/merge-patch+json', body: JSON.stringify(patch.body) };
      case 'json':
        return { contentType: 'application/json-patch+json', body: JSON.stringify(patch.body) };
      case 'apply': {
        const { metadata, ...rest } = patch.body as { readonly metadata?: object };
        const body = { ...this.#typed(rest), metadata: { ...key, ...metadata } };
        // JSON is YAML; every version of the API server knows this type.
        return { contentType: 'application/apply-patch+yaml', body: JSON.stringify(body) };
      }
      default:
        return unreachable(patch);
    }
  }

  /** Objects out of a list of a built-in kind carry no kind; the server wants one on every write. */
  #typed(object: object): object {
    return { apiVersion: apiVersionOf(this.#type), kind: this.#type.kind, ...object };
  }

  #describe(verb: string, key?: ObjectKey): string {
    return `${verb} ${this.#type.plural}${key === undefined ? '' : ` ${keyText(key)}`}`;
  }
}
