import type { FastifyReply } from 'fastify';
import { EVENT_STREAM, type InvokeComplete, invokeComplete, payloadChunk } from '../../common/event-stream.ts';
import type { Hold } from '../admission/room.ts';
import type { AnswerSink } from '../agents/agent-call.ts';
import type { InvokeResult } from '../agents/function-call.ts';
import type { LambdaError } from '../lambda/lambda-error.ts';

export interface StreamedAnswerOptions {
  readonly reply: FastifyReply;
  readonly hold: Pick<Hold, 'add'>;
  /** Names and values of headers in turn. */
  readonly headers: readonly string[];
}

/** The answer of an InvokeWithResponseStream: messages as they come, within what its client reads. */
export class StreamedAnswer implements AnswerSink {
  readonly #options: StreamedAnswerOptions;
  #begun = false;
  #version: readonly string[] = [];
  /** Bytes of the function's own. */
  bytes = 0;

  constructor(options: StreamedAnswerOptions) {
    this.#options = options;
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
    const { reply, headers } = this.#options;
    this.#begun = true;
    // Before the hijack: if a header is invalid, the framework can still answer with an error.
    reply.raw.writeHead(200, ['content-type', EVENT_STREAM, ...headers, ...this.#version, ...more]);
    reply.hijack();
    reply.raw.flushHeaders();
  }

  chunk(bytes: Buffer, taken: () => void): void {
    const { reply, hold } = this.#options;
    this.bytes += bytes.length;
    hold.add(bytes.length);
    reply.raw.write(payloadChunk(bytes), () => {
      hold.add(-bytes.length);
      taken();
    });
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
    const { reply } = this.#options;
    reply.raw.end(invokeComplete(event));
    return reply;
  }
}
