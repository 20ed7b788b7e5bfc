import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { type LambdaFunction, lambdaFunctions } from '../../api/lambda-function.ts';
import { fieldManagers } from '../../api/name.ts';
import { EsbError, errnoOf, hasCode, messageOf } from '../../common/errors.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { linuxPlatform } from '../../oci/image-config.ts';
import { parseImageReference } from '../../oci/image-reference.ts';
import { RegistryClient } from '../../oci/registry-client.ts';
import { type BaseImage, checkEntrypoint, emptyBase, NO_BASE, readBaseImage } from '../build/base-image.ts';
import { buildImage } from '../build/build-image.ts';
import type { FunctionImage } from '../build/function-image.ts';
import { handlerOf, type Language, languageOf } from '../build/language.ts';
import { type PushSource, pushImage } from '../build/push-image.ts';
import { findLogin } from '../build/registry-login.ts';
import type { CommandContext } from '../command-context.ts';
import { runInvoke } from '../invoke.ts';
import { withKubeClient } from '../kube-client.ts';
import { createProgress, type Progress } from '../progress.ts';
import {
  type DeployedCode,
  type FunctionSettings,
  functionNameFrom,
  functionObject,
  unsetSettings,
} from './function-object.ts';
import { untilCurrent } from './function-wait.ts';
import { callText, usualGateway } from './gateway-address.ts';
import { DEPLOY_MANAGER } from './own-fields.ts';
import { baseNameOf, plainHttpWith, type Repository, repositoryOf } from './place.ts';
import { checkReplacement, replacedText } from './replacement.ts';

export interface DeployOptions {
  readonly folder: string;
  /** Image that the function is put on. Default: nothing for Go, else that of the local instance. */
  readonly base?: string;
  /** `FILE.FUNCTION`. Default: the usual one of its language. */
  readonly handler?: string;
  /** Default: by the files in the folder. */
  readonly language?: Language;
  /** Default: the name of the folder. */
  readonly name?: string;
  readonly namespace: string;
  /** Repository for the image. Default: one in the registry of the local instance. */
  readonly push?: string;
  readonly memory?: string;
  /** Seconds that a call may take. */
  readonly timeout?: number;
  readonly workers?: number;
  readonly maxWorkers?: number;
  readonly desiredState?: FunctionSettings['desiredState'];
  /** Names of Secrets with the nodes' credentials for the image. */
  readonly pullSecret?: readonly string[];
  /** Flags of settings that an earlier deploy has made, and that are left to the defaults from now on. */
  readonly unset?: readonly string[];
  /** Processor as images name it. Default: that of this machine. */
  readonly architecture?: string;
  readonly pythonVersion?: string;
  readonly plainHttp: boolean;
  readonly forceConflicts: boolean;
  /** Seconds of wait until the function is up to date. */
  readonly wait: number;
  /** Payload of one call at the end. */
  readonly invoke?: string;
  readonly gateway?: string;
  readonly kubeconfig?: string;
}

/** Decisions of a deploy that need neither a registry nor a build. */
interface Plan {
  readonly folder: string;
  readonly names: readonly string[];
  readonly language: Language;
  readonly handler: string | undefined;
  readonly name: string;
  readonly baseName: string;
  readonly target: Repository;
  readonly architecture: string;
}

interface ImagePlan extends Plan {
  /** Whether the function has a command of its own, which stands for the entrypoint of its base. */
  readonly hasCommand: boolean;
}

/**
 * Makes an image of a folder with a function, pushes it, applies the LambdaFunction, and waits until that is up to date.
 *
 * @returns the exit code: 0, or that of the call at the end
 * @throws {EsbError} with the way out in its message: `InvalidArgument`, `ProgramMissing`, `CommandFailed`, errors of
 *   registries, `NotFound`, `Forbidden`, `Conflict` and `Invalid` of the API server, `NotDeployed`
 */
export async function runDeploy(options: DeployOptions, context: CommandContext): Promise<number> {
  const { signal, write } = context;
  const progress = createProgress({ write });
  checkPayload(options.invoke);
  const instance = await instanceOf(options, context);
  const plan = await planOf(options, instance?.registry);
  settingsOf(options);
  const usual = usualGateway(instance?.gateway, options.namespace);
  const gateway = options.gateway ?? usual;
  if (options.invoke !== undefined && gateway === undefined) {
    throw new EsbError(
      `name the address of a gateway of the namespace ${options.namespace} with --gateway: --invoke calls the function ` +
        'there',
      { code: 'InvalidArgument' },
    );
  }
  const functionName = await withKubeClient(DEPLOY_MANAGER, options, context, async (client) => {
    const applied = await deployImage(client, plan, options, progress, signal);
    const name = applied.spec.functionName ?? plan.name;
    progress.say(callText(name, gateway, gateway === usual));
    return name;
  });
  if (options.invoke === undefined) {
    return 0;
  }
  return runInvoke(
    {
      functionName,
      payload: options.invoke,
      ...(options.gateway === undefined ? {} : { gateway: options.gateway }),
      type: 'RequestResponse',
      event: false,
      stream: false,
      tail: false,
    },
    context,
  );
}

