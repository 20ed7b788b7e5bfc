import type { ServerResponse } from 'node:http';
import type { Hold } from '../admission/room.ts';
import type { AnswerSink } from '../agents/agent-call.ts';
import { type AnswerHead, hasPrelude, MAX_PRELUDE_BYTES, PRELUDE_END, preludeOf } from '../url/url-answer.ts';

/** How far the streamed answer of a function is. */
type Stage =
  /** The function has not begun to stream. */
  | { readonly kind: 'Waiting' }
  /** Status and headers are arriving. */
  | { readonly kind: 'Head'; readonly text: Buffer }
  /** They have gone to the client. */
  | { readonly kind: 'Body' }
  /** They make no sense, or are too long. The rest of the answer is dropped. */
  | { readonly kind: 'Senseless' };

export interface UrlStreamOptions {
  readonly response: ServerResponse;
  readonly hold: Pick<Hold, 'add'>;
  /** Sends status and headers to the client. */
  readonly send: (head: AnswerHead) => void;
}

/** The answer of a function that streams, as its client gets it: bytes as they come, within what the client reads. */
export class UrlStream implements AnswerSink {
  readonly #options: UrlStreamOptions;
  #stage: Stage = { kind: 'Waiting' };
  /** Bytes of the body. */
  bytes = 0;

  constructor(options: UrlStreamOptions) {
    this.#options = options;
  }

  get stage(): Stage['kind'] {
    return this.#stage.kind;
  }

  begin(contentType: string): void {
    if (hasPrelude(contentType)) {
      this.#stage = { kind: 'Head', text: Buffer.alloc(0) };
    } else {
      this.#send({ status: 200, headers: [['content-type', contentType || 'application/octet-stream']] });
    }
  }

  chunk(bytes: Buffer, taken: () => void): void {
    switch (this.#stage.kind) {
      case 'Head':
        this.#readHead(this.#stage.text, bytes);
        taken();
        return;
      case 'Body':
        this.#write(bytes, taken);
        return;
      case 'Waiting':
      case 'Senseless':
        taken();
    }
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
    this.#send(head);
    const rest = whole.subarray(end + PRELUDE_END.length);
    if (rest.length > 0) {
      this.#write(rest, () => undefined);
    }
  }

  #send(head: AnswerHead): void {
    try {
      this.#options.send(head);
      this.#stage = { kind: 'Body' };
    } catch {
      // A header that cannot be sent.
      this.#stage = { kind: 'Senseless' };
    }
  }

  #write(bytes: Buffer, taken: () => void): void {
    const { hold, response } = this.#options;
    this.bytes += bytes.length;
    hold.add(bytes.length);
    response.write(bytes, () => {
      hold.add(-bytes.length);
      taken();
    });
  }
}
