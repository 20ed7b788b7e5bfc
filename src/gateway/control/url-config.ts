import type { LambdaFunctionSpecUrl, LambdaFunctionSpecUrlCors } from '../../api/lambda-function.ts';
import { lambdaShapes } from '../lambda/generated/operations.ts';
import type { FunctionDraft } from './function-draft.ts';
import { structureIn } from './function-settings.ts';
import { booleanIn, invalid, type Members, numberIn, textIn, textsIn } from './members.ts';

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
