import { LambdaError } from './lambda-error.ts';

/** Which function a caller means. */
export interface FunctionReference {
  /** The bare name, as in `spec.functionName`. */
  readonly name: string;
  /** Version or alias; absent means the latest. */
  readonly qualifier?: string;
}

/** Longest bare name, in characters. */
export const MAX_FUNCTION_NAME = 64;

/** Longest identifier in any form, in characters. */
export const MAX_FUNCTION_IDENTIFIER = 170;

/** Longest qualifier, in characters. */
export const MAX_QUALIFIER = 128;

/**
 * The pattern of `NamespacedFunctionName` in Lambda's API model, with groups. Its optional parts are greedy from the left, so
 * `function:x` is the function `x` and `123456789012:x` the function `x` of that account, not aliases.
 */
const IDENTIFIER =
  /^(?:arn:aws[a-zA-Z-]*:lambda:)?(?:[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d:)?(?:\d{12}:)?(?:function:)?([a-zA-Z0-9-_.]+)(?::(\$LATEST|[a-zA-Z0-9-_]+))?$/;

const QUALIFIER = /^(?:\$LATEST|[a-zA-Z0-9-_]+)$/;

/**
 * Reads a function identifier, percent-decoding already done: `name`, `name:qualifier`, a partial ARN
 * (`123456789012:function:name`) or a full one, each with or without a qualifier. Region and account are accepted
 * whatever they are: ESB has neither.
 *
 * @param queryQualifier the `Qualifier` of the query, if there was one
 * @throws {LambdaError} InvalidParameterValueException, saying what is wrong
 */
export function parseFunctionIdentifier(identifier: string, queryQualifier?: string): FunctionReference {
  if (identifier.length > MAX_FUNCTION_IDENTIFIER) {
    throw invalid(
      `Value at 'functionName' failed to satisfy constraint: Member must have length less than or equal to ${MAX_FUNCTION_IDENTIFIER}`,
    );
  }
  const match = IDENTIFIER.exec(identifier);
  const name = match?.[1];
  if (match === null || name === undefined) {
    throw invalid(
      `Value '${identifier}' at 'functionName' failed to satisfy constraint: Member must be a function name, a partial ARN or an ARN (${IDENTIFIER.source})`,
    );
  }
  if (name.length > MAX_FUNCTION_NAME) {
    throw invalid(
      `Value '${name}' at 'functionName' failed to satisfy constraint: The name part must have length less than or equal to ${MAX_FUNCTION_NAME}`,
    );
  }
  const derived = match[2];
  if (queryQualifier !== undefined) {
    if (queryQualifier.length > MAX_QUALIFIER || !QUALIFIER.test(queryQualifier)) {
      throw invalid(
        `Value '${queryQualifier}' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ${QUALIFIER.source}`,
      );
    }
    if (derived !== undefined && derived !== queryQualifier) {
      throw invalid('The derived qualifier from the function name does not match the specified qualifier.');
    }
  }
  const qualifier = derived ?? queryQualifier;
  return qualifier === undefined ? { name } : { name, qualifier };
}

/** The ARN that answers and messages give a function. Region and account are those that the emulator in the images uses. */
export function functionArn(reference: FunctionReference): string {
  const base = `arn:aws:lambda:us-east-1:012345678912:function:${reference.name}`;
  return reference.qualifier === undefined ? base : `${base}:${reference.qualifier}`;
}

function invalid(message: string): LambdaError {
  return new LambdaError('InvalidParameterValueException', message);
}
