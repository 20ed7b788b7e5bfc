import type { CallOptions } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';
import type { WorkerShape } from '../runtime/container-runtime.ts';
import type { DesiredVariable, DesiredWorker } from './desired-worker.ts';
import type { SecretReader } from './secret-reader.ts';

/** Key of a Secret of type kubernetes.io/dockerconfigjson. */
const dockerConfigKey = '.dockerconfigjson';

/**
 * Fills the values of Secrets into what forms a container.
 *
 * @throws {EsbError} `SecretMissing` when a Secret or key that is not optional does not exist, `SecretUnreadable` when
 *   the API could not be asked
 */
export async function resolveShape(
  desired: DesiredWorker,
  secrets: SecretReader,
  options: CallOptions = {},
): Promise<WorkerShape> {
  const { namespace } = desired.identity;
  const read = async (name: string, key: string): Promise<string | undefined> => {
    try {
      return await secrets.read(namespace, name, key, options);
    } catch (error) {
      throw new EsbError(`cannot read the Secret ${namespace}/${name}: ${messageOf(error)}`, {
        code: 'SecretUnreadable',
        retryable: true,
        cause: error,
      });
    }
  };
  const [env, dockerConfigs] = await Promise.all([
    Promise.all(desired.env.map((variable) => resolveVariable(variable, namespace, read))),
    // As with the kubelet, a pull secret that does not exist is left out: the image may be public.
    Promise.all(desired.imagePullSecrets.map((name) => read(name, dockerConfigKey))),
  ]);
  return {
    image: {
      reference: desired.image,
      pullPolicy: desired.imagePullPolicy,
      dockerConfigs: dockerConfigs.filter((config) => config !== undefined),
    },
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
    port: desired.port,
    networkMode: desired.networkMode,
    terminationGraceSeconds: desired.terminationGraceSeconds,
  };
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
    { code: 'SecretMissing', retryable: true },
  );
}
