import { createHash } from 'node:crypto';
import { findCondition, workerConditions } from '../../api/condition.ts';
import { keptPropertiesOf } from '../../api/kept-properties.ts';
import { calledNameOf, type LambdaFunction } from '../../api/lambda-function.ts';
import type { EventDestination, LambdaWorker } from '../../api/lambda-worker.ts';
import { versionsOf, type WrittenAlias } from '../control/aliases.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { isActive } from '../lambda/function-state.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { lambdaTime } from './function-description.ts';

/** Lambda's description of an alias. */
export function aliasOf(owner: LambdaFunction | undefined, alias: WrittenAlias, functionName: string) {
  const weights = alias.routing?.map(({ permille, version }) => [String(version), permille / 1_000] as const) ?? [];
  const kept = owner === undefined ? {} : (keptPropertiesOf(owner.metadata).aliases ?? {});
  const description = Object.hasOwn(kept, alias.name) ? (kept[alias.name] ?? '') : '';
  const content = JSON.stringify([alias.version, weights, description]);
  return {
    AliasArn: functionArn({ name: functionName, qualifier: alias.name }),
    Name: alias.name,
    FunctionVersion: String(alias.version),
    Description: description,
    RoutingConfig: weights.length === 0 ? undefined : { AdditionalVersionWeights: Object.fromEntries(weights) },
    RevisionId: createHash('sha256').update(content).digest('hex').slice(0, 32),
  };
}

/** Lambda's description of the workers that an alias has of its own. */
export function provisionedConfigOf(catalog: FunctionCatalog, owner: LambdaFunction, alias: WrittenAlias) {
  const { metadata, spec, status } = owner;
  const name = calledNameOf(owner);
  const places = spec.template.spec.concurrency?.perWorker ?? 1;
  const wanted = alias.provisionedWorkers ?? 0;
  const versions = versionsOf(alias);
  const ready = Math.min(
    ...versions.map((version) => Math.min(wanted, catalog.workersOf(name, version).filter(isActive).length)),
  );
  const stalled = findCondition(status?.conditions, workerConditions.stalled);
  const isFailed = stalled?.status === 'True' && ready < wanted;
  return {
    FunctionArn: functionArn({ name, qualifier: alias.name }),
    RequestedProvisionedConcurrentExecutions: wanted * places,
    AvailableProvisionedConcurrentExecutions: ready * places,
    AllocatedProvisionedConcurrentExecutions: ready * places,
    Status: ready >= wanted ? 'READY' : isFailed ? 'FAILED' : 'IN_PROGRESS',
    StatusReason: isFailed ? `${stalled.reason}: ${stalled.message}` : undefined,
    LastModified: lambdaTime(keptPropertiesOf(metadata).modified ?? metadata.creationTimestamp),
  };
}

/** Handling of events of a function; undefined for one that says nothing about them. */
export function eventConfigOf({ metadata, spec }: LambdaWorker, reference: FunctionReference): object | undefined {
  const { asyncInvoke } = spec;
  if (asyncInvoke === undefined) {
    return undefined;
  }
  // A destination of Lambda's is named by an ARN, so that a URL is left out.
  const destinationOf = ({ functionName }: EventDestination = {}): object =>
    functionName === undefined ? {} : { Destination: functionArn({ name: functionName }) };
  const modified = keptPropertiesOf(metadata).modified ?? metadata.creationTimestamp;
  return {
    // In seconds since 1970, as the protocol writes times that its model calls timestamps.
    LastModified: Date.parse(modified ?? lambdaTime(undefined)) / 1000,
    FunctionArn: functionArn({ qualifier: '$LATEST', ...reference }),
    MaximumRetryAttempts: asyncInvoke.maximumRetryAttempts,
    MaximumEventAgeInSeconds: asyncInvoke.maximumEventAgeSeconds,
    DestinationConfig: {
      OnSuccess: destinationOf(asyncInvoke.onSuccess),
      OnFailure: destinationOf(asyncInvoke.onFailure),
    },
  };
}

/** The URL of a function; undefined for one without a URL, and where that is not served. */
export function urlConfigOf(
  catalog: FunctionCatalog,
  reference: FunctionReference,
  written?: LambdaFunction,
): object | undefined {
  const { owner } = catalog.find({ name: reference.name }, written);
  const url = owner?.spec.url;
  const address = owner === undefined ? undefined : catalog.urlOf(owner);
  if (owner === undefined || url === undefined || address === undefined) {
    return undefined;
  }
  const { cors } = url;
  const created = lambdaTime(owner.metadata.creationTimestamp);
  return {
    FunctionUrl: address,
    FunctionArn: functionArn(reference),
    AuthType: url.authType,
    InvokeMode: url.invokeMode ?? 'BUFFERED',
    CreationTime: created,
    LastModifiedTime: lambdaTime(keptPropertiesOf(owner.metadata).modified ?? owner.metadata.creationTimestamp),
    Cors:
      cors === undefined
        ? undefined
        : {
            AllowCredentials: cors.allowCredentials,
            AllowHeaders: cors.allowHeaders,
            AllowMethods: cors.allowMethods,
            AllowOrigins: cors.allowOrigins,
            ExposeHeaders: cors.exposeHeaders,
            MaxAge: cors.maxAgeSeconds,
          },
  };
}
