import { changingReasons, findCondition, type WorkerReason, workerConditions } from '../../api/condition.ts';
import { speakerOf } from '../../api/function-settings.ts';
import { LABEL_PREFIX } from '../../api/label.ts';
import { calledNameOf, type EffectiveAlias, type LambdaFunction } from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import { functionNameOf, type LambdaWorker, loggingOf } from '../../api/lambda-worker.ts';
import { quantityToMiB } from '../../api/quantity.ts';
import { unreachable } from '../../common/errors.ts';
import { LATEST, versionText } from '../../common/function-arn.ts';
import type { FleetView } from '../agents/fleet-view.ts';
import { NO_DRAW, type VersionBook } from '../agents/version-book.ts';
import type { Invoker } from '../invoker.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';

/** A resource beside the processor of its node, as the node names it (`amd64`), where that is known. */
export interface DescribedWorker {
  readonly resource: LambdaWorker;
  readonly architecture?: string | undefined;
}

export interface FunctionCatalogOptions {
  readonly invoker: Pick<Invoker, 'find'>;
  readonly view: Pick<FleetView, 'function'>;
  readonly book: VersionBook;
  readonly functionNames: () => Iterable<string>;
  /** The processor of a node, such as `amd64`, where it is known. */
  readonly architectureOf: (nodeName: string) => string | undefined;
}

export interface CatalogFunction {
  /** The worker that speaks for it. */
  readonly speaker: DescribedWorker;
  /** Those of the version that is named. */
  readonly workers: readonly DescribedWorker[];
  /** Calls that the workers of all versions take at once. */
  readonly places: number;
  /** Purpose of the function, or of the version that is named. */
  readonly description: string;
  /** The version that is named, as it was published; undefined for $LATEST. */
  readonly published: LambdaVersion | undefined;
}

/** The functions of a gateway, for the operations that read. */
export class FunctionCatalog {
  readonly #options: FunctionCatalogOptions;

  constructor(options: FunctionCatalogOptions) {
    this.#options = options;
  }

