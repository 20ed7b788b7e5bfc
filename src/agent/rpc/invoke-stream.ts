import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { EsbError } from '../../common/errors.ts';
import type {
  InvokeManyRequest,
  InvokeManyResponse,
  InvokeRequest,
  InvokeResponse,
  InvokeStreamedRequest,
} from '../../protocol/generated/agent.ts';
import { reasonCodeOf } from '../../protocol/reasons.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { InvocationResult } from '../model/invocation.ts';
import { AnswerCredit } from './answer-credit.ts';
import { type Callers, InvokeAnswer } from './invoke-answer.ts';

export type InvokeCall = ServerWritableStream<InvokeRequest, Sparse<InvokeResponse>>;

export type InvokeManyCall = ServerDuplexStream<InvokeManyRequest, Sparse<InvokeManyResponse>>;

export type InvokeStreamedCall = ServerDuplexStream<InvokeStreamedRequest, Sparse<InvokeResponse>>;

/** Told how each call ended. */
export interface InvokeListener {
  readonly onInvoked: ((result: InvocationResult) => void) | undefined;
  readonly onFailed: (error: unknown) => void;
}

/**
 * Serves one Invoke.
 *
 * @throws {EsbError} what the caller is to be told instead of a trailer
 */
export function serveInvoke(call: InvokeCall, callers: Callers): Promise<InvocationResult> {
  return serveAlone(call, call.request, callers);
}

/**
 * Serves one InvokeStreamed.
 *
 * @throws {EsbError} what the caller is to be told instead of a trailer
 */
export async function serveInvokeStreamed(call: InvokeStreamedCall, callers: Callers): Promise<InvocationResult> {
  const first = Promise.withResolvers<{ readonly request: InvokeRequest; readonly credit: AnswerCredit }>();
  let credit: AnswerCredit | undefined;
  call.on('data', ({ invoke, window, read }: InvokeStreamedRequest) => {
    if (credit !== undefined) {
      credit.read(read);
    } else if (invoke !== null) {
      credit = new AnswerCredit(window);
      first.resolve({ request: invoke, credit });
    }
  });
  const noCall = (): void => first.reject(new EsbError('the stream has no call', { code: 'InvalidArgument' }));
  call.once('end', noCall);
  call.once('cancelled', noCall);
  if (call.cancelled) {
    noCall();
  }
  const { request, credit: given } = await first.promise;
  return await serveAlone(call, request, callers, given);
}

async function serveAlone(
  call: InvokeCall | InvokeStreamedCall,
  request: InvokeRequest,
  callers: Callers,
  credit?: AnswerCredit,
): Promise<InvocationResult> {
  const answer = new InvokeAnswer(
    (message, sent) => {
      call.write(message, sent);
    },
    callers,
    credit,
  );
  // Called at the end of every call, once all of the answer has left or the connection is gone.
  call.once('cancelled', () => answer.close());
  if (call.cancelled) {
    answer.close();
  }
  const onCancelled = (): void => answer.abandon();
  call.on('cancelled', onCancelled);
  try {
    return await answer.run(request);
  } finally {
    call.off('cancelled', onCancelled);
  }
}

/**
 * Serves one InvokeMany, until the caller ends it, or `stopping` fires and what was taken from it has been answered.
 * Calls that are under way when the caller's connection breaks are treated as those whose caller hung up.
 */
export async function serveInvokeMany(
  call: InvokeManyCall,
  callers: Callers,
  stopping: AbortSignal,
  listener: InvokeListener,
): Promise<void> {
  const answers = new Map<number, InvokeAnswer>();
  /** Those whose last bytes may not have left. */
  const unsent = new Set<InvokeAnswer>();
  const ended = Promise.withResolvers<void>();
  let closing = false;
  let broken = false;
  const settle = (): void => {
    if (broken || (closing && answers.size === 0)) {
      // From here on nothing more may be taken from the stream.
      closing = true;
      call.off('data', onRequest);
      ended.resolve();
    }
  };
  const close = (): void => {
    closing = true;
    settle();
  };
  const onBroken = (): void => {
    broken = true;
    for (const answer of answers.values()) {
      answer.abandon();
    }
    for (const answer of unsent) {
      answer.close();
    }
    unsent.clear();
    settle();
  };
  const write = (message: Sparse<InvokeManyResponse>, sent?: () => void): void => {
    if (!broken) {
      call.write(message, sent);
    }
  };
  const serve = async (number: number, request: InvokeRequest): Promise<void> => {
    let ended = false;
    const forget = (): void => {
      if (ended && answer.isEmpty) {
        unsent.delete(answer);
      }
    };
    const answer = new InvokeAnswer(
      (part, sent) =>
        write({ call: number, answer: part }, () => {
          sent();
          forget();
        }),
      callers,
    );
    answers.set(number, answer);
    unsent.add(answer);
    try {
      const result = await answer.run(request);
      listener.onInvoked?.(result);
    } catch (error) {
      listener.onFailed(error);
      const { code, message } = EsbError.from(error);
      write({ call: number, failure: { code, message, reasonCode: reasonCodeOf(code) } });
    } finally {
      answers.delete(number);
      ended = true;
      forget();
      settle();
    }
  };
  const onRequest = ({ call: number, invoke, cancel }: InvokeManyRequest): void => {
    if (cancel) {
      answers.get(number)?.abandon();
    } else if (invoke !== null) {
      // Never rejects.
      void serve(number, invoke);
    }
  };
  call.on('cancelled', onBroken);
  call.on('error', onBroken);
  call.on('data', onRequest);
  call.on('end', close);
  stopping.addEventListener('abort', close, { once: true });
  if (call.cancelled) {
    onBroken();
  } else if (stopping.aborted) {
    close();
  }
  try {
    await ended.promise;
  } finally {
    stopping.removeEventListener('abort', close);
  }
}
