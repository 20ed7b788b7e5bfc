import { runtimeInterfaceOf } from '../../api/lambda-worker.ts';
import type { Clock } from '../../common/clock.ts';
import { unreachable } from '../../common/errors.ts';
import { versionText } from '../../common/function-arn.ts';
import type { TraceSpan, Tracing } from '../../common/tracing/span.ts';
import { continuedXRay, formatTraceParent, parentOf } from '../../common/tracing/trace-context.ts';
import { type AgentAnswer, type AnswerSink, type AnswerSoFar, nothingSoFar } from '../agents/agent-call.ts';
import type { AgentSession, WaitingCall } from '../agents/agent-session.ts';
import type { AskedAgain } from '../agents/call-streams.ts';
import {
  type AnsweredCall,
  type FunctionAnswer,
  timeoutError,
  translateEmulatorAnswer,
} from '../agents/emulator-translation.ts';
import type { FleetView, FunctionEntry, WorkerEntry } from '../agents/fleet-view.ts';
import type { FunctionCall, InvokeResult, SentTry } from '../agents/function-call.ts';
import type { Route } from '../agents/routing.ts';
import type { Caller } from '../lambda/caller.ts';
import { functionArn } from '../lambda/function-name.ts';
import { unavailable } from '../lambda/lambda-error.ts';
import { answerOfFunction } from './function-end.ts';
import { ASK_AGAIN_MS } from './match.ts';

/**
 * Milliseconds beyond the function's own time that a call may take at its agent, for queue, image and start. Agents
 * keep limits of their own; this bound is for a faulty agent.
 */
const MAX_OVERHEAD_MS = 3_600_000;

export interface CallSenderOptions {
  readonly view: FleetView;
  /** The session to the agent of a node, while there is one. */
  readonly sessionOf: (nodeName: string) => AgentSession | undefined;
  /** Called for each call whose agent ended under it, and whose answer was asked for. */
  readonly onAskedAgain?: (result: AskedAgain) => void;
  readonly clock: Clock;
  /** Receives a span for each time that a call is sent to an agent; undefined for no spans. */
  readonly tracing?: Tracing | undefined;
  /** Milliseconds that a call waits for an agent that is away. */
  readonly maxWaitMs: number;
  /** Called when a call has left a worker. */
  readonly onReleased: (target: FunctionEntry) => void;
}

/** A call on its way to a worker. */
export interface Sending {
  readonly target: FunctionEntry;
  readonly route: Route;
  readonly worker: WorkerEntry;
  readonly call: FunctionCall;
  readonly caller: Caller;
  readonly sink: AnswerSink | undefined;
  /** Monotonic milliseconds at which the call came. */
  readonly since: number;
  /** Whether the agent is to refuse it where it would have to wait. */
  readonly atOnce: boolean;
  /** Called where the worker is another one by now, and free for others, while the agent that had it is asked. */
  readonly onMoved: () => void;
  /** Called with the milliseconds that were lost with an agent that ended under the call, and until its next run. */
  readonly onLost: (milliseconds: number) => void;
}

/**
 * Sends calls to agents. A call whose agent ends under it is asked for at the next run of that agent, and never sent a
 * second time.
 */
export class CallSender {
  readonly #options: CallSenderOptions;

  constructor(options: CallSenderOptions) {
    this.#options = options;
  }

