import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { ImageRequest, PullSecrets, WorkerShape } from '../../runtime/contract/runtime.ts';
import type { DesiredVariable, DesiredWorker } from '../model/desired-worker.ts';
import type { SecretReader } from '../model/secret-reader.ts';

/** Key of a Secret of type kubernetes.io/dockerconfigjson. */
const dockerConfigKey = '.dockerconfigjson';
/** Key of a Secret of the older type kubernetes.io/dockercfg. */
const oldDockerConfigKey = '.dockercfg';

/**
 * Fills the values of Secrets into the description of a container. Pull secrets are read only for a pull.
 *
 * @throws {EsbError} `PolicyRefused` when the policy of workers lets no container be made
 * @throws {EsbError} `SecretMissing` when a Secret or key that is not optional does not exist, `SecretForbidden`
 *   when the agent may not read one, `SecretUnreadable` when the API could not be asked
 */
export async function resolveSecrets(
  desired: DesiredWorker,
  secrets: SecretReader,
  options: CallOptions = {},
): Promise<WorkerShape> {
  const { identity, permission } = desired;
  if (permission?.kind === 'Refused') {
    throw new EsbError(permission.message, { code: 'PolicyRefused' });
  }
  const { namespace } = identity;
  const read = (name: string, key: string): Promise<string | undefined> =>
    secrets.read(namespace, name, key, options).catch((error: unknown) => {
      if (hasCode(error, 'SecretForbidden')) {
        throw error;
      }
      const message = `cannot read the Secret ${namespace}/${name}: ${messageOf(error)}`;
      throw new EsbError(message, { code: 'SecretUnreadable', cause: error });
    });
  const env = await Promise.all(desired.env.map((variable) => resolveVariable(variable, namespace, read)));
  return {
    image: imageRequestOf(desired, secrets),
    command: desired.command,
    args: desired.args,
    ...(desired.handler === undefined ? {} : { handler: desired.handler }),
    env: env.filter((variable) => variable !== undefined),
    memoryMiB: desired.memoryMiB,
    ...(desired.milliCpu === undefined ? {} : { milliCpu: desired.milliCpu }),
    pids: desired.pids,
    ephemeralStorageMiB: desired.ephemeralStorageMiB,
    readOnlyRootFilesystem: desired.readOnlyRootFilesystem,
    timeoutSeconds: desired.timeoutSeconds,
    ...(desired.version === undefined ? {} : { version: desired.version }),
    ...(desired.perWorker === undefined ? {} : { perWorker: desired.perWorker }),
    ...(desired.logging === undefined ? {} : { logging: desired.logging }),
    runtimeInterface: desired.runtimeInterface,
    startupTimeoutSeconds: desired.startupTimeoutSeconds,
    port: desired.port,
    networkMode: desired.networkMode,
    ...(desired.egress === undefined ? {} : { egress: desired.egress }),
    terminationGraceSeconds: desired.terminationGraceSeconds,
  };
}

/** The image of a worker and the way to it. Nothing is read until the image is pulled. */
export function imageRequestOf(desired: DesiredWorker, secrets: SecretReader): ImageRequest {
  return {
    reference: desired.image,
    pullPolicy: desired.imagePullPolicy,
    ...(desired.imagePullSecrets.length === 0
      ? {}
      : {
          pullSecretNames: desired.imagePullSecrets,
          pullSecrets: (call) => readPullSecrets(desired, secrets, call),
        }),
  };
}

/**
 * The pull secrets of a worker. As with the kubelet, a missing one is left out: the image may be public.
 *
 * @throws {EsbError} `PullSecretForbidden` when the agent may not read one, `PullSecretUnreadable` when the API could not
 *   be asked
 */
async function readPullSecrets(
  desired: DesiredWorker,
  secrets: SecretReader,
  options: CallOptions,
): Promise<PullSecrets> {
  const { namespace } = desired.identity;
  const missing: string[] = [];
  const configs = await Promise.all(
    desired.imagePullSecrets.map(async (name) => {
      try {
        const config =
          (await secrets.read(namespace, name, dockerConfigKey, options)) ??
          inNewForm(await secrets.read(namespace, name, oldDockerConfigKey, options));
        if (config === undefined) {
          missing.push(name);
        }
        return config;
      } catch (error) {
        if (hasCode(error, 'Aborted')) {
          throw error;
        }
        if (hasCode(error, 'SecretForbidden')) {
          const message = `spec.imagePullSecrets: ${error.message}`;
          throw new EsbError(message, { code: 'PullSecretForbidden', retryable: true, cause: error });
        }
        const message = `cannot read the pull secret ${namespace}/${name}: ${messageOf(error)}`;
        throw new EsbError(message, { code: 'PullSecretUnreadable', retryable: true, cause: error });
      }
    }),
  );
  return { configs: configs.filter((config) => config !== undefined), missing };
}

/** A `.dockercfg` holds the content of today's `auths`. */
function inNewForm(oldConfig: string | undefined): string | undefined {
  return oldConfig === undefined ? undefined : `{"auths":${oldConfig}}`;
}

async function resolveVariable(
  variable: DesiredVariable,
  namespace: string,
  read: (name: string, key: string) => Promise<string | undefined>,
): Promise<{ name: string; value: string } | undefined> {
  if ('value' in variable) {
    return { name: variable.name, value: variable.value };
  }
  const { name, key, optional } = variable.secret;
  const value = await read(name, key);
  if (value !== undefined) {
    return { name: variable.name, value };
  }
  if (optional === true) {
    return undefined;
  }
  throw new EsbError(
    `the variable ${variable.name} needs the key ${key} of the Secret ${namespace}/${name}, which does not exist`,
    { code: 'SecretMissing' },
  );
}