/** Builds and pushes the image, applies the function, and waits for it. Returns the function as it was applied. */
async function deployImage(
  client: KubeClient,
  plan: Plan,
  options: DeployOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<LambdaFunction> {
  const staging = await mkdtemp(join(tmpdir(), 'esb-deploy-'));
  try {
    // First of all: a cluster without the resource, or a user without the right, is refused before anything is built.
    const present = await lookAt(client, plan.name, options, signal);
    checkReplacement(present, { ...plan, namespace: options.namespace }, options.name !== undefined);
    const hasCommand = (present?.spec.template.spec.command ?? []).length > 0;
    const image = await imageOf({ ...plan, hasCommand }, options, staging, progress, signal);
    const reference = `${plan.target.registry}/${plan.target.repository}@${image.digest}`;
    const { applied, isSame } = await progress.step(
      `applying LambdaFunction ${options.namespace}/${plan.name}${replacedText(present, reference)}`,
      () => applyFunction(client, { ...plan, image: reference }, options, signal),
    );
    await progress.step('waiting until the function is up to date', (step) =>
      untilCurrent(client, applied, { step, waitMs: options.wait * 1_000, signal }),
    );
    progress.say(isSame ? `\n${plan.name} is as it was: nothing has changed.` : `\n${plan.name} is up to date.`);
    return applied;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** @throws {EsbError} `InvalidArgument` for a payload that no function could read, before anything is made */
function checkPayload(payload: string | undefined): void {
  if (payload === undefined || payload === '-' || payload.startsWith('@')) {
    return;
  }
  try {
    JSON.parse(payload);
  } catch (error) {
    throw new EsbError(`--invoke ${payload} is not JSON, such as '{"name": "Ada"}': ${messageOf(error)}`, {
      code: 'InvalidArgument',
    });
  }
}

/** The local instance where the function goes there; undefined for another cluster. */
async function instanceOf(
  { kubeconfig }: DeployOptions,
  { openInstance }: CommandContext,
): Promise<{ readonly registry: string; readonly gateway: string } | undefined> {
  const instance = await openInstance?.();
  const own = await instance?.kubeconfig();
  if (instance === undefined || own === undefined || (kubeconfig !== undefined && resolve(kubeconfig) !== own)) {
    return undefined;
  }
  return { registry: await instance.registry(), gateway: (await instance.gateway()).url };
}

async function planOf(options: DeployOptions, registry: string | undefined): Promise<Plan> {
  const folder = resolve(options.folder);
  const names = await namesIn(folder);
  const language = options.language ?? languageOf(options.folder, names);
  const name = functionNameFrom(options.name, basename(folder));
  return {
    folder,
    names,
    language,
    handler: handlerOf(language, options.folder, options.handler, (path) => existsSync(join(folder, path))),
    name,
    baseName: baseNameOf(language, options.base, registry),
    target: repositoryOf(name, options.push, registry),
    architecture: options.architecture ?? linuxPlatform(process.arch).architecture,
  };
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    const is = errnoOf(error);
    const what = is === 'ENOENT' ? 'is not there' : is === 'ENOTDIR' ? 'is a file, and no folder' : undefined;
    throw new EsbError(what === undefined ? messageOf(error) : `${folder} ${what}`, { code: 'InvalidArgument' });
  }
}

async function imageOf(
  plan: ImagePlan,
  options: DeployOptions,
  staging: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<FunctionImage> {
  const clientOf = async ({ registry, repository }: Repository): Promise<RegistryClient> =>
    new RegistryClient({
      registry,
      login: await findLogin(registry, repository, process.env, { signal }),
      plainHttp: plainHttpWith(registry, plan.target, options.plainHttp),
    });
  const { base, source } = await progress.step(`reading the base ${plan.baseName}`, () =>
    readBase(plan, clientOf, signal),
  );
  const image = await progress.step(`building the image of ${plan.name}`, (step) =>
    buildImage({ ...plan, base, staging, step, pythonVersion: options.pythonVersion }, { signal }),
  );
  const { registry, repository } = plan.target;
  await progress.step(`pushing ${registry}/${repository}`, async (step) =>
    pushImage(image, { client: await clientOf(plan.target), repository }, source, step, { signal }),
  );
  return image;
}

async function readBase(
  { architecture, baseName, handler, hasCommand }: ImagePlan,
  clientOf: (place: Repository) => Promise<RegistryClient>,
  signal: AbortSignal,
): Promise<{ readonly base: BaseImage; readonly source: PushSource | undefined }> {
  if (baseName === NO_BASE) {
    return { base: emptyBase(architecture), source: undefined };
  }
  const reference = parseImageReference(baseName);
  const client = await clientOf(reference);
  const base = await readBaseImage(baseName, client, architecture, { signal });
  if (handler !== undefined && !hasCommand) {
    checkEntrypoint(base, baseName, handler);
  }
  return { base, source: { client, reference } };
}

/**
 * Reads the function as it is; undefined for a new one.
 *
 * @throws {EsbError} `NotFound` where the cluster has no such resource; `Forbidden` with the way out
 */
export async function lookAt(
  client: Pick<KubeClient, 'get'>,
  name: string,
  { namespace }: Pick<DeployOptions, 'namespace'>,
  signal: AbortSignal,
): Promise<LambdaFunction | undefined> {
  try {
    return await client.get(lambdaFunctions, { namespace, name }, { signal });
  } catch (error) {
    if (hasCode(error, 'NotFound')) {
      throw new EsbError(
        'the cluster has no LambdaFunctions: install ESB there first (docs/how-to/install.md), or bring up a local ' +
          'instance with npm run up',
        { code: 'NotFound', cause: error },
      );
    }
    throw withRights(error, namespace);
  }
}

/**
 * Applies a function to what it is now: others may have set fields while its image was built.
 *
 * @returns also whether that has changed nothing
 * @throws {EsbError} as {@link lookAt}; `NotFound` for a missing namespace and `Conflict`, with the way out
 */
export async function applyFunction(
  client: Pick<KubeClient, 'get' | 'patch'>,
  { handler, image, name }: Omit<DeployedCode, 'namespace'>,
  options: SettingOptions & Pick<DeployOptions, 'forceConflicts' | 'namespace'>,
  signal: AbortSignal,
): Promise<{ readonly applied: LambdaFunction; readonly isSame: boolean }> {
  const { forceConflicts, namespace } = options;
  const { named, unset } = settingsOf(options);
  const present = await lookAt(client, name, options, signal);
  const body = functionObject({ namespace, name, image, handler }, named, present, unset);
  const apply = (force: boolean): Promise<LambdaFunction> =>
    client.patch(
      lambdaFunctions,
      { namespace, name },
      { kind: 'apply', body, fieldManager: DEPLOY_MANAGER, force },
      { signal },
    );
  try {
    const applied = await apply(forceConflicts).catch((error: unknown) => {
      if (isOfRollout(error)) {
        return apply(true);
      }
      throw error;
    });
    return { applied, isSame: present !== undefined && present.metadata.generation === applied.metadata.generation };
  } catch (error) {
    if (hasCode(error, 'NotFound')) {
      throw new EsbError(`there is no namespace ${namespace}: make it with kubectl create namespace ${namespace}`, {
        code: 'NotFound',
        cause: error,
      });
    }
    if (hasCode(error, 'Conflict')) {
      throw new EsbError(
        `${error.message}\nFields of ${namespace}/${name} have been set by something else than esb deploy: leave them to ` +
          'it, deploy under another --name, or take them over with --force-conflicts',
        { code: 'Conflict', cause: error },
      );
    }
    throw withRights(error, namespace);
  }
}

type SettingOptions = Pick<
  DeployOptions,
  'desiredState' | 'maxWorkers' | 'memory' | 'pullSecret' | 'timeout' | 'unset' | 'workers'
>;

/** @throws {EsbError} `InvalidArgument` */
function settingsOf(options: SettingOptions) {
  const { desiredState, maxWorkers, memory, pullSecret = [], timeout, unset = [], workers: minWorkers } = options;
  const pullSecrets = pullSecret.length === 0 ? undefined : pullSecret;
  const scaling = { minWorkers, maxWorkers };
  const named: FunctionSettings = { memory, timeoutSeconds: timeout, ...scaling, desiredState, pullSecrets };
  return { named, unset: unsetSettings(unset, named) };
}

/** Whether all fields in the way are those of an undo, after which a deploy is the next change. */
function isOfRollout(error: unknown): boolean {
  const managers = hasCode(error, 'Conflict') ? [...error.message.matchAll(/conflicts? with "([^"]*)"/g)] : [];
  return managers.length > 0 && managers.every(([, manager]) => manager === fieldManagers.rollout);
}

function withRights(error: unknown, namespace: string): unknown {
  return hasCode(error, 'Forbidden')
    ? new EsbError(
        `${error.message}\nA deploy needs get, create and patch of lambdafunctions in the namespace ${namespace}: the role ` +
          'edit there has them',
        { code: 'Forbidden', cause: error },
      )
    : error;
}
