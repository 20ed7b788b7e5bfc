import { createHmac } from 'node:crypto';
import { BoundedMap } from '../../common/bounds/bounded-map.ts';
import { EsbError } from '../../common/errors.ts';
import type { Principal } from './principal.ts';

/** The group of every authenticated user, as in the API server. */
export const AUTHENTICATED_GROUP = 'system:authenticated';

/** Signing keys that are kept of one access key: few regions, and two days around midnight. */
const MAX_SIGNING_KEYS = 16;
/** Shortest secret that is taken, in characters. AWS's have 40. */
const MIN_SECRET_LENGTH = 16;

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
