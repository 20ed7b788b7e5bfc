import { type LambdaFunction, lambdaFunctions } from '../../api/lambda-function.ts';
import type { LambdaWorkerSpec } from '../../api/lambda-worker.ts';
import { API_GROUP, API_VERSION } from '../../api/name.ts';
import { EsbError } from '../../common/errors.ts';
import { isOwnField, ownFields } from './own-fields.ts';

/** The settings of a function that a user may name. An absent one is left as it is. */
export interface FunctionSettings {
  readonly memory?: string | undefined;
  readonly timeoutSeconds?: number | undefined;
  readonly minWorkers?: number | undefined;
  readonly maxWorkers?: number | undefined;
  readonly desiredState?: LambdaWorkerSpec['desiredState'] | undefined;
  /** Names of Secrets with the nodes' credentials for the image. */
  readonly pullSecrets?: readonly string[] | undefined;
}

/** The part of a function that comes from its folder. */
export interface DeployedCode {
  readonly namespace: string;
  readonly name: string;
  /** By digest. */
  readonly image: string;
  readonly handler: string | undefined;
}

/** Settings by the names of their flags. */
const settingOf: ReadonlyMap<string, keyof FunctionSettings> = new Map([
  ['memory', 'memory'],
  ['timeout', 'timeoutSeconds'],
  ['workers', 'minWorkers'],
  ['max-workers', 'maxWorkers'],
  ['desired-state', 'desiredState'],
  ['pull-secret', 'pullSecrets'],
]);

/**
 * The settings that a deploy takes away.
 *
 * @param flags names of the flags that have set them
 * @param named the settings that this deploy makes
 * @throws {EsbError} `InvalidArgument` for another name, and for a setting that is made as well
 */
export function unsetSettings(flags: readonly string[], named: FunctionSettings): readonly (keyof FunctionSettings)[] {
  return flags.map((flag) => {
    const setting = settingOf.get(flag);
    if (setting === undefined) {
      throw new EsbError(`--unset ${flag}: name ${[...settingOf.keys()].join(', ')}`, { code: 'InvalidArgument' });
    }
    if (named[setting] !== undefined) {
      throw new EsbError(`--${flag} and --unset ${flag} exclude each other`, { code: 'InvalidArgument' });
    }
    return setting;
  });
}

/** A new function rests frozen: not even its first call waits for its code to be loaded. */
const ofNewFunctions: FunctionSettings = { desiredState: 'Paused' };

/**
 * A name for a function, from the name of its folder.
 *
 * @throws {EsbError} `InvalidArgument` for a name that neither Kubernetes nor callers could write
 */
export function functionNameFrom(given: string | undefined, folderName: string): string {
  const name =
    given ??
    folderName
      .toLowerCase()
      .replaceAll(/[^a-z0-9-]+/g, '-')
      .replaceAll(/^-+|-+$/g, '');
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name)) {
    throw new EsbError(
      given === undefined
        ? `the folder's name ${folderName} makes no name of a function: name it with --name`
        : `--name ${given} is not a name: up to 63 lower-case letters, digits and '-', with neither '-' at an end`,
      { code: 'InvalidArgument' },
    );
  }
  return name;
}

/**
 * The object to apply by server-side apply: what comes from the folder, and the settings that are named now or that an
 * earlier deploy has set and no other manager has taken over since. An apply removes what the earlier one had and it has not.
 *
 * @param present the function as it is; undefined for a new one
 * @param unset settings that are left to the API server's defaults
 */
export function functionObject(
  { handler, image, name, namespace }: DeployedCode,
  named: FunctionSettings,
  present: LambdaFunction | undefined,
  unset: readonly (keyof FunctionSettings)[] = [],
): object {
  const kept = present === undefined ? ofNewFunctions : ownSettings(present);
  const wanted: FunctionSettings = { ...kept, ...defined(named) };
  const { desiredState, maxWorkers, memory, minWorkers, pullSecrets, timeoutSeconds }: FunctionSettings =
    Object.fromEntries(Object.entries(wanted).filter(([setting]) => !unset.some((each) => each === setting)));
  const scaling = defined({ minWorkers, maxWorkers });
  return {
    apiVersion: `${API_GROUP}/${API_VERSION}`,
    kind: lambdaFunctions.kind,
    metadata: { name, namespace },
    spec: {
      template: {
        spec: {
          image,
          ...defined({ handler, timeoutSeconds, desiredState }),
          ...(memory === undefined ? {} : { resources: { limits: { memory } } }),
          ...(pullSecrets === undefined ? {} : { imagePullSecrets: pullSecrets.map((secret) => ({ name: secret })) }),
        },
      },
      ...(Object.keys(scaling).length === 0 ? {} : { scaling }),
    },
  };
}

/** The settings of a function that are ours, by the record that the API server keeps of managers and their fields. */
function ownSettings(present: LambdaFunction): FunctionSettings {
  const { spec } = present;
  const ours = ownFields(present);
  const owns = (...path: readonly string[]): boolean => isOwnField(ours, ...path);
  const worker = spec.template.spec;
  const template = ['spec', 'template', 'spec'];
  return defined({
    memory: owns(...template, 'resources', 'limits', 'memory') ? String(worker.resources?.limits?.memory) : undefined,
    timeoutSeconds: owns(...template, 'timeoutSeconds') ? worker.timeoutSeconds : undefined,
    desiredState: owns(...template, 'desiredState') ? worker.desiredState : undefined,
    minWorkers: owns('spec', 'scaling', 'minWorkers') ? spec.scaling.minWorkers : undefined,
    maxWorkers: owns('spec', 'scaling', 'maxWorkers') ? spec.scaling.maxWorkers : undefined,
    pullSecrets: owns(...template, 'imagePullSecrets')
      ? worker.imagePullSecrets?.map((secret) => secret.name)
      : undefined,
  });
}

/** Without members that are undefined. */
function defined<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}