  /** Sends a call to the agent of its worker, and asks the next run of that agent where this one ends under the call. */
  async send(sending: Sending, waits?: WaitingCall): Promise<AgentAnswer> {
    const { atOnce, call, caller, onLost, route, since, sink, target, worker } = sending;
    const session = this.#options.sessionOf(route.nodeName);
    if (session === undefined) {
      return { kind: 'Refused', reason: 'ConnectionLost', message: `the agent of ${route.nodeName} is away` };
    }
    const release = hold(worker);
    const span = this.#options.tracing?.begin('esb.agent.v1.Agent/Invoke', {
      kind: 'client',
      parent: parentOf(call.traceParent, call.traceId),
      attributes: {
        'rpc.system': 'grpc',
        'rpc.service': 'esb.agent.v1.Agent',
        'rpc.method': 'Invoke',
        'faas.invocation_id': call.requestId,
        'faas.invoked_name': call.reference.name,
        'esb.worker': worker.name,
        'esb.node': route.nodeName,
      },
    });
    try {
      const { follower } = call;
      if (follower !== undefined) {
        let isWithdrawn = false;
        if (waits !== undefined) {
          waits.withdraw = () => {
            isWithdrawn = true;
          };
        }
        await follower.sending({
          nodeName: route.nodeName,
          worker: worker.reference,
          run: session.run,
          sentAt: this.#options.clock.now(),
          version: versionText(worker.resource.spec.version),
          timeoutSeconds: worker.resource.spec.timeoutSeconds,
        });
        if (caller.gone) {
          throw unavailable('The caller hung up.');
        }
        if (isWithdrawn) {
          return { kind: 'Refused', reason: 'CallerGone', message: 'another worker takes the call' };
        }
      }
      const sentAt = this.#options.clock.monotonic();
      const limitMs = worker.resource.spec.timeoutSeconds * 1000 + MAX_OVERHEAD_MS;
      const sent = await session.invoke(
        {
          worker: worker.reference,
          epoch: route.epoch,
          requestId: call.requestId,
          payload: call.payload,
          clientContext: call.clientContext,
          tailLog: call.tailLog,
          traceId: span === undefined ? call.traceId : continuedXRay(call.traceId, span.context),
          traceParent: span === undefined ? call.traceParent : formatTraceParent(span.context),
          waitedMs: Math.floor(sentAt - since),
          ...(atOnce ? { atOnce } : {}),
          ...(follower === undefined ? {} : { keeps: true }),
          ...(call.reference.qualifier === undefined ? {} : { invokedFunctionArn: functionArn(call.reference) }),
        },
        caller,
        limitMs,
        sink,
        waits,
      );
      const answer =
        soFarOf(sent) !== undefined
          ? await this.#recovered(sent, sending, (next, soFar) =>
              next.recover(
                {
                  worker: worker.reference,
                  requestId: call.requestId,
                  run: session.run,
                  tailLog: call.tailLog,
                  sentMs: Math.ceil(this.#options.clock.monotonic() - sentAt),
                },
                soFar,
                caller,
                limitMs,
                sink,
              ),
            )
          : sent;
      if (answer !== sent) {
        onLost(this.#options.clock.monotonic() - sentAt);
      }
      if (span !== undefined) {
        endSending(span, answer);
      }
      return answer;
    } finally {
      release();
      this.#options.onReleased(target);
    }
  }

  /**
   * Asks the next run of an agent for the answer of a call that the end of its agent has parted from its caller. A call
   * of which that run knows no more stays unknown.
   */
  async #recovered(
    sent: AgentAnswer,
    { call, caller, onMoved, route, worker }: Sending,
    ask: (session: AgentSession, soFar: AnswerSoFar) => Promise<AgentAnswer>,
  ): Promise<AgentAnswer> {
    const { clock, maxWaitMs, sessionOf, view } = this.#options;
    const { resource } = worker;
    let hasMoved = false;
    if (runtimeInterfaceOf(resource) !== 'Lambda' || call.isRepeated === true) {
      return sent;
    }
    let until = clock.monotonic() + maxWaitMs;
    const end = until + resource.spec.timeoutSeconds * 1000;
    let answer = sent;
    for (let soFar = soFarOf(sent); soFar !== undefined && !caller.gone; soFar = soFarOf(answer)) {
      const left = until - clock.monotonic();
      if (left <= 0) {
        break;
      }
      await nextChange(this.#options, call.reference.name, Math.min(left, ASK_AGAIN_MS), caller);
      if (!hasMoved && worker.lastNode !== route.nodeName && view.worker(worker.uid) === worker) {
        hasMoved = true;
        onMoved();
      }
      const session = sessionOf(route.nodeName);
      if (session?.isOpen === true && !caller.gone) {
        answer = await ask(session, soFar);
        if (answer.kind === 'Unknown' && answer.reason === 'ConnectionLost') {
          until = Math.min(end, clock.monotonic() + maxWaitMs);
        }
      }
    }
    const isUnknown = answer.kind === 'Unknown';
    this.#options.onAskedAgain?.(isUnknown ? 'unknown' : answer.kind === 'Refused' ? 'not_started' : 'recovered');
    return isUnknown ? sent : answer;
  }

  /**
   * The answer of a call that an earlier process has sent, once there is one. Undefined where the worker does not know
   * it: the call has not begun, or its answer is lost. Waits as long for the agent as for one that restarts.
   */
  async ask(call: FunctionCall, sent: SentTry, caller: Caller): Promise<InvokeResult | undefined> {
    const { clock, maxWaitMs, onAskedAgain, sessionOf } = this.#options;
    const { requestId, tailLog } = call;
    let until = clock.monotonic() + maxWaitMs;
    let soFar: AnswerSoFar | undefined = nothingSoFar();
    while (soFar !== undefined && !caller.gone && clock.monotonic() < until) {
      const session = sessionOf(sent.nodeName);
      if (session?.isOpen !== true) {
        await nextChange(this.#options, call.reference.name, Math.min(until - clock.monotonic(), ASK_AGAIN_MS), caller);
        continue;
      }
      const lost = {
        worker: sent.worker,
        requestId,
        run: sent.run,
        tailLog,
        sentMs: Math.max(0, clock.now() - sent.sentAt),
      };
      const answer: AgentAnswer = await session.recover(
        lost,
        soFar,
        caller,
        sent.timeoutSeconds * 1000 + MAX_OVERHEAD_MS,
      );
      if (answer.kind === 'Answered' || answer.kind === 'TimedOut') {
        onAskedAgain?.('recovered');
        return resultOf(answer, call, sent.timeoutSeconds, sent.version, clock.now());
      }
      if (answer.kind === 'Refused') {
        onAskedAgain?.('not_started');
        return undefined;
      }
      soFar = soFarOf(answer);
      if (answer.reason === 'ConnectionLost') {
        until = clock.monotonic() + maxWaitMs;
      }
      if (soFar !== undefined) {
        await nextChange(this.#options, call.reference.name, ASK_AGAIN_MS, caller);
      }
    }
    onAskedAgain?.('unknown');
    return undefined;
  }
}

/** The result of a call that a worker has answered, or has not answered in its time. */
export function resultOf(
  answer: Extract<AgentAnswer, { readonly kind: 'Answered' | 'TimedOut' }>,
  { requestId }: FunctionCall,
  timeoutSeconds: number,
  executedVersion: string,
  now: number,
): InvokeResult {
  const { logTail, timings } = answer.trailer;
  return {
    ...answerOf(answer, { requestId, timeoutSeconds, now }),
    executedVersion,
    timings: timings ?? undefined,
    logTail: logTail.length > 0 ? logTail : undefined,
  };
}

/** Resolves at the next change of the function, when the caller hangs up, and at the latest after `delayMs`. */
function nextChange(
  { clock, view }: Pick<CallSenderOptions, 'clock' | 'view'>,
  functionName: string,
  delayMs: number,
  caller: Caller,
): Promise<void> {
  const changed = Promise.withResolvers<void>();
  const timer = clock.setTimer(() => changed.resolve(), delayMs);
  const forget = view.onNextChange(functionName, () => changed.resolve());
  caller.onGone = () => changed.resolve();
  return changed.promise.finally(() => {
    timer.cancel();
    forget();
    caller.onGone = undefined;
  });
}

/** Counts a call at a worker until the returned function is called, or the worker has another node. */
export function hold(worker: WorkerEntry): () => void {
  const { moves } = worker;
  worker.outstanding += 1;
  return () => {
    worker.outstanding -= worker.moves === moves ? 1 : 0;
  };
}

/** The part of an answer that has come, if the rest may be asked for. */
function soFarOf(answer: AgentAnswer): AnswerSoFar | undefined {
  return answer.kind === 'Unknown' ? answer.soFar : undefined;
}

function answerOf(
  answer: Extract<AgentAnswer, { readonly kind: 'Answered' | 'TimedOut' }>,
  call: AnsweredCall,
): FunctionAnswer & Pick<InvokeResult, 'outcome'> {
  if (answer.kind === 'TimedOut') {
    return { ...timeoutError(call), outcome: 'timed-out' };
  }
  const { head, body, streamed, trailer } = answer;
  // Bytes that have gone to the caller are not looked at.
  const size = streamed ? 0 : answer.size;
  return trailer.functionEnd === null
    ? { ...translateEmulatorAnswer({ status: head.status, body, size }, call), outcome: 'answered' }
    : answerOfFunction(trailer.functionEnd, { contentType: head.contentType, body, size }, call.requestId);
}

/** Ends the span of a call on its way to one agent. There are several of one call where workers refuse it. */
function endSending(span: TraceSpan, answer: AgentAnswer): void {
  span.set({ 'esb.outcome': answer.kind });
  switch (answer.kind) {
    case 'Answered': {
      const outcome = answer.trailer.functionEnd?.outcome;
      if (outcome !== undefined && outcome !== 'FUNCTION_OUTCOME_ANSWERED') {
        span.set({ 'esb.function_outcome': outcome });
      }
      break;
    }
    case 'TimedOut':
      span.fail(answer.kind);
      break;
    case 'Refused':
    case 'Unknown':
      span.set({ 'esb.reason': answer.reason });
      span.fail(answer.message);
      break;
    default:
      unreachable(answer);
  }
  span.end();
}
