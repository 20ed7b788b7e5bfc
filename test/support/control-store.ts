import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import type { ControlClient } from '../../src/gateway/control/function-writer.ts';
import { ApiError } from '../../src/kube/api/api-error.ts';
import type { KubeObject, ObjectKey, PatchBody, ResourceType, WriteOptions } from '../../src/kube/api/types.ts';
import type { FakeInformer } from './fake-informer.ts';
import { functionFixture } from './function-fixture.ts';

type Json = Record<string, unknown>;

/** One request to the API server. */
export interface Asked {
  readonly verb: 'get' | 'patch' | 'delete';
  readonly plural: string;
  readonly name: string;
  readonly patch?: PatchBody;
}

/** The objects of an API server, as an account that writes functions reaches them; informers hear of each change. */
export interface ControlStore extends ControlClient {
  readonly asked: readonly Asked[];
  /** Called before the next write is done, once. */
  beforeWrite: (() => void) | undefined;
  /** Thrown by every request, while there is one. */
  failure: Error | undefined;
}

/** Fills in the defaults of the schema, and counts generations. Applies are creations. */
export function controlStore(informers: Readonly<Record<string, FakeInformer<never>>>): ControlStore {
  let version = 100;
  const asked: Asked[] = [];
  const informerOf = ({ plural }: ResourceType<KubeObject>): FakeInformer<KubeObject> => {
    const informer = informers[plural];
    if (informer === undefined) {
      throw new Error(`no informer of ${plural}`);
    }
    return informer as unknown as FakeInformer<KubeObject>;
  };
  const ask = (verb: Asked['verb'], { plural }: ResourceType<KubeObject>, { name }: ObjectKey, patch?: PatchBody) => {
    asked.push({ verb, plural, name, ...(patch === undefined ? {} : { patch }) });
    if (store.failure !== undefined) {
      throw store.failure;
    }
    if (verb !== 'get') {
      const before = store.beforeWrite;
      store.beforeWrite = undefined;
      before?.();
    }
  };
  const created = (key: ObjectKey, body: Json): KubeObject => {
    version += 1;
    const { spec = {}, metadata } = body as { readonly spec?: Json; readonly metadata?: Json };
    const usual = functionFixture({ name: key.name, minWorkers: 1 });
    return {
      ...usual,
      metadata: {
        ...usual.metadata,
        ...metadata,
        uid: `uid-${version}`,
        resourceVersion: String(version),
        creationTimestamp: '2026-11-01T00:00:00Z',
      },
      spec: merged(usual.spec, spec) as unknown as LambdaFunction['spec'],
    } as KubeObject;
  };
  const store: ControlStore = {
    asked,
    beforeWrite: undefined,
    failure: undefined,
    async get<T extends KubeObject>(type: ResourceType<T>, key: ObjectKey) {
      ask('get', type, key);
      return informerOf(type).cache.get(key) as T | undefined;
    },
    async patch<T extends KubeObject>(
      type: ResourceType<T>,
      key: ObjectKey,
      patch: PatchBody,
      options: WriteOptions = {},
    ) {
      ask('patch', type, key, patch);
      const informer = informerOf(type);
      const keep = (object: KubeObject): void => {
        if (options.dryRun !== true) {
          informer.put(object);
        }
      };
      const present = informer.cache.get(key) as (KubeObject & { readonly spec?: unknown }) | undefined;
      const body = patch.body as Json;
      if (present === undefined) {
        const made = created(key, body);
        keep(made);
        return made as T;
      }
      const wanted = (body.metadata as Json | undefined)?.resourceVersion;
      if (wanted !== undefined && wanted !== present.metadata.resourceVersion) {
        throw new ApiError('the object has been modified', { code: 'Conflict', status: 409 });
      }
      version += 1;
      const next = merged(present, body) as unknown as KubeObject & { readonly spec?: unknown };
      const isSame = JSON.stringify(next.spec) === JSON.stringify(present.spec);
      const generation = (present.metadata.generation ?? 1) + (isSame ? 0 : 1);
      const written = { ...next, metadata: { ...next.metadata, resourceVersion: String(version), generation } };
      keep(written);
      return written as unknown as T;
    },
    async delete(type, key, { resourceVersion, uid } = {}) {
      ask('delete', type, key);
      const { metadata } = informerOf(type).cache.get(key) ?? {};
      const isOther = (wanted: string | undefined, present: string | undefined): boolean =>
        wanted !== undefined && wanted !== present;
      if (isOther(uid, metadata?.uid) || isOther(resourceVersion, metadata?.resourceVersion)) {
        throw new ApiError('the precondition does not hold', { code: 'Conflict', status: 409 });
      }
      informerOf(type).remove(key);
    },
  };
  return store;
}

/** By RFC 7396. */
function merged(target: object, patch: object): Json {
  const result: Json = { ...(target as Json) };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null || value === undefined) {
      delete result[name];
    } else if (typeof value === 'object' && !Array.isArray(value)) {
      const before = result[name];
      result[name] = merged(typeof before === 'object' && before !== null ? before : {}, value);
    } else {
      result[name] = value;
    }
  }
  return result;
}
