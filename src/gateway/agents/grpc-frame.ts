import { EsbError } from '../../common/errors.ts';
import { GrowingBuffer } from '../../common/growing-buffer.ts';

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
  /** What has come of a message that is not whole. */
  #pending = new GrowingBuffer();
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
    if (this.#pending.length > 0) {
      this.#pending.append(bytes);
      if (this.#pending.length < this.#needed) {
        return;
      }
      input = this.#pending.whole();
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
    if (offset < input.length) {
      this.#pending = new GrowingBuffer();
      this.#pending.append(input.subarray(offset));
    } else {
      this.#pending.clear();
    }
  }
}
