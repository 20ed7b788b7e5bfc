import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';

/** The head of one request, with all that it has to prove who makes it. */
export interface AccessRequest {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly url: string;
  /** Without `content-type`, which the server hides from its framework. */
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they were sent. */
  readonly rawHeaders: readonly string[];
  readonly remoteAddress: string;
  /** The connection that it came by, if that is one of TLS. */
  readonly connection: TLSSocket | undefined;
}

/** The {@link AccessRequest} of an HTTP request; nothing is read of it before somebody asks. */
export class HttpAccessRequest implements AccessRequest {
  readonly #message: IncomingMessage;

  constructor(message: IncomingMessage) {
    this.#message = message;
  }

  get method(): string {
    return this.#message.method ?? '';
  }

  get url(): string {
    return this.#message.url ?? '';
  }

  get headers(): IncomingHttpHeaders {
    return this.#message.headers;
  }

  get rawHeaders(): readonly string[] {
    return this.#message.rawHeaders;
  }

  get remoteAddress(): string {
    return this.#message.socket.remoteAddress ?? '';
  }

  get connection(): TLSSocket | undefined {
    const { socket } = this.#message;
    return socket instanceof TLSSocket ? socket : undefined;
  }
}
