import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Secret } from '../../kube/api/resource-types.ts';
import type { CacheEvent } from '../../kube/api/types.ts';
import { type AccessKey, parseAccessKey } from './access-key.ts';

/** Most keys of one Secret, which itself is no larger than 1 MiB. */
const MAX_KEYS = 10_000;

/**
 * The access keys of a Secret, as last watched. Invalid entries are skipped and logged by their id alone; the others
 * stay valid.
 */
export class AccessKeys {
  readonly #logger: Logger;
  #keys: ReadonlyMap<string, AccessKey> = new Map();
  /** The text that each key was read from, so that one that did not change stays the object that it was. */
  #texts: ReadonlyMap<string, string> = new Map();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get size(): number {
    return this.#keys.size;
  }

  get(id: string): AccessKey | undefined {
    return this.#keys.get(id);
  }

  apply(event: CacheEvent<Secret>): void {
    const data = event.kind === 'deleted' ? {} : (event.object.data ?? {});
    const keys = new Map<string, AccessKey>();
    const texts = new Map<string, string>();
    for (const [id, text] of Object.entries(data).slice(0, MAX_KEYS)) {
      const known = this.#texts.get(id) === text ? this.#keys.get(id) : undefined;
      try {
        keys.set(id, known ?? parseAccessKey(id, Buffer.from(text, 'base64').toString('utf8')));
        texts.set(id, text);
      } catch (error) {
        this.#logger.warn({ accessKeyId: id, reason: messageOf(error) }, 'access key in the Secret is invalid');
      }
    }
    this.#keys = keys;
    this.#texts = texts;
    this.#logger.info({ accessKeys: keys.size }, 'read the access keys');
  }
}
