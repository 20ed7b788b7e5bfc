import { isUtf8 } from 'node:buffer';
import { messageOf } from '../../common/errors.ts';
import { LambdaError } from './lambda-error.ts';

/** Largest request and answer of a synchronous call, in bytes (6 MiB; AWS writes "6 MB" and counts like this). */
export const MAX_PAYLOAD_BYTES = 6 * 1024 * 1024;

const EMPTY_OBJECT = Buffer.from('{}');

/**
 * The payload that goes to the function: the body as it came, or `{}` for an empty one as in AWS.
 *
 * Parsed to be checked only; what is sent on are the caller's own bytes. Read as Latin-1 because every byte of a multi-byte
 * character is then some character above U+007F, which JSON allows exactly where it allows the real one, and one-byte
 * strings parse fastest.
 *
 * @throws {LambdaError} InvalidRequestContentException when it is not JSON
 */
export function checkedPayload(body: Buffer | undefined): Buffer {
  if (body === undefined || body.length === 0) {
    return EMPTY_OBJECT;
  }
  if (!isUtf8(body)) {
    throw notJson('it is not UTF-8');
  }
  try {
    JSON.parse(body.toString('latin1'));
  } catch (error) {
    throw notJson(messageOf(error));
  }
  return body;
}

function notJson(why: string): LambdaError {
  return new LambdaError('InvalidRequestContentException', `Could not parse request body into json: ${why}`);
}
