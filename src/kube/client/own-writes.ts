import type { CallOptions } from '../../common/deadline.ts';
import { mayBeWritten } from '../api/api-error.ts';
import { keyText } from '../api/object-key.ts';
import { isGone } from '../api/resource-version.ts';
import type { FenceOptions, Informer, KubeClient, KubeObject, ObjectKey, ResourceType } from '../api/types.ts';
import { type WriteTarget, wrapWrites } from './wrapped-writes.ts';

/** Informer that takes in what this process writes. */
export interface OwnedCache<T extends KubeObject> {
  readonly type: ResourceType<T>;
  readonly informer: Pick<Informer<T>, 'cache' | 'removed' | 'written'>;
}

/** Options that the writes of all kinds share with those of one. */
interface AnyWriteOptions extends FenceOptions {
  readonly dryRun?: boolean;
}

/**
 * Client whose caches show each write as soon as its answer is here. A write without an answer leaves its object in doubt
 * until {@link settle}.
 *
 * Caches know versions: an answer never hides what a watch has told later, nor a watch what an answer has told.
 */
export class OwnWrites {
  readonly client: KubeClient;
  readonly #inner: KubeClient;
  readonly #caches: readonly OwnedCache<KubeObject>[];
  /** Writes without an answer, by kind and key. */
  readonly #doubts = new Map<string, WriteTarget>();

  constructor(client: KubeClient, caches: readonly OwnedCache<KubeObject>[]) {
    this.#inner = client;
    this.#caches = caches;
    this.client = wrapWrites(client, (options, send, target) =>
      (options as AnyWriteOptions | undefined)?.dryRun === true
        ? send(options as NonNullable<typeof options>)
        : this.#write(target, () => send(options as NonNullable<typeof options>)),
    );
  }

  /**
   * Reads each object that a write without an answer may have changed, so that caches show what became of the write: the
   * objects of this key, and those that are named after it with a dash, as the workers of a function are. A write that arrives
   * later still is told by the watch. Errors are those of the API server.
   */
  async settle({ name: owner, namespace }: ObjectKey, call: CallOptions): Promise<void> {
    for (const [path, doubt] of this.#doubts) {
      const { key } = doubt;
      const isOwned = key.name === owner || key.name.startsWith(`${owner}-`);
      if (key.namespace === namespace && isOwned) {
        await this.#settleOne(path, doubt, call);
      }
    }
  }

  async #settleOne(path: string, doubt: WriteTarget, call: CallOptions): Promise<void> {
    const { key, type } = doubt;
    // Of before the read, also where the write names none: an object that is not there is gone by then.
    const shown = this.#cachesOf(type).map(({ informer }) => informer.cache.get(key)?.metadata.uid);
    const present = await this.#inner.get(type, key, call);
    if (present !== undefined) {
      this.#written(type, present);
    }
    for (const uid of shown.filter((each) => each !== present?.metadata.uid)) {
      this.#removed(type, key, uid);
    }
    if (this.#doubts.get(path) === doubt) {
      this.#doubts.delete(path);
    }
  }

  async #write<T extends KubeObject | undefined>(target: WriteTarget, send: () => Promise<T>): Promise<T> {
    const { key, type, uid, verb } = target;
    try {
      const answer = await send();
      if (answer !== undefined && !isGone(answer)) {
        this.#written(type, answer);
      } else if (answer !== undefined || verb === 'delete') {
        this.#removed(type, key, answer?.metadata.uid ?? uid);
      }
      return answer;
    } catch (error) {
      if (this.#cachesOf(type).length > 0 && mayBeWritten(error)) {
        this.#doubts.set(`${type.group}/${type.plural} ${keyText(key)}`, target);
      }
      throw error;
    }
  }

  #written(type: ResourceType<KubeObject>, object: KubeObject): void {
    for (const { informer } of this.#cachesOf(type)) {
      informer.written(object);
    }
  }

  #removed(type: ResourceType<KubeObject>, key: ObjectKey, uid: string | undefined): void {
    if (uid === undefined) {
      return;
    }
    for (const { informer } of this.#cachesOf(type)) {
      informer.removed(key, uid);
    }
  }

  #cachesOf({ group, plural }: ResourceType<KubeObject>): readonly OwnedCache<KubeObject>[] {
    return this.#caches.filter(({ type }) => type.group === group && type.plural === plural);
  }
}
