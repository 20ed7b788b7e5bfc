import { isUtf8 } from 'node:buffer';
import { jsonFault } from './json-text.ts';
import { LambdaError } from './lambda-error.ts';

/** Largest request and answer of a synchronous call, in bytes (6 MiB; AWS writes "6 MB" and counts like this). */
export const MAX_PAYLOAD_BYTES = 6 * 1024 * 1024;

const EMPTY_OBJECT = Buffer.from('{}');

/** The payload that goes to the function: the body as it came, or `{}` for an empty one as in AWS. */
export function payloadOf(body: Buffer | undefined): Buffer {
  return body === undefined || body.length === 0 ? EMPTY_OBJECT : body;
}

/**
 * Checks that a payload is JSON. Nothing is made of it: the function gets the caller's own bytes.
 *
 * @throws {LambdaError} InvalidRequestContentException when it is not
 */
export function checkPayload(payload: Buffer): void {
  const fault = isUtf8(payload) ? jsonFault(payload) : 'it is not UTF-8';
  if (fault !== undefined) {
    throw new LambdaError(
      'InvalidRequestContentException',
      `Could not parse request body into json: ${fault}`,
    );
  }
}
