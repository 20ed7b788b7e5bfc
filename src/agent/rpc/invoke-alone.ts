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
import { ArrivedBytes } from './arrived-bytes.ts';
import { type Callers, InvokeAnswer } from './invoke-answer.ts';
import { resolveWorker } from './served-fleet.ts';

export type InvokeCall = ServerWritableStream<InvokeRequest, Sparse<InvokeResponse>>;

export type RecoverCall = ServerDuplexStream<RecoverRequest, Sparse<InvokeResponse>>;

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
export async function serveRecover(call: RecoverCall, callers: Callers, ownRun: string): Promise<InvocationResult> {
  const first = await firstOf(
    call,
    (request) => request.worker !== null,
    ({ confirms, from, read, window }) => ({
      credit: new AnswerCredit(window, from, read),
      arrival: new ArrivedBytes(from),
      confirms,
    }),
  );
  const { from, requestId, run, tailLog, worker } = first.request;
  const sentMs = run === '' || run === ownRun ? undefined : first.request.sentMs;
  return await serveAlone(
    call,
    callers,
    (answer) => {
      const uid = resolveWorker(callers.fleet, worker);
      return answer.send(
        uid,
        ({ arrival, ...way }) =>
          callers.kept.recover({ uid, requestId, from, ...way }, callers.namespaces) ??
          callers.fleet.recover({ uid, requestId, sentMs, from, tailLog, ...way, arrival }),
      );
    },
    first,
    true,
  );
}

/**
 * Serves one InvokeStreamed.
 *
 * @throws {EsbError} what the caller is to be told instead of a trailer
 */
export async function serveInvokeStreamed(call: InvokeStreamedCall, callers: Callers): Promise<InvocationResult> {
  const first = await firstOf(
    call,
    ({ invoke }) => invoke !== null,
    ({ invoke, window }) => ({
      credit: new AnswerCredit(window),
      arrival: new ArrivedBytes(),
      confirms: invoke?.confirms === true,
    }),
  );
  return await serveAlone(
    call,
    callers,
    (answer) => {
      call.on('data', ({ withdraw }: InvokeStreamedRequest) => withdraw && answer.withdraw());
      return answer.run(first.request.invoke as InvokeRequest);
    },
    first,
  );
}

/** How much of an answer its caller has, by its own word. */
interface Progress {
  readonly credit: AnswerCredit;
  readonly arrival: ArrivedBytes;
  /** Whether the caller says when the whole has arrived. */
  readonly confirms: boolean;
}

/**
 * The message of a stream that has its call. The progress hears the messages after it.
 *
 * @throws {EsbError} `InvalidArgument` where there is none
 */
async function firstOf<T extends { readonly read: number; readonly arrived: number; readonly done: boolean }>(
  call: ServerDuplexStream<T, Sparse<InvokeResponse>>,
  hasCall: (request: T) => boolean,
  progressOf: (request: T) => Progress,
): Promise<Progress & { readonly request: T }> {
  const first = Promise.withResolvers<Progress & { readonly request: T }>();
  let progress: Progress | undefined;
  call.on('data', (request: T) => {
    if (progress !== undefined) {
      progress.credit.read(request.read);
      progress.arrival.note(request.arrived);
      if (request.done) {
        progress.arrival.end();
      }
    } else if (hasCall(request)) {
      progress = progressOf(request);
      first.resolve({ request, ...progress });
    }
  });
  const noCall = (): void => first.reject(new EsbError('the stream has no call', { code: 'InvalidArgument' }));
  call.once('end', noCall);
  call.once('cancelled', noCall);
  if (call.cancelled) {
    noCall();
  }
  return await first.promise;
}

/** @param isKept whether the answer stays for the next who asks, where this caller is gone */
async function serveAlone(
  call: InvokeCall | InvokeStreamedCall | RecoverCall,
  callers: Callers,
  serve: (answer: InvokeAnswer) => Promise<InvocationResult>,
  progress?: Progress,
  isKept = false,
): Promise<InvocationResult> {
  const answer = new InvokeAnswer(
    (message, sent) => {
      call.write(message, sent);
    },
    callers,
    progress?.credit,
    progress?.arrival,
    isKept,
  );
  // Called at the end of every call, once all of the answer has left or the connection is gone.
  call.once('cancelled', () => answer.close());
  if (call.cancelled) {
    answer.close();
  }
  const onCancelled = (): void => answer.abandon();
  call.on('cancelled', onCancelled);
  let result: InvocationResult;
  try {
    result = await serve(answer);
  } finally {
    call.off('cancelled', onCancelled);
  }
  if (progress?.confirms === true && !call.cancelled) {
    await wordOfArrival(call, progress.arrival);
  }
  return result;
}

/** Resolves once the caller has said that the whole answer has arrived, and when the stream is over. */
async function wordOfArrival(
  call: InvokeStreamedCall | InvokeCall | RecoverCall,
  arrival: ArrivedBytes,
): Promise<void> {
  const over = Promise.withResolvers<void>();
  arrival.onWhole(() => over.resolve());
  call.once('cancelled', () => over.resolve());
  await over.promise;
}
