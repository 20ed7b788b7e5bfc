import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import { EVENT_STREAM, type InvokeComplete, invokeComplete, payloadChunk } from '../../common/event-stream.ts';
import type { Hold } from '../admission/room.ts';
import type { AnswerSink } from '../agents/agent-call.ts';
import type { InvokeResult } from '../agents/function-call.ts';
import type { LambdaError } from '../lambda/lambda-error.ts';

/** A streamed answer on its way to a client: bytes as they come, within what the client reads. */
export abstract class StreamedAnswer implements AnswerSink {
  /** Bytes of the function's own. */
  bytes = 0;
  readonly #response: ServerResponse;
  readonly #hold: Pick<Hold, 'add'>;

  constructor(response: ServerResponse, hold: Pick<Hold, 'add'>) {
    this.#response = response;
    this.#hold = hold;
  }

  abstract begin(contentType: string): void;
  abstract chunk(bytes: Buffer, taken: () => void): void;

  /** @param frame the bytes in the form that the client gets */
  protected write(bytes: Buffer, taken: () => void, frame: Uint8Array = bytes): void {
    this.bytes += bytes.length;
    this.#hold.add(bytes.length);
    this.#response.write(frame, () => {
      this.#hold.add(-bytes.length);
      taken();
    });
  }
}

export interface EventStreamAnswerOptions {
  readonly reply: FastifyReply;
  readonly hold: Pick<Hold, 'add'>;
  /** Names and values of headers in turn. */
  readonly headers: readonly string[];
}

/** The answer of an InvokeWithResponseStream, in messages. */
export class EventStreamAnswer extends StreamedAnswer {
  readonly #reply: FastifyReply;
  readonly #headers: readonly string[];
  #begun = false;
  #version: readonly string[] = [];

  constructor({ headers, hold, reply }: EventStreamAnswerOptions) {
    super(reply.raw, hold);
    this.#reply = reply;
    this.#headers = headers;
  }

  get hasBegun(): boolean {
    return this.#begun;
  }

  routed(version: string): void {
    this.#version = ['x-amz-executed-version', version];
  }

  begin(): void {
    this.#start([]);
  }

  #start(more: readonly string[]): void {
    const reply = this.#reply;
    this.#begun = true;
    // Before the hijack: if a header is invalid, the framework can still answer with an error.
    reply.raw.writeHead(200, ['content-type', EVENT_STREAM, ...this.#headers, ...this.#version, ...more]);
    reply.hijack();
    reply.raw.flushHeaders();
  }

  chunk(bytes: Buffer, taken: () => void): void {
    this.write(bytes, taken, payloadChunk(bytes));
  }

  /**
   * Sends what came after the streamed part, or all of an answer that was none.
   *
   * @param headers for an answer that has not begun
   * @param tail of the log, in base64
   */
  finish(answer: InvokeResult, headers: readonly string[], tail: string | undefined): FastifyReply {
    if (!this.#begun) {
      this.#start(headers);
    }
    const { body, functionError } = answer;
    if (!functionError && body.length > 0) {
      this.chunk(body, () => undefined);
    }
    return this.#end({
      ...(functionError ? { ErrorCode: 'Unhandled', ErrorDetails: body.toString('utf8') } : {}),
      ...(tail === undefined ? {} : { LogResult: tail }),
    });
  }

  /** Ends an answer that has begun with a fault of the gateway. */
  fail({ errorName, message }: LambdaError): FastifyReply {
    return this.#end({ ErrorCode: errorName, ErrorDetails: message });
  }

  #end(event: InvokeComplete): FastifyReply {
    this.#reply.raw.end(invokeComplete(event));
    return this.#reply;
  }
}
