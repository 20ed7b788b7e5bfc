import type { LambdaFunction } from '../../api/lambda-function.ts';
import type { LambdaVersion } from '../../api/lambda-version.ts';
import { functionNameOf, type LambdaWorker, loggingOf } from '../../api/lambda-worker.ts';
import { quantityToMiB } from '../../api/quantity.ts';
import { versionText } from '../../common/function-arn.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import {
  functionStateOf,
  functionUpdateOf,
  type StateMembers,
  stateOf,
  type UpdateMembers,
  updateOf,
  versionStateOf,
} from '../lambda/function-state.ts';
import { functionRevisionOf, revisionIdOf } from '../lambda/revision-id.ts';
import type { CatalogFunction } from './function-catalog.ts';

/**
 * Lambda's description of the function with these workers. The speaking worker gives the members of the function as a
 * whole; the state takes all workers into account. Values from Secrets are left out.
 *
 * @param reference the caller's reference, whose qualifier becomes part of the ARN
 */
export function describeFunction(
  { description, kept = {}, owner, published, speaker, templateHash, workers }: Omit<CatalogFunction, 'places'>,
  reference: FunctionReference,
) {
  const { metadata, spec, status } = speaker.resource;
  const name = functionNameOf(speaker.resource);
  const resources = workers.map(({ resource }) => resource);
  return {
    FunctionName: name,
    FunctionArn: functionArn(reference),
    // ESB has no roles: network and Secrets of the resource decide about the rights of a function.
    Role: kept.role ?? '',
    Handler: spec.handler,
    // As Lambda has it for images.
    CodeSize: 0,
    Description: description,
    Timeout: spec.timeoutSeconds,
    MemorySize: quantityToMiB(spec.resources.limits.memory, 128),
    LastModified: lambdaTime((owner === undefined ? undefined : kept.modified) ?? metadata.creationTimestamp),
    CodeSha256: /@sha256:([0-9a-f]{64})$/.exec(status?.image ?? spec.image)?.[1] ?? '',
    Version: versionText(spec.version),
    Environment: environmentOf(speaker.resource),
    TracingConfig: { Mode: 'PassThrough' },
    RevisionId: owner === undefined ? revisionIdOf({ metadata }) : functionRevisionOf(owner, templateHash),
    ...statesOf(owner, published, resources, templateHash),
    PackageType: 'Image',
    ImageConfigResponse: imageConfig(speaker.resource),
    Architectures: [kept.architecture ?? (speaker.architecture === 'arm64' ? 'arm64' : 'x86_64')],
    EphemeralStorage: { Size: quantityToMiB(spec.ephemeralStorage, 64) },
    SnapStart: { ApplyOn: 'None', OptimizationStatus: 'Off' },
    LoggingConfig: { ...loggingConfig(speaker.resource), LogGroup: `/aws/lambda/${name}` },
  };
}

function statesOf(
  owner: LambdaFunction | undefined,
  published: LambdaVersion | undefined,
  workers: readonly LambdaWorker[],
  templateHash: string | undefined,
): StateMembers & UpdateMembers {
  if (published !== undefined) {
    return { ...versionStateOf(published), LastUpdateStatus: 'Successful' };
  }
  return owner === undefined
    ? { ...stateOf(workers), ...updateOf(workers) }
    : { ...functionStateOf(owner, workers), ...functionUpdateOf(owner, workers, templateHash) };
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
