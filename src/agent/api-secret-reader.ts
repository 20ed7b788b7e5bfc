import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../common/atomic-file.ts';
import { EsbError, errnoOf } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { isUnavailable } from '../kube/api-error.ts';
import { secrets } from '../kube/resource-types.ts';
import type { KubeClient } from '../kube/types.ts';
import { type AgentSubject, secretForbidden } from './secret-grant.ts';
import type { SecretReader } from './secret-reader.ts';

export interface ApiSecretReaderOptions {
  readonly client: Pick<KubeClient, 'get'>;
  /** Folder on tmpfs: what was read last, for as long as the API server cannot be asked. */
  readonly folder: string;
  readonly agents: AgentSubject;
  readonly logger: Logger;
}

export interface SecretName {
  readonly namespace: string;
  readonly name: string;
}

export interface ApiSecretReader extends SecretReader {
  /** Forgets every Secret but these. */
  keepOnly(wanted: readonly SecretName[]): Promise<void>;
}

/** Values by key, in base64 as the API server gives them. */
type EncodedData = Readonly<Record<string, string>>;

const readDeadlineMs = 10_000;
/** A frozen API server must not keep a worker from its start when what was read before will do. */
const knownDeadlineMs = 2_000;

/**
 * Reads Secrets from the API server, and while that is away, as they were read last since the machine was booted. One
 * that is gone, or may not be read any more, is forgotten at once. `SecretForbidden` is the code where the agent may not
 * read one.
 */
export function createApiSecretReader(options: ApiSecretReaderOptions): ApiSecretReader {
  const { agents, client, folder, logger } = options;

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

  return {
    async keepOnly(wanted) {
      const files = new Set(wanted.map(({ namespace, name }) => fileOf(namespace, name)));
      try {
        for (const entry of await readdir(folder)) {
          const file = join(folder, entry);
          if (!files.has(file)) {
            await rm(file, { force: true });
          }
        }
      } catch (error) {
        // Where no Secret was ever read there is no folder.
        if (errnoOf(error) !== 'ENOENT') {
          throw error;
        }
      }
    },
    async read(namespace, name, key, { signal, deadlineMs = readDeadlineMs } = {}) {
      const known = await recall(namespace, name);
      try {
        const secret = await client.get(
          secrets,
          { namespace, name },
          { signal, deadlineMs: known === undefined ? deadlineMs : Math.min(deadlineMs, knownDeadlineMs) },
        );
        if (secret === undefined) {
          await forget(namespace, name);
          return undefined;
        }
        const data = secret.data ?? {};
        if (JSON.stringify(data) !== JSON.stringify(known)) {
          await remember(namespace, name, data);
        }
        return decoded(data, key);
      } catch (error) {
        if (known !== undefined && isUnavailable(error)) {
          logger.info({ namespace, secret: name }, 'API server is away; using the secret as read before');
          return decoded(known, key);
        }
        if (error instanceof EsbError && error.code === 'Forbidden') {
          await forget(namespace, name);
          throw secretForbidden({ namespace, name }, agents, error);
        }
        throw error;
      }
    },
  };
}

function decoded(data: EncodedData, key: string): string | undefined {
  const value = data[key];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString();
}
