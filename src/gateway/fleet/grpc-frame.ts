import { EsbError } from '../../common/errors.ts';

/** Bytes before each message: whether it is compressed (1), and its length (4, big-endian). */
const PREFIX_BYTES = 5;

/** Largest message that is taken in: twice an answer of 6 MiB in one piece, or what an agent says of 10,000 workers. */
const MAX_MESSAGE_BYTES = 12 * 1024 * 1024;

/** A message as gRPC puts it on an HTTP/2 stream. */
export function grpcFrame(message: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  frame.writeUInt8(0, 0);
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, PREFIX_BYTES);
  return frame;
}

/** Takes the messages out of one stream. */
export class GrpcFrameReader {
  readonly #onMessage: (message: Buffer) => void;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Bytes that must have come before it is worth looking again. */
  #needed = PREFIX_BYTES;

  /** @param onMessage given each message; a view into what was pushed */
  constructor(onMessage: (message: Buffer) => void) {
    this.#onMessage = onMessage;
  }

  /**
   * Takes the next bytes of the stream.
   *
   * @throws {EsbError} `InvalidAnswer` when they are not gRPC as we asked for it
   */
  push(bytes: Buffer): void {
    let input = bytes;
    if (this.#pendingBytes > 0) {
      this.#pending.push(bytes);
      this.#pendingBytes += bytes.length;
      if (this.#pendingBytes < this.#needed) {
        return;
      }
      input = Buffer.concat(this.#pending, this.#pendingBytes);
    }
    let offset = 0;
    this.#needed = PREFIX_BYTES;
    while (input.length - offset >= PREFIX_BYTES) {
      if (input[offset] !== 0) {
        throw new EsbError('an agent sent a compressed message', { code: 'InvalidAnswer' });
      }
      const size = input.readUInt32BE(offset + 1);
      if (size > MAX_MESSAGE_BYTES) {
        throw new EsbError(`an agent sent a message of ${size} bytes`, { code: 'InvalidAnswer' });
      }
      const end = offset + PREFIX_BYTES + size;
      if (input.length < end) {
        this.#needed = PREFIX_BYTES + size;
        break;
      }
      this.#onMessage(input.subarray(offset + PREFIX_BYTES, end));
      offset = end;
    }
    this.#pendingBytes = input.length - offset;
    this.#pending = this.#pendingBytes === 0 ? [] : [input.subarray(offset)];
  }
}
