import { functionArn as arnOf } from '../../common/function-arn.ts';
import { lambdaShapes } from './generated/operations.ts';
import { constraintError, LambdaError } from './lambda-error.ts';

export interface FunctionReference {
  /** The bare name, as in `spec.functionName`. */
  readonly name: string;
  /** Version or alias; absent means the latest. */
  readonly qualifier?: string;
}

/** Characters of an identifier and of a qualifier at most, read once: each call is held to them. */
const MAX_IDENTIFIER = lambdaShapes.NamespacedFunctionName.max;
const MAX_QUALIFIER = lambdaShapes.Qualifier.max;
/** Longest bare name, in characters. */
const MAX_FUNCTION_NAME = 64;

/**
 * The pattern of `NamespacedFunctionName` in Lambda's API model, with groups. Its optional parts are greedy from the
 * left: `function:x` is the function `x`, and `123456789012:x` the function `x` of that account, not aliases.
 */
const IDENTIFIER =
  /^(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?(?:(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d:)?(?:\d{12}:)?(?:function:)?([a-zA-Z0-9-_.]+)(?::(\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?$/;

const QUALIFIER = /^(?:\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_$]+)$/;

/**
 * Reads a function identifier, percent-decoding already done: `name`, `name:qualifier`, a partial ARN
 * (`123456789012:function:name`) or a full one, each with or without a qualifier. Any region and account are accepted:
 * ESB has neither.
 *
 * @param queryQualifier the `Qualifier` of the query; an empty one counts as none
 * @throws {LambdaError} InvalidParameterValueException with the violated rule
 */
export function parseFunctionIdentifier(identifier: string, queryQualifier?: string): FunctionReference {
  if (identifier.length > MAX_IDENTIFIER) {
    throw constraintError('functionName', identifier, lengthRule(MAX_IDENTIFIER));
  }
  const [, name, derived] = IDENTIFIER.exec(identifier) ?? [];
  if (name === undefined) {
    throw constraintError('functionName', identifier, patternRule(IDENTIFIER));
  }
  if (name.length > MAX_FUNCTION_NAME) {
    throw constraintError('functionName', name, lengthRule(MAX_FUNCTION_NAME));
  }
  if (queryQualifier !== undefined && queryQualifier !== '') {
    if (queryQualifier.length > MAX_QUALIFIER || !QUALIFIER.test(queryQualifier)) {
      throw constraintError('qualifier', queryQualifier, patternRule(QUALIFIER));
    }
    if (derived !== undefined && derived !== queryQualifier) {
      throw new LambdaError(
        'InvalidParameterValueException',
        'The derived qualifier from the function name does not match the specified qualifier.',
      );
    }
  }
  const qualifier = derived ?? queryQualifier ?? '';
  return qualifier === '' ? { name } : { name, qualifier };
}

function lengthRule(most: number): string {
  return `Member must have length less than or equal to ${most}`;
}

function patternRule(pattern: RegExp): string {
  return `Member must satisfy regular expression pattern: ${pattern.source}`;
}

/** The ARN of a function in answers and messages. */
export function functionArn(reference: FunctionReference): string {
  return arnOf(reference.name, reference.qualifier);
}
