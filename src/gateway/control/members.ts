import { type Bounds, boundsError, LambdaError } from '../lambda/lambda-error.ts';

/** Members of a request's body, or of an object in it. */
export type Members = Readonly<Record<string, unknown>>;

/**
 * The members of a body; none for an empty one.
 *
 * @throws {LambdaError} InvalidRequestContentException for anything but a JSON object
 */
export function parseMembers(body: Buffer): Members {
  if (body.length === 0) {
    return {};
  }
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new LambdaError('InvalidRequestContentException', 'Could not parse request body into json.', { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LambdaError('InvalidRequestContentException', 'The request body has to be a JSON object.');
  }
  return value as Members;
}

/** @throws {LambdaError} InvalidParameterValueException */
export function textIn(members: Members, name: string): string | undefined {
  return read(members, name, 'string', (value) => typeof value === 'string') as string | undefined;
}

/** @throws {LambdaError} InvalidParameterValueException */
export function booleanIn(members: Members, name: string): boolean | undefined {
  return read(members, name, 'boolean', (value) => typeof value === 'boolean') as boolean | undefined;
}

/** @throws {LambdaError} InvalidParameterValueException, for a number out of the bounds too */
export function numberIn(members: Members, name: string, bounds: Bounds): number | undefined {
  const value = read(members, name, 'whole number', Number.isSafeInteger) as number | undefined;
  const error =
    value === undefined ? undefined : boundsError(name, String(value), { amount: value, of: 'value' }, bounds);
  if (error !== undefined) {
    throw error;
  }
  return value;
}

/** @throws {LambdaError} InvalidParameterValueException */
export function objectIn(members: Members, name: string): Members | undefined {
  const isObject = (value: unknown): boolean => typeof value === 'object' && !Array.isArray(value);
  return read(members, name, 'structure', isObject) as Members | undefined;
}

/** @throws {LambdaError} InvalidParameterValueException */
export function textsIn(members: Members, name: string): readonly string[] | undefined {
  return read(members, name, 'list of strings', isTextList) as readonly string[] | undefined;
}

/** @throws {LambdaError} InvalidParameterValueException */
export function textMapIn(members: Members, name: string): Readonly<Record<string, string>> | undefined {
  const value = objectIn(members, name);
  if (value !== undefined && !isTextList(Object.values(value))) {
    throw invalid(`${name} has to be a map of strings.`);
  }
  return value as Readonly<Record<string, string>> | undefined;
}

/** Levels that a member of a request has at most, by the service model. */
const MAX_LEVELS = 8;

/**
 * Whether a value asks for nothing: clients send empty members for features that are not used. One that is nested deeper
 * than any member asks for something.
 */
export function asksForNothing(value: unknown, levels = MAX_LEVELS): boolean {
  if (value === undefined || value === null || value === '' || value === false) {
    return true;
  }
  return (
    typeof value === 'object' && levels > 0 && Object.values(value).every((each) => asksForNothing(each, levels - 1))
  );
}

/** Whether a text has the length, in characters, and the pattern of a shape. */
export function isOf({ max, min, pattern }: Required<Bounds> & { readonly pattern: string }, text: string): boolean {
  return new RegExp(`^(?=.{${min},${max}}$)${pattern}$`, 'su').test(text);
}

export function invalid(message: string): LambdaError {
  return new LambdaError('InvalidParameterValueException', message);
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}

function read(members: Members, name: string, type: string, isOfType: (value: unknown) => boolean): unknown {
  const value = members[name];
  if (value === undefined || value === null) {
    return undefined;
  }
  if (!isOfType(value)) {
    throw invalid(`${name} has to be a ${type}.`);
  }
  return value;
}
