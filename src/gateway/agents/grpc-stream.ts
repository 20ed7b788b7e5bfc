import { type ClientHttp2Session, type ClientHttp2Stream, constants } from 'node:http2';
import { messageOf } from '../../common/errors.ts';
import { GrpcFrameReader, grpcFrame } from './grpc-frame.ts';

/** gRPC status codes that are looked at. */
const GRPC_OK = '0';
const GRPC_UNIMPLEMENTED = '12';
/** Metadata key under which agents send the CamelCase code of an error along. */
const ERROR_CODE_KEY = 'esb-code';

/** How a stream ended. */
export interface GrpcEnd {
  /** By the server's status or an answer of it that makes no sense, or by the loss of the connection and the like. */
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

  /** Whether the server has ended the stream in order; known before the end itself is told. */
  get isEndedInOrder(): boolean {
    return this.#status === GRPC_OK;
  }

  /** Whether anything can still be sent. */
  get isWritable(): boolean {
    return this.#stream.writable;
  }

  /** Sends a message. */
  write(message: Buffer): void {
    this.#stream.write(grpcFrame(message));
  }

  /** Sends the last message. */
  end(message: Buffer): void {
    this.#stream.end(grpcFrame(message));
  }

  /** Ends the stream from our side, whatever the other is about. */
  cancel(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  /** Whether it is certain that the server has not looked at anything that was sent. */
  get neverSeen(): boolean {
    const { id, rstCode } = this.#stream;
    // Without an id it never left this process, and a refused stream was not looked at by the other side (RFC 9113, 8.7).
    return (
      id === undefined || rstCode === constants.NGHTTP2_REFUSED_STREAM || this.#status === GRPC_UNIMPLEMENTED
    );
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
