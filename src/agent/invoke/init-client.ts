import { unreachable } from '../../common/errors.ts';
import { functionArn, versionText } from '../../common/function-arn.ts';
import type { InitAnswer, InitHead, InitLink } from '../../init/contract.ts';
import { isTraceId, type WorkerAnswer, type WorkerLink, type WorkerRequest } from './emulator-client.ts';
import { toldEnd } from './function-end.ts';

/** Text that a header can carry; longer than any ARN of a function. */
const ARN = /^[\x21-\x7e]{1,512}$/;

/** Calls into one container by its init. */
export class InitClient implements WorkerLink {
  readonly #link: InitLink;
  /** Ids of the calls under way. */
  readonly #current = new Set<string>();

  constructor(link: InitLink) {
    this.#link = link;
  }

  async call(request: WorkerRequest): Promise<WorkerAnswer> {
    const { functionName, invokedFunctionArn = '', payload, requestId, traceId = '' } = request;
    let head: InitHead | undefined;
    this.#current.add(requestId);
    const answer = await this.#link.call({
      requestId,
      payload,
      timeoutMs: request.timeoutSeconds * 1_000,
      boundMs: request.timeoutMs,
      functionArn: ARN.test(invokedFunctionArn) ? invokedFunctionArn : functionArn(functionName),
      version: versionText(request.version),
      clientContext: contextText(request.clientContext),
      traceId: isTraceId(traceId) ? traceId : '',
      onSending: request.onSending,
      onHead: (told) => {
        head = told;
        request.onHead({ status: 200, ...told });
      },
      onChunk: request.onChunk,
      room: request.room,
      arrival: request.arrival,
    });
    this.#current.delete(requestId);
    return workerAnswer(requestId, answer, head, request);
  }

  abort(message: string): void {
    for (const requestId of this.#current) {
      this.#link.abort(requestId, message);
    }
  }

  /** Ends the wait for the calls under way. The connection to the init is not this one's to close. */
  close(): void {
    this.abort('the connection was closed');
  }

  leave(): void {
    for (const requestId of this.#current) {
      this.#link.leave(requestId, 'the agent stops');
    }
  }
}

/**
 * The end of a call by the word of its init. Passes on what the caller of an error is told.
 *
 * @param head of the answer that has been passed on; undefined for none
 */
export function workerAnswer(
  requestId: string,
  answer: InitAnswer,
  head: InitHead | undefined,
  { onChunk, onHead }: Pick<WorkerRequest, 'onChunk' | 'onHead'>,
): WorkerAnswer {
  switch (answer.kind) {
    case 'NotSent':
    case 'Unknown':
      return answer;
    case 'Silent':
      return { kind: 'TimedOut' };
    case 'Ended': {
      const { outcome, ...rest } = answer.end;
      if (outcome === 'NotStarted') {
        return { kind: 'NotSent', message: rest.message ?? 'the worker did not begin the call' };
      }
      const { end, payload: told } = toldEnd(requestId, outcome, rest, head);
      if (head === undefined) {
        onHead({ status: 200, contentType: 'application/json', streaming: false });
      }
      if (told !== undefined) {
        onChunk(told);
      }
      return { kind: 'Answered', status: 200, end };
    }
    default:
      return unreachable(answer);
  }
}

/**
 * The text of a client context given in base64, in ASCII: runtimes read JSON from the header, and differ in how they
 * read other letters there.
 */
function contextText(base64: string): string {
  if (base64 === '') {
    return '';
  }
  const text = Buffer.from(base64, 'base64').toString('utf8');
  return text.replace(/[\u007f-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
