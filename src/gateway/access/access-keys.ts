import { createHmac } from 'node:crypto';
import { BoundedMap } from '../../common/bounds/bounded-map.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Secret } from '../../kube/api/resource-types.ts';
import type { CacheEvent } from '../../kube/api/types.ts';
import type { Principal } from './principal.ts';

/** The group of every authenticated user, as in the API server. */
export const AUTHENTICATED_GROUP = 'system:authenticated';

/** Signing keys that are kept of one access key: few regions, and two days around midnight. */
const MAX_SIGNING_KEYS = 16;
/** Shortest secret that is taken, in characters. AWS's have 40. */
const MIN_SECRET_LENGTH = 16;
/** Most keys of one Secret, which itself is no larger than 1 MiB. */
const MAX_KEYS = 10_000;

/** How a key is written in the Secret: a JSON object under the key's id. */
type AccessKeyEntry = Partial<Record<'secretAccessKey' | 'sessionToken' | 'user' | 'groups' | 'expires', unknown>>;

/** A key that requests are signed with, and its principal. */
export interface AccessKey {
  readonly id: string;
  readonly principal: Principal;
  /** The token that has to accompany a signature by a temporary key. */
  readonly sessionToken: string | undefined;
  /** Milliseconds since the epoch when it stops being good; infinite for never. */
  readonly expiresAtMs: number;
  /** Derived once for a day, region and service. */
  signingKey(date: string, region: string, service: string): Buffer;
}

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

/**
 * Reads one entry of the Secret. Errors contain nothing of its value.
 *
 * @throws {EsbError} `InvalidAccessKey`
 */
export function parseAccessKey(id: string, value: string): AccessKey {
  const { secretAccessKey, sessionToken, user, groups = [], expires } = parseEntry(value);
  if (typeof secretAccessKey !== 'string' || secretAccessKey.length < MIN_SECRET_LENGTH) {
    throw invalid(`secretAccessKey must be a text of at least ${MIN_SECRET_LENGTH} characters`);
  }
  if (typeof user !== 'string' || user === '') {
    throw invalid('user must be the name of whom the key stands for');
  }
  if (!Array.isArray(groups) || !groups.every((group) => typeof group === 'string' && group !== '')) {
    throw invalid('groups must be a list of names');
  }
  if (sessionToken !== undefined && (typeof sessionToken !== 'string' || sessionToken === '')) {
    throw invalid('sessionToken must be a text');
  }
  const expiresAtMs =
    expires === undefined ? Number.POSITIVE_INFINITY : Date.parse(typeof expires === 'string' ? expires : '');
  if (Number.isNaN(expiresAtMs)) {
    throw invalid('expires must be a time such as 2030-01-31T12:00:00Z');
  }
  // Callers choose the region, and could make any number of keys.
  const signingKeys = new BoundedMap<string, Buffer>(MAX_SIGNING_KEYS);
  return {
    id,
    principal: {
      kind: 'AccessKey',
      accessKeyId: id,
      user,
      groups: [...new Set([...(groups as readonly string[]), AUTHENTICATED_GROUP])],
    },
    sessionToken,
    expiresAtMs,
    signingKey(date, region, service) {
      const scope = `${date}/${region}/${service}`;
      let key = signingKeys.get(scope);
      if (key === undefined) {
        key = deriveSigningKey(secretAccessKey, date, region, service);
        signingKeys.set(scope, key);
      }
      return key;
    },
  };
}

function parseEntry(value: string): AccessKeyEntry {
  let entry: unknown;
  try {
    entry = JSON.parse(value);
  } catch {
    // The message of the parser would repeat a part of the secret.
    throw invalid('it is not JSON');
  }
  if (typeof entry !== 'object' || entry === null) {
    throw invalid('it is not a JSON object');
  }
  return entry;
}

function invalid(message: string): EsbError {
  return new EsbError(message, { code: 'InvalidAccessKey' });
}

/** The key that signatures of one day, region and service are made with. */
export function deriveSigningKey(secret: string, date: string, region: string, service: string): Buffer {
  return [date, region, service, 'aws4_request'].reduce<Buffer>(
    (key, text) => createHmac('sha256', key).update(text).digest(),
    Buffer.from(`AWS4${secret}`),
  );
}
