import { type ClientHttp2Session, type ClientHttp2Stream, constants } from 'node:http2';
import { EsbError, messageOf } from '../../common/errors.ts';
import { GrowingBuffer } from '../../common/growing-buffer.ts';

/** Bytes before each message: whether it is compressed (1), and its length (4, big-endian). */
const PREFIX_BYTES = 5;

/** Largest message that is accepted: twice an answer of 6 MiB in one piece, or a report of 10,000 workers. */
const MAX_MESSAGE_BYTES = 12 * 1024 * 1024;

/** gRPC status codes that are looked at. */
const GRPC_OK = '0';
const GRPC_UNIMPLEMENTED = '12';
/** Metadata key under which agents send the CamelCase code of an error along. */
const ERROR_CODE_KEY = 'esb-code';

export interface GrpcEnd {
  /** `Error`: by the server's status, or by an invalid answer. `Lost`: by the loss of the connection and the like. */
  readonly kind: 'Ok' | 'Error' | 'Lost';
  readonly message: string;
  /** The server's own code of an error, where it gave one. */
  readonly code: string | undefined;
}

export interface GrpcStreamListener {
  message(bytes: Buffer): void;
  /** Once, at the end. */
  ended(end: GrpcEnd): void;
}

/** One gRPC call on its HTTP/2 stream: messages out and in, and how it ended. */
export class GrpcStream {
  readonly #stream: ClientHttp2Stream;
  #fault: string | undefined;
  #status: string | undefined;
  #code: string | undefined;
  #invalid = false;
  #ended = false;

  /** Errors of a session that takes no streams are thrown as they are. */
  constructor(session: ClientHttp2Session, path: string, listener: GrpcStreamListener) {
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      ':scheme': 'https',
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'esb-gateway',
    });
    this.#stream = stream;
    const reader = new GrpcFrameReader((bytes) => listener.message(bytes));
    const noteStatus = (headers: Readonly<Record<string, unknown>>): void => this.#noteStatus(headers);
    stream.on('response', noteStatus);
    stream.on('trailers', noteStatus);
    stream.on('data', (bytes: Buffer) => {
      try {
        reader.push(bytes);
      } catch (error) {
        this.#fault ??= messageOf(error);
        this.#invalid = true;
        this.cancel();
      }
    });
    // Where the other side has said all, nothing that we could still say is heard.
    stream.on('end', () => stream.end());
    stream.on('error', (error) => {
      this.#fault ??= error.message;
    });
    stream.on('close', () => {
      if (!this.#ended) {
        this.#ended = true;
        listener.ended(this.#end());
      }
    });
  }

  /** Whether the server has ended the stream in order; known before the end itself is reported. */
  get isEndedInOrder(): boolean {
    return this.#status === GRPC_OK;
  }

  /** Whether the server does not know the method. */
  get isUnimplemented(): boolean {
    return this.#status === GRPC_UNIMPLEMENTED;
  }

  get isWritable(): boolean {
    return this.#stream.writable;
  }

  write(message: Buffer): void {
    this.#stream.write(grpcFrame(message));
  }

  end(message: Buffer): void {
    this.#stream.end(grpcFrame(message));
  }

  cancel(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  /** Whether it is certain that the server has not looked at anything that was sent. */
  get neverSeen(): boolean {
    const { id, rstCode } = this.#stream;
    // Without an id the stream never left this process, and the other side has not looked at a refused stream (RFC
    // 9113, 8.7).
    return id === undefined || rstCode === constants.NGHTTP2_REFUSED_STREAM || this.isUnimplemented;
  }

  #end(): GrpcEnd {
    if (this.#status === GRPC_OK) {
      return { kind: 'Ok', message: this.#fault ?? 'the agent ended the stream', code: undefined };
    }
    return {
      kind: this.#status !== undefined || this.#invalid ? 'Error' : 'Lost',
      message: this.#fault ?? 'the connection to the agent was lost',
      code: this.#code,
    };
  }

  #noteStatus(headers: Readonly<Record<string, unknown>>): void {
    const status = headers['grpc-status'];
    if (typeof status !== 'string') {
      return;
    }
    this.#status = status;
    if (status !== GRPC_OK) {
      const code = headers[ERROR_CODE_KEY];
      this.#code = typeof code === 'string' ? code : undefined;
      this.#fault ??= grpcMessage(headers);
    }
  }
}

/** The text of a gRPC status, which is percent-encoded on the wire. */
function grpcMessage(headers: Readonly<Record<string, unknown>>): string {
  const message = headers['grpc-message'];
  const text = typeof message === 'string' ? message : `status ${String(headers['grpc-status'])}`;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

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
  /** The received part of an incomplete message. */
  #pending = new GrowingBuffer();
  /** Bytes that must have come before it is worth looking again. */
  #needed = PREFIX_BYTES;

  /** @param onMessage called with each message, a view into the pushed bytes */
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
