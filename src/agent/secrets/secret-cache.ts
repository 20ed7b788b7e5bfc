import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { type Clock, systemClock } from '../../common/clock.ts';
import { sleep, withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode, undefinedIfNoFile } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { isUnavailable } from '../../kube/api/api-error.ts';
import { secrets } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { SecretReader } from '../model/secret-reader.ts';

/** The service account of the agents, as the manifests have it. */
const agentServiceAccount = 'esb-agent';
/** The group of agents that are users, as in a local instance; no authenticator of a cluster gives it. */
const agentGroup = 'esb:agents';
/** The identity of agents at the API server. */
export type AgentSubject = { readonly kind: 'ServiceAccount'; readonly namespace: string } | { readonly kind: 'Users' };

/** The longest name of an object. */
const maxNameLength = 253;

interface SecretCacheOptions {
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
/** Milliseconds after a wait within {@link freshMs}: the answer then serves the next start. */
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

  const fileOf = ({ namespace, name }: SecretName): string =>
    join(folder, `${createHash('sha256').update(`${namespace}/${name}`).digest('hex')}.json`);

  /** The outcome of work on a kept Secret; undefined, with a warning, where the work fails. */
  const orWarning = async <T>(work: () => Promise<T>, { namespace, name }: SecretName, warning: string) => {
    try {
      return await work();
    } catch (error) {
      logger.warn({ err: error, namespace, secret: name }, warning);
      return undefined;
    }
  };

  const recall = async (file: string): Promise<Told> => {
    const text = await undefinedIfNoFile(readFile(file, 'utf8'));
    return text === undefined ? undefined : (JSON.parse(text) as EncodedData);
  };

  const remember = async (file: string, data: EncodedData): Promise<void> => {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeFileAtomically(file, JSON.stringify(data));
  };

  const forget = (secret: SecretName): Promise<void> =>
    orWarning(() => rm(fileOf(secret), { force: true }), secret, 'kept secret cannot be removed');

  /** The answer of the API server, which is kept; undefined, and forgotten, where there is no such Secret. */
  const ask = async (secret: SecretName, known: Told): Promise<Told> => {
    const file = fileOf(secret);
    try {
      const found = await client.get(secrets, secret, { deadlineMs: readDeadlineMs });
      checked.set(file, clock.monotonic());
      if (found === undefined) {
        absent.add(file);
        await forget(secret);
        return undefined;
      }
      absent.delete(file);
      const data = found.data ?? {};
      if (JSON.stringify(data) !== JSON.stringify(known)) {
        await orWarning(() => remember(file, data), secret, 'secret cannot be kept for later starts');
      }
      return data;
    } catch (error) {
      if (hasCode(error, 'Forbidden')) {
        absent.delete(file);
        await forget(secret);
        throw secretForbidden(secret, agents, error);
      }
      throw error;
    }
  };

  /** One request for concurrent readers, which goes on for the next start when no reader waits. */
  const askOnce = (secret: SecretName, known: Told): Promise<Told> => {
    const file = fileOf(secret);
    const asked = asking.get(file) ?? ask(secret, known).finally(() => asking.delete(file));
    asking.set(file, asked);
    asked.catch((error: unknown) => {
      logger.debug({ err: error, namespace: secret.namespace, secret: secret.name }, 'secret cannot be read');
    });
    return asked;
  };

  const read = async (secret: SecretName): Promise<Told> => {
    const { namespace, name } = secret;
    const file = fileOf(secret);
    const known = await orWarning(() => recall(file), secret, 'kept secret cannot be read');
    const asked = askOnce(secret, known);
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
      const files = new Set(wanted.map(fileOf));
      // Before the first read of a Secret there is no folder.
      const kept = (await undefinedIfNoFile(readdir(folder))) ?? [];
      const known = new Set([...checked.keys(), ...absent, ...kept.map((entry) => join(folder, entry))]);
      for (const file of known.difference(files)) {
        checked.delete(file);
        absent.delete(file);
        await rm(file, { force: true });
      }
    },
    async read(namespace, name, key, { signal, deadlineMs = readDeadlineMs } = {}) {
      const what = `reading the Secret ${namespace}/${name}`;
      const value = (await withDeadline(what, deadlineMs, signal, () => read({ namespace, name })))?.[key];
      return value === undefined ? undefined : Buffer.from(value, 'base64').toString();
    },
  };
}

/**
 * The error for a Secret that the agent may not read. Agents may read only the Secrets that the owner of a namespace
 * grants them one by one: the message names the missing Role and RoleBinding, and the way to make them.
 *
 * @param agents whom they are for: the agents' service account in that namespace, or users by certificate
 */
export function secretForbidden({ namespace, name }: SecretName, agents: AgentSubject, cause: unknown): EsbError {
  const role = `esb-secret-${name}`.slice(0, maxNameLength);
  return new EsbError(
    `the agent may not read the Secret ${namespace}/${name}: there is no Role with a RoleBinding in the namespace ` +
      `${namespace} that allows it. Make both, called ${role}: ` +
      `kubectl -n ${namespace} create role ${role} --verb=get --resource=secrets --resource-name=${name} && ` +
      `kubectl -n ${namespace} create rolebinding ${role} --role=${role} ` +
      (agents.kind === 'Users'
        ? `--group=${agentGroup}`
        : `--serviceaccount=${agents.namespace}:${agentServiceAccount}`),
    { code: 'SecretForbidden', cause },
  );
}
