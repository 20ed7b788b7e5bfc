import type { IncomingMessage } from 'node:http';
import { MAX_PAYLOAD_BYTES } from './json-payload.ts';
import { LambdaError } from './lambda-error.ts';

/**
 * Bytes of a body that is too large that are read and dropped, so that the client comes to read the refusal: most send
 * all before they look. Beyond that the connection is cut.
 */
const MAX_DROPPED_BYTES = 64 * 1024 * 1024;

/** Gives the whole body to `done`, or a RequestTooLargeException when it is over 6 MiB. */
export function readRequestBody(
  request: IncomingMessage,
  done: (error: Error | null, body?: Buffer) => void,
): void {
  const chunks: Buffer[] = [];
  let size = 0;
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= MAX_PAYLOAD_BYTES) {
      chunks.push(chunk);
      return;
    }
    chunks.length = 0;
    if (size > MAX_DROPPED_BYTES) {
      request.destroy();
    }
  });
  request.on('end', () => {
    if (size > MAX_PAYLOAD_BYTES) {
      done(
        new LambdaError(
          'RequestTooLargeException',
          `Request must be smaller than ${MAX_PAYLOAD_BYTES} bytes for the InvokeFunction operation`,
        ),
      );
      return;
    }
    const [first] = chunks;
    done(null, chunks.length === 1 ? first : Buffer.concat(chunks, size));
  });
  request.on('error', (error) => done(error));
}