  /** Names of all functions, sorted by their characters. */
  names(): readonly string[] {
    return [...this.#options.functionNames()].toSorted((one, other) => (one < other ? -1 : 1));
  }

  /** Qualifiers of the versions of a function, $LATEST first. */
  versions(name: string): readonly string[] {
    return [LATEST, ...this.#options.book.versions(name).map(({ spec }) => versionText(spec.version))];
  }

  /** The aliases of a function that are in effect, by their names. */
  aliases(name: string): readonly EffectiveAlias[] {
    return this.#options.book.aliases(name).toSorted((one, other) => (one.name < other.name ? -1 : 1));
  }

  /**
   * The function of a reference.
   *
   * @throws {LambdaError} ResourceNotFoundException, or ServiceException (503) where the function may exist
   */
  find(reference: FunctionReference): CatalogFunction {
    const { architectureOf, book, invoker, view } = this.#options;
    const { name, qualifier } = reference;
    const found = book.resolve(name, qualifier, () => NO_DRAW);
    const version = found.kind === 'Version' ? found.version : undefined;
    const published = version === undefined ? undefined : book.version(name, version);
    const present = view.function(name);
    // A version that was published, and a template, are there without workers too.
    const isWritten = published !== undefined || (found.kind === 'Latest' && present !== undefined);
    const entry = present !== undefined && isWritten ? present : invoker.find(reference).entry;
    const workers = entry.byVersion.get(version) ?? [];
    const latest = found.kind === 'Latest' ? book.function(name) : undefined;
    const resource = resourceOf(workers, published, latest) ?? entry.speaker.resource;
    const nodeName = (speakerOf(workers) ?? entry.speaker).resource.status?.assignment?.nodeName;
    return {
      speaker: { resource, architecture: nodeName && architectureOf(nodeName) },
      workers: workers.length === 0 ? [{ resource }] : workers,
      places: entry.places,
      description: (published ?? book.function(name))?.spec.description ?? '',
      published,
    };
  }
}

/** The worker by which a function or a version is described: one that would be made, where there is none. */
function resourceOf(
  workers: readonly DescribedWorker[],
  published: LambdaVersion | undefined,
  latest: LambdaFunction | undefined,
): LambdaWorker | undefined {
  if (published !== undefined) {
    const { metadata, spec, status } = published;
    const { functionName, template, version } = spec;
    const phase = ({ Active: 'Absent', Failed: 'Failed', Pending: 'Pending' } as const)[status?.state ?? 'Pending'];
    const { conditions, observedGeneration } = status ?? {};
    return {
      metadata,
      spec: { ...template.spec, functionName, version, wakePolicy: 'Never' },
      status: { phase, conditions, observedGeneration },
    } as LambdaWorker;
  }
  if (workers.length === 0 && latest !== undefined) {
    const { metadata, spec } = latest;
    return {
      metadata,
      spec: { ...spec.template.spec, functionName: calledNameOf(latest), wakePolicy: 'Never' },
      status: { phase: 'Absent' },
    } as LambdaWorker;
  }
  return speakerOf(workers)?.resource;
}

/** Lambda's words for why a function cannot be started, by the reason of a condition. */
const failureCodes: ReadonlyMap<string, string> = new Map([
  ['ImageNotFound', 'InvalidImage'],
  ['ImageInvalid', 'InvalidImage'],
  ['ImageWrongPlatform', 'InvalidImage'],
  ['NoEntrypoint', 'InvalidImage'],
  ['ImagePullFailed', 'ImageAccessDenied'],
  ['ImageUnproven', 'ImageAccessDenied'],
  ['PullSecretForbidden', 'ImageAccessDenied'],
  ['SecretForbidden', 'InsufficientRolePermissions'],
  ['SecretMissing', 'InvalidConfiguration'],
  ['MemoryTooSmall', 'InvalidConfiguration'],
  ['CrashLoopBackOff', 'FunctionError'],
  ['ExitedAtOnce', 'FunctionError'],
  ['NotListening', 'FunctionError'],
  ['WarmUpFailed', 'FunctionError'],
]);

/** The same for what cannot be initialized, by the type of the error; any other type is the runtime's. */
const initCodes: ReadonlyMap<string, string> = new Map([
  ['Runtime.InvalidEntrypoint', 'FunctionError.InvalidEntryPoint'],
  ['Sandbox.Timedout', 'FunctionError.InitTimeout'],
  ['Extension.Crash', 'FunctionError.ExtensionInitError'],
  ['Extension.InitError', 'FunctionError.ExtensionInitError'],
  ['Extension.LaunchError', 'FunctionError.ExtensionInitError'],
]);

/** A condition's word on what is wrong. */
interface Failure {
  readonly reason: string;
  readonly message: string;
}

/** Why one worker is not up to the newest spec. */
interface Update extends Failure {
  readonly kind: 'InProgress' | 'Failed';
}

/**
 * Lambda's description of the function with these workers. The speaking worker gives the members of the function as a
 * whole; the state takes all workers into account. Values from Secrets are left out.
 *
 * @param reference the caller's reference, whose qualifier becomes part of the ARN
 */
export function describeFunction(
  { description, published, speaker, workers }: Omit<CatalogFunction, 'places'>,
  reference: FunctionReference,
) {
  const { metadata, spec, status } = speaker.resource;
  const name = functionNameOf(speaker.resource);
  const resources = workers.map(({ resource }) => resource);
  return {
    FunctionName: name,
    FunctionArn: functionArn(reference),
    // ESB has no roles: network and Secrets of the resource decide about the rights of a function.
    Role: '',
    Handler: spec.handler,
    // As Lambda has it for images.
    CodeSize: 0,
    Description: description,
    Timeout: spec.timeoutSeconds,
    MemorySize: quantityToMiB(spec.resources.limits.memory, 128),
    LastModified: lambdaTime(metadata.creationTimestamp),
    CodeSha256: /@sha256:([0-9a-f]{64})$/.exec(status?.image ?? spec.image)?.[1] ?? '',
    Version: versionText(spec.version),
    Environment: environmentOf(speaker.resource),
    TracingConfig: { Mode: 'PassThrough' },
    RevisionId: `${metadata.uid ?? metadata.name}-${metadata.generation ?? 1}`,
    ...stateOf(resources),
    ...(published === undefined ? updateOf(resources) : { LastUpdateStatus: 'Successful' }),
    PackageType: 'Image',
    ImageConfigResponse: imageConfig(speaker.resource),
    Architectures: [speaker.architecture === 'arm64' ? 'arm64' : 'x86_64'],
    EphemeralStorage: { Size: quantityToMiB(spec.ephemeralStorage, 64) },
    SnapStart: { ApplyOn: 'None', OptimizationStatus: 'Off' },
    LoggingConfig: { ...loggingConfig(speaker.resource), LogGroup: `/aws/lambda/${name}` },
  };
}

/** Labels stand for Lambda's tags, but for our own. */
export function tagsOf(worker: LambdaWorker): Readonly<Record<string, string>> {
  const labels = Object.entries(worker.metadata.labels ?? {});
  return Object.fromEntries(labels.filter(([name]) => !name.startsWith(LABEL_PREFIX)));
}

/** A time as Lambda writes it: `2026-11-01T00:00:00.000+0000`. */
export function lambdaTime(timestamp: string | undefined): string {
  return new Date(timestamp ?? 0).toISOString().replace('Z', '+0000');
}

function environmentOf({ spec }: LambdaWorker) {
  const plain = spec.env?.filter(({ valueFrom }) => valueFrom === undefined) ?? [];
  const variables = Object.fromEntries(plain.map(({ name, value }) => [name, value ?? '']));
  return plain.length === 0 ? undefined : { Variables: variables };
}

/** Lambda tells levels of a log as JSON alone. */
function loggingConfig({ spec }: LambdaWorker) {
  const { format, applicationLevel, systemLevel } = loggingOf(spec.logging);
  return format === 'Text'
    ? { LogFormat: format }
    : { LogFormat: format, ApplicationLogLevel: applicationLevel, SystemLogLevel: systemLevel };
}

function imageConfig({ spec }: LambdaWorker) {
  return spec.command === undefined && spec.args === undefined
    ? undefined
    : { ImageConfig: { EntryPoint: spec.command, Command: spec.args } };
}

/**
 * A function is active when one of its workers can be called, even if paused or absent. SDKs wait for `Active` after a
 * creation and for `Successful` after a change.
 */
function stateOf(workers: readonly LambdaWorker[]) {
  const states = workers.map(workerState);
  if (states.includes('Active')) {
    return { State: 'Active' };
  }
  if (states.includes('Pending')) {
    return { State: 'Pending', StateReason: 'The function is being created.', StateReasonCode: 'Creating' };
  }
  if (states.includes('Inactive')) {
    const reason = 'Every worker is kept at rest by its owner (wakePolicy: Never), or there is none.';
    return { State: 'Inactive', StateReason: reason, StateReasonCode: 'Idle' };
  }
  const failure = failureOf(workers);
  return failure === undefined
    ? { State: 'Failed', StateReason: 'No worker can be started.', StateReasonCode: 'InternalError' }
    : {
        State: 'Failed',
        StateReason: `${failure.reason}: ${failure.message}`,
        StateReasonCode: failureCode(failure),
      };
}

/** One worker that cannot be changed fails the update, and one that is not there yet holds it up. */
function updateOf(workers: readonly LambdaWorker[]) {
  const updates = workers.map(workerUpdate);
  const telling = updates.find((update) => update?.kind === 'Failed') ?? updates.find((update) => update !== undefined);
  return telling === undefined
    ? { LastUpdateStatus: 'Successful' }
    : {
        LastUpdateStatus: telling.kind,
        LastUpdateStatusReason: `${telling.reason}: ${telling.message}`,
        LastUpdateStatusReasonCode: telling.kind === 'Failed' ? failureCode(telling) : undefined,
      };
}

function workerUpdate({ metadata, status }: LambdaWorker): Update | undefined {
  const { conditions, observedGeneration, phase } = status ?? {};
  if (observedGeneration !== undefined && observedGeneration < (metadata.generation ?? 0)) {
    return { kind: 'InProgress', reason: 'Changing', message: 'no agent has acted on the newest spec yet' };
  }
  const upToDate = findCondition(conditions, workerConditions.upToDate);
  if (upToDate?.status === 'True') {
    return undefined;
  }
  if (upToDate !== undefined) {
    const kind = changingReasons.has(upToDate.reason) ? 'InProgress' : 'Failed';
    return { kind, reason: upToDate.reason, message: upToDate.message };
  }
  // Agents of earlier versions tell by Ready alone.
  const { reason = 'Failed', message = 'no worker can be started' } =
    findCondition(conditions, workerConditions.ready) ?? {};
  if (phase === 'Failed' || reason === ('ReplacementFailed' satisfies WorkerReason)) {
    return { kind: 'Failed', reason, message };
  }
  return reason === ('Replacing' satisfies WorkerReason) ? { kind: 'InProgress', reason, message } : undefined;
}

/** Lambda's word for a failure. Why a replacement failed stands before the first colon of its message. */
function failureCode({ message, reason }: Failure): string {
  if (reason === ('ReplacementFailed' satisfies WorkerReason)) {
    const [, why = message, rest = ''] = /^(\w+): (.*)$/s.exec(message) ?? [];
    return failureCode({ reason: why, message: rest });
  }
  return reason === 'InitFailed' ? initCode(message) : (failureCodes.get(reason) ?? 'InternalError');
}

/** The message is that of an `InitFailedError`: a type, what was wrong, and the want of memory where there was one. */
function initCode(message: string): string {
  return message.includes('; the worker used more memory than its limit')
    ? 'FunctionError.InitResourceExhausted'
    : (initCodes.get(message.split(':', 1)[0] ?? '') ?? 'FunctionError.RuntimeInitError');
}

function workerState({ spec, status }: LambdaWorker): 'Active' | 'Pending' | 'Inactive' | 'Failed' {
  const phase = status?.phase;
  switch (phase) {
    case undefined:
    case 'Pending':
    case 'Pulling':
    case 'Creating':
      return 'Pending';
    case 'Running':
    case 'Pausing':
    case 'Resuming':
    case 'Terminating':
    case 'Unknown':
      return 'Active';
    case 'Paused':
    case 'Absent':
      return spec.wakePolicy === 'Never' ? 'Inactive' : 'Active';
    case 'Failed':
      return 'Failed';
    default:
      return unreachable(phase);
  }
}

function failureOf(workers: readonly LambdaWorker[]): Failure | undefined {
  for (const { status } of workers) {
    const failed = status?.conditions?.find(({ type, status: value }) => type === 'Ready' && value === 'False');
    if (failed !== undefined) {
      return failed;
    }
  }
  return undefined;
}
