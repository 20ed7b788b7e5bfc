import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { type Clock, systemClock } from '../../common/clock.ts';
import { sleep, withDeadline } from '../../common/deadline.ts';
import { EsbError, errnoOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { isUnavailable } from '../../kube/api/api-error.ts';
import { secrets } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { SecretReader } from '../model/secret-reader.ts';
import { type AgentSubject, secretForbidden } from './secret-grant.ts';

export interface SecretCacheOptions {
  readonly client: Pick<KubeClient, 'get'>;
  /** Folder on tmpfs for the last values, used while the API server cannot be asked. */
  readonly folder: string;
  readonly agents: AgentSubject;
  readonly clock?: Clock;
  readonly logger: Logger;
}

export interface SecretName {
  readonly namespace: string;
  readonly name: string;
}

export interface SecretCache extends SecretReader {
  /** Forgets every Secret but these. */
  keepOnly(wanted: readonly SecretName[]): Promise<void>;
}

/** Values by key, in base64 as the API server gives them. */
type EncodedData = Readonly<Record<string, string>>;
type Told = EncodedData | undefined;

const readDeadlineMs = 10_000;
/** Milliseconds: a frozen API server must not keep a worker from its start when an earlier value will do. */
const knownDeadlineMs = 2_000;
/** The same after a wait within {@link freshMs}: the answer then serves the next start. */
const slowMs = 100;
const freshMs = 5 * 60_000;

/**
 * Reads Secrets from the API server; concurrent readers share one request. While the server is away or slow, a Secret
 * has its last value since the boot of the machine. A Secret that is gone, or may not be read any more, is forgotten at
 * once. A Secret that the agent may not read fails with `SecretForbidden`.
 */
export function createSecretCache(options: SecretCacheOptions): SecretCache {
  const { agents, client, clock = systemClock, folder, logger } = options;
  const asking = new Map<string, Promise<Told>>();
  /** Monotonic milliseconds of the last wait for the API server. */
  const checked = new Map<string, number>();
  /** Secrets that do not exist. */
  const absent = new Set<string>();

  const fileOf = (namespace: string, name: string): string =>
    join(folder, `${createHash('sha256').update(`${namespace}/${name}`).digest('hex')}.json`);

  const recall = async (namespace: string, name: string): Promise<EncodedData | undefined> => {
    try {
      return JSON.parse(await readFile(fileOf(namespace, name), 'utf8')) as EncodedData;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        logger.warn({ err: error, namespace, secret: name }, 'kept secret cannot be read');
      }
      return undefined;
    }
  };

  const remember = async (namespace: string, name: string, data: EncodedData): Promise<void> => {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await writeFileAtomically(fileOf(namespace, name), JSON.stringify(data));
    } catch (error) {
      logger.warn({ err: error, namespace, secret: name }, 'secret cannot be kept for later starts');
    }
  };

  const forget = async (namespace: string, name: string): Promise<void> => {
    try {
      await rm(fileOf(namespace, name), { force: true });
    } catch (error) {
      logger.warn({ err: error, namespace, secret: name }, 'kept secret cannot be removed');
    }
  };

  /** The answer of the API server, which is kept; undefined, and forgotten, where there is no such Secret. */
  const ask = async (namespace: string, name: string, known: EncodedData | undefined): Promise<Told> => {
    const file = fileOf(namespace, name);
    try {
      const secret = await client.get(secrets, { namespace, name }, { deadlineMs: readDeadlineMs });
      checked.set(file, clock.monotonic());
      if (secret === undefined) {
        absent.add(file);
        await forget(namespace, name);
        return undefined;
      }
      absent.delete(file);
      const data = secret.data ?? {};
      if (JSON.stringify(data) !== JSON.stringify(known)) {
        await remember(namespace, name, data);
      }
      return data;
    } catch (error) {
      if (error instanceof EsbError && error.code === 'Forbidden') {
        absent.delete(file);
        await forget(namespace, name);
        throw secretForbidden({ namespace, name }, agents, error);
      }
      throw error;
    }
  };

  /** One request for concurrent readers, which goes on for the next start when no reader waits. */
  const askOnce = (namespace: string, name: string, known: EncodedData | undefined): Promise<Told> => {
    const file = fileOf(namespace, name);
    const asked =
      asking.get(file) ??
      ask(namespace, name, known).finally(() => {
        asking.delete(file);
      });
    asking.set(file, asked);
    asked.catch((error: unknown) => {
      logger.debug({ err: error, namespace, secret: name }, 'secret cannot be read');
    });
    return asked;
  };

  const read = async (namespace: string, name: string): Promise<Told> => {
    const file = fileOf(namespace, name);
    const known = await recall(namespace, name);
    const asked = askOnce(namespace, name, known);
    if (known === undefined && !absent.has(file)) {
      return await asked;
    }
    const isFresh = clock.monotonic() < (checked.get(file) ?? Number.NEGATIVE_INFINITY) + freshMs;
    const patience = new AbortController();
    try {
      return await Promise.race([
        asked,
        sleep(clock, isFresh ? slowMs : knownDeadlineMs, patience.signal).then(() => {
          // A failed wait counts as well: a server that does not answer costs one start this long, and not each.
          checked.set(file, clock.monotonic());
          logger.info({ namespace, secret: name }, 'API server is slow; using the secret as read before');
          return known;
        }),
      ]);
    } catch (error) {
      if (isUnavailable(error)) {
        logger.info({ namespace, secret: name }, 'API server is away; using the secret as read before');
        return known;
      }
      throw error;
    } finally {
      patience.abort();
    }
  };

  return {
    async keepOnly(wanted) {
      const files = new Set(wanted.map(({ namespace, name }) => fileOf(namespace, name)));
      for (const file of [...checked.keys(), ...absent]) {
        if (!files.has(file)) {
          checked.delete(file);
          absent.delete(file);
        }
      }
      try {
        for (const entry of await readdir(folder)) {
          const file = join(folder, entry);
          if (!files.has(file)) {
            await rm(file, { force: true });
          }
        }
      } catch (error) {
        // Before the first read of a Secret there is no folder.
        if (errnoOf(error) !== 'ENOENT') {
          throw error;
        }
      }
    },
    async read(namespace, name, key, { signal, deadlineMs = readDeadlineMs } = {}) {
      const data = await withDeadline(`reading the Secret ${namespace}/${name}`, deadlineMs, signal, () =>
        read(namespace, name),
      );
      return data === undefined ? undefined : decoded(data, key);
    },
  };
}

function decoded(data: EncodedData, key: string): string | undefined {
  const value = data[key];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString();
}
