import type { ServerDuplexStream } from '@grpc/grpc-js';
import { EsbError } from '../../common/errors.ts';
import type { InvokeManyRequest, InvokeManyResponse, InvokeRequest } from '../../protocol/generated/agent.ts';
import { reasonCodeOf } from '../../protocol/reasons.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { InvocationResult } from '../model/invocation.ts';
import type { ArrivedBytes } from './arrived-bytes.ts';
import { type Callers, InvokeAnswer } from './invoke-answer.ts';

/** Most answers of one stream whose arrival the caller has not confirmed. */
const MAX_UNCONFIRMED = 4_096;

export type InvokeManyCall = ServerDuplexStream<InvokeManyRequest, Sparse<InvokeManyResponse>>;

/** Receives the end of each call. */
export interface InvokeListener {
  readonly onInvoked: ((result: InvocationResult) => void) | undefined;
  readonly onFailed: (error: unknown) => void;
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
  /** Answers whose last bytes may not have left. */
  const unsent = new Set<InvokeAnswer>();
  /** Answers that have left, and of which the caller will say that they have arrived. */
  const unconfirmed = new Map<number, ArrivedBytes>();
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
      if (request.confirms && !broken) {
        unconfirmed.set(number, answer.arrival);
        confirmOld(unconfirmed);
      }
      ended = true;
      forget();
      settle();
    }
  };
  const onRequest = ({ arrived, call: number, done, invoke, cancel, withdraw }: InvokeManyRequest): void => {
    for (const each of done) {
      unconfirmed.get(each)?.end();
      unconfirmed.delete(each);
    }
    if (cancel) {
      answers.get(number)?.abandon();
    } else if (withdraw) {
      answers.get(number)?.withdraw();
    } else if (arrived > 0) {
      answers.get(number)?.arrival.note(arrived);
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

/** Confirms the oldest answer where the caller has confirmed none for too long. */
function confirmOld(unconfirmed: Map<number, ArrivedBytes>): void {
  const [oldest] = unconfirmed;
  if (unconfirmed.size > MAX_UNCONFIRMED && oldest !== undefined) {
    const [number, arrival] = oldest;
    unconfirmed.delete(number);
    arrival.end();
  }
}
