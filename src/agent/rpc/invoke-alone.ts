import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { EsbError } from '../../common/errors.ts';
import type {
  InvokeRequest,
  InvokeResponse,
  InvokeStreamedRequest,
  RecoverRequest,
} from '../../protocol/generated/agent.ts';
import type { Sparse } from '../../protocol/sparse.ts';
import type { InvocationResult } from '../model/invocation.ts';
import { AnswerCredit } from './answer-credit.ts';
import { type Callers, InvokeAnswer } from './invoke-stream.ts';
import { resolveWorker } from './served-fleet.ts';

export type InvokeCall = ServerWritableStream<InvokeRequest, Sparse<InvokeResponse>>;

export type RecoverCall = ServerWritableStream<RecoverRequest, Sparse<InvokeResponse>>;

export type InvokeStreamedCall = ServerDuplexStream<InvokeStreamedRequest, Sparse<InvokeResponse>>;

/**
 * Serves one Invoke.
 *
 * @throws {EsbError} what the caller is to be told instead of a trailer
 */
export function serveInvoke(call: InvokeCall, callers: Callers): Promise<InvocationResult> {
  return serveAlone(call, callers, (answer) => answer.run(call.request));
}

/**
 * Serves one Recover.
 *
 * @param ownRun name of this process
 * @throws {EsbError} what the caller is to be told instead of a trailer
 */
export function serveRecover(call: RecoverCall, callers: Callers, ownRun: string): Promise<InvocationResult> {
  const { requestId, run, worker } = call.request;
  const sentMs = run === '' || run === ownRun ? undefined : call.request.sentMs;
  return serveAlone(call, callers, (answer) => {
    const uid = resolveWorker(callers.fleet, worker);
    return answer.send(uid, (way) => callers.fleet.recover({ uid, requestId, sentMs, ...way }));
  });
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
  return await serveAlone(call, callers, (answer) => answer.run(request), given);
}

async function serveAlone(
  call: InvokeCall | InvokeStreamedCall | RecoverCall,
  callers: Callers,
  serve: (answer: InvokeAnswer) => Promise<InvocationResult>,
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
    return await serve(answer);
  } finally {
    call.off('cancelled', onCancelled);
  }
}
