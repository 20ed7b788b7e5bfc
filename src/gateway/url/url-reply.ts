import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Hold } from '../admission/room.ts';
import type { FunctionCall, InvokeResult } from '../agents/function-call.ts';
import { StreamedAnswer } from '../http/streamed-answer.ts';
import { type CorsRequest, corsHeaders, isPreflight, preflightHeaders, withoutCors } from './cors.ts';
import type { UrlRoute } from './function-urls.ts';
import {
  type AnswerHead,
  failureOf,
  hasPrelude,
  MAX_PRELUDE_BYTES,
  PRELUDE_END,
  preludeOf,
  type UrlAnswer,
  urlAnswerOf,
} from './url-answer.ts';

/** The stage of a streamed answer of a function. */
type Stage =
  /** The function has not begun to stream. */
  | { readonly kind: 'Waiting' }
  /** Status and headers are arriving. */
  | { readonly kind: 'Head'; readonly text: Buffer }
  /** Status and headers have gone to the client. */
  | { readonly kind: 'Body' }
  /** Status and headers make no sense, or are too long. The rest of the answer is dropped. */
  | { readonly kind: 'Senseless' };

/** A request of a URL, as far as its answer depends on it. */
export interface RepliedRequest {
  readonly id: string;
  readonly raw: IncomingMessage;
  readonly response: ServerResponse;
  readonly hold: Pick<Hold, 'add'>;
  readonly caller: { readonly gone: boolean };
  readonly cors: CorsRequest;
  readonly route: UrlRoute | undefined;
  /** Undefined until the call was accepted. */
  readonly call: FunctionCall | undefined;
}

/** The answer to a request of a URL. Of a function that streams, it is the receiver. */
export class UrlReply extends StreamedAnswer {
  readonly #request: RepliedRequest;
  readonly #isDraining: () => boolean;
  #stage: Stage = { kind: 'Waiting' };

  /** @param isDraining whether answers end their connection */
  constructor(request: RepliedRequest, isDraining: () => boolean) {
    super(request.response, request.hold);
    this.#request = request;
    this.#isDraining = isDraining;
  }

  begin(contentType: string): void {
    if (hasPrelude(contentType)) {
      this.#stage = { kind: 'Head', text: Buffer.alloc(0) };
    } else {
      this.#beginBody({ status: 200, headers: [['content-type', contentType || 'application/octet-stream']] });
    }
  }

  chunk(bytes: Buffer, taken: () => void): void {
    switch (this.#stage.kind) {
      case 'Head':
        this.#readHead(this.#stage.text, bytes);
        taken();
        return;
      case 'Body':
        this.write(bytes, taken);
        return;
      case 'Waiting':
      case 'Senseless':
        taken();
    }
  }

  /** Sends what is left of an answer. Returns whether the client got an answer of the function, to its end. */
  finish({ body, contentType = '', functionError, outcome }: InvokeResult): boolean {
    switch (this.#stage.kind) {
      case 'Body':
        if (functionError) {
          // The status has gone out: a cut connection tells the client that the answer is not whole.
          this.#request.response.destroy();
          return false;
        }
        this.#request.response.end(body);
        return true;
      case 'Head':
      case 'Senseless':
        this.send(failureOf(outcome));
        return false;
      case 'Waiting': {
        const made = functionError ? undefined : urlAnswerOf(body, contentType);
        this.send(made ?? failureOf(outcome), body);
        return made !== undefined;
      }
    }
  }

  /** @param counted bytes of the function, which the request holds already */
  send(answer: UrlAnswer, counted?: Buffer): void {
    const { caller, hold, response } = this.#request;
    if (caller.gone) {
      return;
    }
    if (answer.body.buffer !== counted?.buffer) {
      hold.add(answer.body.length);
    }
    this.bytes = answer.body.length;
    this.#sendHead(answer, answer.body.length);
    response.end(answer.body);
  }

  /** Answers a browser that asks whether a page may send a request. Returns whether the request was that. */
  sendPreflight(): boolean {
    const { cors: asked, response, route } = this.#request;
    const config = route?.url.cors;
    if (config === undefined || !isPreflight(asked)) {
      return false;
    }
    this.#writeHead({ status: 200, headers: preflightHeaders(config, asked) }, 0);
    response.end();
    return true;
  }

  #readHead(text: Buffer, bytes: Buffer): void {
    const whole = Buffer.concat([text, bytes]);
    const end = whole.indexOf(PRELUDE_END);
    if (end < 0 && whole.length <= MAX_PRELUDE_BYTES) {
      this.#stage = { kind: 'Head', text: whole };
      return;
    }
    const head = end < 0 ? undefined : preludeOf(whole.subarray(0, end));
    if (head === undefined) {
      this.#stage = { kind: 'Senseless' };
      return;
    }
    this.#beginBody(head);
    const rest = whole.subarray(end + PRELUDE_END.length);
    if (rest.length > 0) {
      this.write(rest, () => undefined);
    }
  }

  #beginBody(head: AnswerHead): void {
    try {
      this.#sendHead(head, undefined);
      this.#request.response.flushHeaders();
      this.#stage = { kind: 'Body' };
    } catch {
      // A header that cannot be sent.
      this.#stage = { kind: 'Senseless' };
    }
  }

  /** @param bytes of the body; undefined where they are not known */
  #sendHead({ headers, status }: AnswerHead, bytes: number | undefined): void {
    const { cors, route } = this.#request;
    const config = route?.url.cors;
    const own = config === undefined ? headers : withoutCors(headers);
    const shown = config === undefined ? [] : corsHeaders(config, cors, own);
    this.#writeHead({ status, headers: [...own, ...shown] }, bytes);
  }

  #writeHead({ headers, status }: AnswerHead, bytes: number | undefined): void {
    const { call, id, raw, response } = this.#request;
    const hasBody = status !== 204 && status !== 304;
    // A HEAD without a body says nothing of the length that a GET has.
    const length = raw.method === 'HEAD' && bytes === 0 ? undefined : bytes;
    const all = [
      ...headers,
      ['x-amzn-requestid', id],
      ...(call === undefined ? [] : [['x-amzn-trace-id', call.traceId]]),
      ...(length === undefined || !hasBody ? [] : [['content-length', String(length)]]),
      ...(this.#isDraining() ? [['connection', 'close']] : []),
    ];
    response.writeHead(status, all.flat());
  }
}
