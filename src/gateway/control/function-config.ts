import type {
  LambdaFunctionSpec,
  LambdaFunctionSpecUrl,
  LambdaFunctionSpecUrlCors,
  WorkerTemplate,
} from '../../api/lambda-function.ts';
import type { EventDestination } from '../../api/lambda-worker.ts';
import { parseFunctionIdentifier } from '../lambda/function-name.ts';
import { lambdaShapes } from '../lambda/generated/operations.ts';
import { shown } from '../lambda/lambda-error.ts';
import { findAlias, type WrittenAlias, withAlias } from './aliases.ts';
import type { FunctionDraft } from './function-draft.ts';
import { structureIn } from './function-settings.ts';
import { booleanIn, invalid, type Members, numberIn, textIn, textsIn } from './members.ts';

type EventConfig = NonNullable<LambdaFunctionSpec['asyncInvoke']>;

/** A function with this many calls at once reserved. */
export function withReserved(draft: FunctionDraft, reservedConcurrency: number): FunctionDraft {
  return { ...draft, spec: { ...draft.spec, reservedConcurrency } };
}

/** A function without reserved calls, in its template neither. */
export function withoutReserved(draft: FunctionDraft): FunctionDraft {
  const { reservedConcurrency: _before, template, ...spec } = draft.spec;
  const { concurrency, ...worker } = template.spec;
  if (concurrency?.reserved === undefined) {
    return { ...draft, spec: { ...spec, template } };
  }
  const { reserved: _own, ...others } = concurrency;
  return { ...draft, spec: { ...spec, template: { ...template, spec: { ...worker, concurrency: others } } } };
}

/** Workers that take this many calls at once. */
export function workersFor(calls: number, template: WorkerTemplate): number {
  return Math.ceil(calls / (template.spec.concurrency?.perWorker ?? 1));
}

/**
 * A function whose alias has workers of its own, or no longer has.
 *
 * @param alias as the function has it
 */
export function withProvisioned(draft: FunctionDraft, alias: WrittenAlias, workers: number | undefined): FunctionDraft {
  const { provisionedWorkers: _before, ...others } = findAlias(draft.spec, alias.name) ?? alias;
  return withAlias(draft, workers === undefined ? others : { ...others, provisionedWorkers: workers }, undefined);
}

/**
 * A function whose events are handled as a request says.
 *
 * @param present what the request does not name stays; undefined where nothing stays
 * @throws {LambdaError} InvalidParameterValueException
 */
export function withEventConfig(
  draft: FunctionDraft,
  present: EventConfig | undefined,
  members: Members,
): FunctionDraft {
  const retries = numberIn(members, 'MaximumRetryAttempts', lambdaShapes.MaximumRetryAttempts);
  const age = numberIn(members, 'MaximumEventAgeInSeconds', lambdaShapes.MaximumEventAgeInSeconds);
  const asyncInvoke = {
    ...present,
    ...(retries === undefined ? {} : { maximumRetryAttempts: retries }),
    ...(age === undefined ? {} : { maximumEventAgeSeconds: age }),
    ...destinationsOf(members),
  } as EventConfig;
  return { ...draft, spec: { ...draft.spec, asyncInvoke } };
}

/**
 * Names of the functions to which a request sends records.
 *
 * @throws {LambdaError} InvalidParameterValueException
 */
export function destinationsIn(members: Members): readonly string[] {
  const names = Object.values(destinationsOf(members)).map((destination) => destination?.functionName);
  return [...new Set(names.filter((name) => name !== undefined))];
}

function destinationsOf(members: Members): Partial<Record<'onSuccess' | 'onFailure', EventDestination | undefined>> {
  const destinations = structureIn(members, 'DestinationConfig', lambdaShapes.DestinationConfig.members) ?? {};
  return {
    ...destinationIn(destinations, 'OnSuccess', 'onSuccess'),
    ...destinationIn(destinations, 'OnFailure', 'onFailure'),
  };
}

