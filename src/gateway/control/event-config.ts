import type { LambdaFunctionSpec } from '../../api/lambda-function.ts';
import type { EventDestination } from '../../api/lambda-worker.ts';
import { parseFunctionIdentifier } from '../lambda/function-name.ts';
import { lambdaShapes } from '../lambda/generated/operations.ts';
import { shown } from '../lambda/lambda-error.ts';
import type { FunctionDraft } from './function-draft.ts';
import { structureIn } from './function-settings.ts';
import { invalid, type Members, numberIn, textIn } from './members.ts';

type EventConfig = NonNullable<LambdaFunctionSpec['asyncInvoke']>;

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
