import type { IncomingMessage } from 'node:http';
import { overloaded } from '../admission/function-admission.ts';
import type { Hold } from '../admission/room.ts';
import { MAX_PAYLOAD_BYTES } from '../call/json-payload.ts';
import { LambdaError } from '../call/lambda-error.ts';

/**
 * Bytes of a body that is too large that are read and dropped, so that the client comes to read the refusal: most send
 * all before they look. Beyond that the connection is cut.
 */
const MAX_DROPPED_BYTES = 64 * 1024 * 1024;

/**
 * Gives the whole body to `done`, or why it was dropped: RequestTooLargeException when it is over 6 MiB, TooManyRequestsException when
 * the gateway has no room for it. Room is taken for what has come, not for what was announced, which costs a client nothing.
 */
export function readRequestBody(
  request: IncomingMessage,
  hold: Pick<Hold, 'take' | 'drop'>,
  done: (error: Error | null, body?: Buffer) => void,
): void {
  const chunks: Buffer[] = [];
  let size = 0;
  let refusal: LambdaError | undefined;
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (refusal === undefined && size <= MAX_PAYLOAD_BYTES && hold.take(chunk.length)) {
      chunks.push(chunk);
      return;
    }
    refusal ??= size > MAX_PAYLOAD_BYTES ? tooLarge() : overloaded();
    chunks.length = 0;
    hold.drop();
    if (size > MAX_DROPPED_BYTES) {
      request.destroy();
    }
  });
  request.on('end', () => {
    if (refusal !== undefined) {
      done(refusal);
      return;
    }
    const [first] = chunks;
    done(null, chunks.length === 1 ? first : Buffer.concat(chunks, size));
  });
  request.on('error', (error) => {
    done(new LambdaError('InvalidRequestContentException', 'The request was cut off.', { cause: error }));
  });
}

function tooLarge(): LambdaError {
  return new LambdaError(
    'RequestTooLargeException',
    `Request must be smaller than ${MAX_PAYLOAD_BYTES} bytes for the InvokeFunction operation`,
  );
}