/** The handling of events that a function has, or its template; undefined for the usual one. */
export function eventConfigIn({ asyncInvoke, template }: LambdaFunctionSpec): EventConfig | undefined {
  return asyncInvoke ?? template.spec.asyncInvoke;
}

/** A function whose events are handled as usual. */
export function withoutEventConfig(draft: FunctionDraft): FunctionDraft {
  const { asyncInvoke: _before, template, ...spec } = draft.spec;
  const { asyncInvoke: _own, ...worker } = template.spec;
  return { ...draft, spec: { ...spec, template: { ...template, spec: worker } } };
}

function destinationIn(
  members: Members,
  member: 'OnSuccess' | 'OnFailure',
  field: 'onSuccess' | 'onFailure',
): Partial<Record<'onSuccess' | 'onFailure', EventDestination | undefined>> {
  const given = structureIn(members, member, lambdaShapes[member].members);
  if (given === undefined) {
    return {};
  }
  const destination = textIn(given, 'Destination') ?? '';
  if (destination === '') {
    return { [field]: undefined };
  }
  if (!/^arn:[^:]*:lambda:/.test(destination)) {
    throw invalid(
      `${member}.Destination ${shown(destination)} is not supported. Name a function; a URL is spec.asyncInvoke.${field}.url of the LambdaFunction.`,
    );
  }
  const { name, qualifier } = parseFunctionIdentifier(destination);
  if (qualifier !== undefined) {
    throw invalid(
      `${member}.Destination ${shown(destination)} is not supported. Name the function without a qualifier.`,
    );
  }
  return { [field]: { functionName: name } };
}

/**
 * A function with a URL as a request says; what the request does not name stays.
 *
 * @param present undefined for a new one
 * @throws {LambdaError} InvalidParameterValueException
 */
export function withUrl(
  draft: FunctionDraft,
  present: LambdaFunctionSpecUrl | undefined,
  members: Members,
): FunctionDraft {
  const authType = choiceIn(members, 'AuthType', lambdaShapes.FunctionUrlAuthType.enum) ?? present?.authType;
  if (authType === undefined) {
    throw invalid('AuthType is needed.');
  }
  const invokeMode = choiceIn(members, 'InvokeMode', lambdaShapes.InvokeMode.enum) ?? present?.invokeMode;
  const given = structureIn(members, 'Cors', lambdaShapes.Cors.members);
  const cors = given === undefined ? present?.cors : corsIn(given);
  const url = {
    authType,
    invokeMode: invokeMode ?? 'BUFFERED',
    ...(cors === undefined ? {} : { cors }),
  } as LambdaFunctionSpecUrl;
  return { ...draft, spec: { ...draft.spec, url } };
}

/** A function without a URL. */
export function withoutUrl(draft: FunctionDraft): FunctionDraft {
  const { url: _before, ...spec } = draft.spec;
  return { ...draft, spec };
}

/** Undefined for a request that takes all of it away. */
function corsIn(members: Members): LambdaFunctionSpecUrlCors | undefined {
  const texts = (name: string): readonly string[] | undefined => {
    const list = textsIn(members, name) ?? [];
    return list.length === 0 ? undefined : list;
  };
  const entries = Object.entries({
    allowCredentials: booleanIn(members, 'AllowCredentials'),
    allowHeaders: texts('AllowHeaders'),
    allowMethods: texts('AllowMethods'),
    allowOrigins: texts('AllowOrigins'),
    exposeHeaders: texts('ExposeHeaders'),
    maxAgeSeconds: numberIn(members, 'MaxAge', lambdaShapes.MaxAge),
  }).filter(([, value]) => value !== undefined);
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

function choiceIn(members: Members, name: string, choices: readonly string[]): string | undefined {
  const value = textIn(members, name);
  if (value !== undefined && !choices.includes(value)) {
    throw invalid(`${name} has to be one of ${choices.toSorted().join(', ')}.`);
  }
  return value;
}
