import { findCondition, workerConditions } from '../api/condition.ts';
import { runtimeInterfaceOf } from '../api/lambda-worker.ts';
import type { Clock, Timer } from '../common/clock.ts';
import { unreachable } from '../common/errors.ts';
import { versionText } from '../common/function-arn.ts';
import type { TraceSpan, Tracing } from '../common/tracing/span.ts';
import { continuedXRay, formatTraceParent, parentOf } from '../common/tracing/trace-context.ts';
import type { Admitted } from './admission/admission.ts';
import { functionBusy } from './admission/admission-policy.ts';
import { type AgentAnswer, type AnswerSink, type AnswerSoFar, nothingSoFar } from './agents/agent-call.ts';
import type { AgentSession, WaitingCall } from './agents/agent-session.ts';
import type { AskedAgain } from './agents/call-streams.ts';
import {
  type AnsweredCall,
  type FunctionAnswer,
  timeoutError,
  translateEmulatorAnswer,
  unknownOutcome,
} from './agents/emulator-translation.ts';
import type { FleetView, FunctionEntry, WorkerEntry } from './agents/fleet-view.ts';
import type { FunctionCall, InvokeResult, SentTry } from './agents/function-call.ts';
import { answerOfFunction } from './agents/function-end.ts';
import { type Refusal, Refusals } from './agents/refusals.ts';
import { chooseRoute, obstacleOf, type Route } from './agents/routing.ts';
import { Turns } from './agents/turns.ts';
import { drawOf, NO_DRAW, type VersionBook } from './agents/version-book.ts';
import { functionStateOf } from './http/function-state.ts';
import type { Caller } from './lambda/caller.ts';
import { type FunctionReference, functionArn } from './lambda/function-name.ts';
import { LambdaError, throttled, unavailable } from './lambda/lambda-error.ts';

/**
 * Milliseconds that a call waits for a worker that is being moved, or whose agent restarts: longer than an ending
 * agent, which takes no other calls, lets its last calls run (20 seconds).
 */
const MAX_WAIT_MS = 30_000;
/** Milliseconds for which a free worker is kept for a call that is being taken back from another one's agent. */
const KEPT_MS = 50;
/** Milliseconds after which it is asked again even though nothing is known to have changed. */
const ASK_AGAIN_MS = 250;
/**
 * Milliseconds beyond the function's own time that a call may take at its agent, for queue, image and start. Agents
 * keep limits of their own; this bound is for a faulty agent.
 */
const MAX_OVERHEAD_MS = 3_600_000;

const NOT_ASSIGNED_YET = { reason: '', message: 'it has not been assigned yet' };

export interface InvokerOptions {
  readonly view: FleetView;
  /** Whether the view is complete: a function that is not in it does not exist. */
  readonly isViewCurrent: () => boolean;
  readonly book: VersionBook;
  /** A number of [0, 1), each as likely as the others, for aliases that share their calls. */
  readonly random: () => number;
  /** The session to the agent of a node, while there is one. */
  readonly sessionOf: (nodeName: string) => AgentSession | undefined;
  /** Called for each call whose agent ended under it, and whose answer was asked for. */
  readonly onAskedAgain?: (result: AskedAgain) => void;
  readonly clock: Clock;
  /** Receives a span for each time that a call is sent to an agent; undefined for no spans. */
  readonly tracing?: Tracing | undefined;
  /** Milliseconds that a call waits for a place among those of its function. */
  readonly maxQueueWaitMs: number;
  /** Whether a function gets more workers where calls wait for one; none does when absent. */
  readonly mayGrow?: ((functionName: string) => boolean) | undefined;
  /** Milliseconds in place of the usual 30,000. */
  readonly maxWaitMs?: number;
}

/** The function and the workers that a reference names. */
export interface Target {
  readonly entry: FunctionEntry;
  /** Undefined for $LATEST. */
  readonly version: number | undefined;
  readonly workers: readonly WorkerEntry[];
}

interface Absence {
  readonly error: LambdaError;
  /** Whether no worker is on its way. */
  readonly isLasting: boolean;
}

/** The place that a call has among those of its function. */
export type CallPlace = Pick<Admitted, 'stepAside' | 'stepBack'> & Partial<Pick<Admitted, 'draw' | 'move' | 'since'>>;

/** A call on its way to a worker. */
interface Sending {
  readonly target: FunctionEntry;
  readonly route: Route;
  readonly worker: WorkerEntry;
  readonly call: FunctionCall;
  readonly caller: Caller;
  readonly place: CallPlace;
  readonly sink: AnswerSink | undefined;
  /** Monotonic milliseconds at which the call came. */
  readonly since: number;
  /** Whether its reference names that version of that function still. */
  readonly isCurrent: () => boolean;
  /** Whether the agent is to refuse it where it would have to wait. */
  readonly atOnce: boolean;
  /** Hears how long a call took whose agent ended under it, with the wait for the next run. */
  readonly onLost: (milliseconds: number) => void;
}

/**
 * Brings calls to workers. A call is sent again only if it was not started, and waits a bounded time for a worker that
 * is being moved or whose agent is away. A call that was sent and lost is reported as unknown and never repeated.
 */
export class Invoker {
  readonly #options: InvokerOptions;
  readonly #maxWaitMs: number;
  readonly #turns: Turns;
  /** Calls that wait at agents. */
  #waiting = 0;

  constructor(options: InvokerOptions) {
    this.#options = options;
    this.#maxWaitMs = options.maxWaitMs ?? MAX_WAIT_MS;
    this.#turns = new Turns(options.view);
  }

  /**
   * The function of a reference, and the workers that it names. There may be none at the moment of a function that has
   * a LambdaFunction, and of a version that an alias names.
   *
   * @param draw for an alias that shares its calls; the version that gets most of what is left when absent
   * @throws {LambdaError} ResourceNotFoundException, or ServiceException (503) where the function may exist, or the
   *   version has no workers
   */
  find(reference: FunctionReference, draw: () => number = () => NO_DRAW): Target {
    const { name, qualifier } = reference;
    const { book, isViewCurrent, view } = this.#options;
    const entry = view.function(name);
    const found = book.resolve(name, qualifier, draw);
    const version = found.kind === 'Version' ? found.version : undefined;
    const workers = entry?.byVersion.get(version) ?? [];
    switch (found.kind) {
      case 'Latest':
        if (entry !== undefined && (workers.length > 0 || book.function(name) !== undefined)) {
          return { entry, version, workers };
        }
        break;
      case 'Version':
        if (entry !== undefined && (workers.length > 0 || found.isNamed)) {
          return { entry, version, workers };
        }
        if (found.isPublished) {
          throw unavailable(
            `Version ${found.version} of the function ${name} has no workers: name the version by an alias in its LambdaFunction.`,
          );
        }
        break;
      case 'Coming':
        throw unavailable(
          `The alias ${qualifier} of the function ${name} is not in effect yet: workers of a version that it names are not ready.`,
        );
      case 'Unknown':
        break;
      default:
        unreachable(found);
    }
    if (!book.isCurrent || (workers.length === 0 && !isViewCurrent())) {
      const what = entry === undefined ? `the function ${name}` : `${qualifier} of the function ${name}`;
      throw unavailable(
        `The gateway does not know ${what}, and cannot hear from the Kubernetes API server whether it exists.`,
      );
    }
    throw new LambdaError('ResourceNotFoundException', `Function not found: ${functionArn(reference)}`);
  }

  /**
   * Runs one call.
   *
   * @param place given up while the call waits for a worker that is away, so that all such calls wait at the same time
   * @param sink gets an answer that the function streams; the result then has what came after
   * @throws {LambdaError} when the call has run nowhere, but for a function that cannot be initialized
   */
  async invoke(call: FunctionCall, caller: Caller, place: CallPlace, sink?: AnswerSink): Promise<InvokeResult> {
    const { view, clock, maxQueueWaitMs } = this.#options;
    let refusals: Refusals | undefined;
    let waitUntil: number | undefined;
    let since = place.since ?? clock.monotonic();
    /** The worker that the call has waited at for long enough. */
    let left: Route | undefined;
    let drawn: number | undefined;
    const draw = (): number => {
      drawn ??= place.draw?.() ?? drawOf(this.#options.random);
      return drawn;
    };
    for (;;) {
      if (caller.gone) {
        throw unavailable('The caller hung up.');
      }
      // Looked up each time: an alias may name another version by now.
      const { entry: target, version, workers } = this.find(call.reference, draw);
      const executedVersion = versionText(version);
      const moved = place.move?.(target, version, caller);
      if (moved !== undefined) {
        waitUntil = await this.#inTurn(moved, waitUntil);
        continue;
      }
      // Refusals by workers of another version are no answer of this one.
      refusals = refusals?.version === version ? refusals : undefined;
      const route = routeBeside(left, workers, refusals, target.rotation++);
      const worker = route === undefined ? undefined : view.worker(route.uid);
      if (route === undefined || worker === undefined) {
        // A worker that says no for good is a better answer than to wait for one that may not come.
        const final = refusals?.final({ arn: functionArn(call.reference), requestId: call.requestId });
        if (final instanceof LambdaError) {
          throw final;
        }
        if (final !== undefined) {
          return { ...final, outcome: 'init-failed', executedVersion, timings: undefined, logTail: undefined };
        }
        const absence = workers.length === 0 && version === undefined ? this.#absenceOf(call.reference) : undefined;
        if (absence?.isLasting === true) {
          throw absence.error;
        }
        waitUntil ??= clock.monotonic() + this.#maxWaitMs;
        const leftMs = waitUntil - clock.monotonic();
        const passing = refusals?.passing;
        if (leftMs <= 0) {
          throw absence?.error ?? this.#exhausted(target, workers, passing);
        }
        place.stepAside();
        await this.#nextChange(target.name, Math.min(leftMs, passing === undefined ? leftMs : ASK_AGAIN_MS), caller);
        const turn = place.stepBack(caller);
        if (turn !== undefined) {
          waitUntil = await this.#inTurn(turn, waitUntil);
        }
        // A change may be that of a worker of another version.
        refusals = target.byVersion.size > 1 ? this.#fresh(refusals) : undefined;
        continue;
      }
      if (route.isQueued && clock.monotonic() >= since + maxQueueWaitMs) {
        throw functionBusy(target.name);
      }
      worker.lastTurn = target.rotation;
      sink?.routed?.(executedVersion);
      // At the only worker of a function that does not grow a call waits in any case.
      const atOnce = !route.isQueued && (workers.length > 1 || this.#options.mayGrow?.(target.name) === true);
      const onLost = (lostMs: number): void => {
        since += lostMs;
        waitUntil = waitUntil === undefined ? undefined : waitUntil + lostMs;
      };
      const isCurrent = (): boolean => this.#isStill(call, draw, target, version);
      const sending = { target, route, worker, call, caller, place, sink, since, isCurrent, atOnce, onLost };
      const answer = route.isQueued ? await this.#waitThere(sending, refusals) : await this.#send(sending);
      left = answer === 'TakenBack' ? route : undefined;
      if (answer === 'TakenBack') {
        call.follower?.refused();
        // A worker that has refused may be free before the busy one.
        refusals = this.#fresh(refusals);
        continue;
      }
      switch (answer.kind) {
        case 'Answered':
        case 'TimedOut':
          return this.#resultOf(answer, call, worker.resource.spec.timeoutSeconds, executedVersion);
        case 'Unknown':
          return {
            ...unknownOutcome(call.requestId, answer.reason, answer.message),
            outcome: 'unknown',
            executedVersion,
            timings: undefined,
            logTail: undefined,
          };
        case 'Refused':
          refusals ??= new Refusals(version);
          refusals.add(route, answer, clock.monotonic(), atOnce);
          call.follower?.refused();
          break;
        default:
          unreachable(answer);
      }
    }
  }

  /**
   * The answer of a call that an earlier process has sent, once there is one. Undefined where the worker does not know
   * it: the call has not begun, or its answer is lost. Waits as long for the agent as for one that restarts.
   */
  async ask(call: FunctionCall, sent: SentTry, caller: Caller): Promise<InvokeResult | undefined> {
    const { clock, onAskedAgain, sessionOf } = this.#options;
    const { requestId, tailLog } = call;
    let until = clock.monotonic() + this.#maxWaitMs;
    let soFar: AnswerSoFar | undefined = nothingSoFar();
    while (soFar !== undefined && !caller.gone && clock.monotonic() < until) {
      const session = sessionOf(sent.nodeName);
      if (session?.isOpen !== true) {
        await this.#nextChange(call.reference.name, Math.min(until - clock.monotonic(), ASK_AGAIN_MS), caller);
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
        return this.#resultOf(answer, call, sent.timeoutSeconds, sent.version);
      }
      if (answer.kind === 'Refused') {
        onAskedAgain?.('not_started');
        return undefined;
      }
      soFar = soFarOf(answer);
      if (answer.reason === 'ConnectionLost') {
        until = clock.monotonic() + this.#maxWaitMs;
      }
      if (soFar !== undefined) {
        await this.#nextChange(call.reference.name, ASK_AGAIN_MS, caller);
      }
    }
    onAskedAgain?.('unknown');
    return undefined;
  }

  #resultOf(
    answer: Extract<AgentAnswer, { readonly kind: 'Answered' | 'TimedOut' }>,
    { requestId }: FunctionCall,
    timeoutSeconds: number,
    executedVersion: string,
  ): InvokeResult {
    const { logTail, timings } = answer.trailer;
    return {
      ...answerOf(answer, { requestId, timeoutSeconds, now: this.#options.clock.now() }),
      executedVersion,
      timings: timings ?? undefined,
      logTail: logTail.length > 0 ? logTail : undefined,
    };
  }

  /**
   * Sends a call to a worker without a free place, where it waits with those of other gateways. Takes it back once
   * another worker is free, once it has waited there for as long as before, if there is another worker to wait for, and
   * at the end of its wait.
   */
  async #waitThere(sending: Sending, refusals: Refusals | undefined): Promise<AgentAnswer | 'TakenBack'> {
    const { route, since, target, worker } = sending;
    const { clock, maxQueueWaitMs, view } = this.#options;
    const { version } = worker.resource.spec;
    const others = (): Route | undefined => {
      const { busy, workers: refused } = this.#fresh(refusals) ?? {};
      return chooseRoute(target.byVersion.get(version) ?? [], refused, target.rotation, busy);
    };
    const waits: WaitingCall = {};
    let release: (() => void) | undefined;
    let isOver = false;
    const takeBack = (): void => {
      isOver = true;
      waits.withdraw?.();
    };
    const stop = this.#turns.seek(target, {
      since,
      version,
      freeWorker: () => {
        const free = others();
        return free?.isQueued === false && free.uid !== route.uid ? free : undefined;
      },
      moveTo: ({ uid }) => {
        const next = view.worker(uid);
        const free = next === undefined ? undefined : hold(next);
        const kept = clock.setTimer(() => {
          // The call has begun where it was: it does not come.
          release?.();
          this.#turns.look(target);
        }, KEPT_MS);
        release = () => {
          release = undefined;
          kept.cancel();
          free?.();
        };
        takeBack();
      },
    });
    const now = clock.monotonic();
    const end = since + maxQueueWaitMs;
    const until = target.workers.length > 1 ? Math.min(end, now + Math.max(ASK_AGAIN_MS, now - since)) : end;
    const lookAgain = (): Timer =>
      clock.setTimer(
        () => {
          if (clock.monotonic() >= until || !sending.isCurrent()) {
            stop();
            takeBack();
          } else {
            // A worker that has refused may be free, and none of its changes has been told.
            this.#turns.look(target);
            timer = lookAgain();
          }
        },
        Math.min(until - clock.monotonic(), target.workers.length > 1 ? ASK_AGAIN_MS : until),
      );
    let timer = lookAgain();
    this.#waiting += 1;
    try {
      const answer = await this.#send(sending, waits);
      return isOver && answer.kind === 'Refused' && answer.reason === 'CallerGone' ? 'TakenBack' : answer;
    } finally {
      this.#waiting -= 1;
      timer.cancel();
      stop();
      release?.();
    }
  }

  async #send(sending: Sending, waits?: WaitingCall): Promise<AgentAnswer> {
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
      if (this.#waiting > 0) {
        this.#turns.look(target);
      }
    }
  }

  /**
   * Asks the next run of an agent for the answer of a call that the end of its agent has parted from its caller. A call
   * of which that run knows no more stays unknown.
   */
  async #recovered(
    sent: AgentAnswer,
    { call, caller, place, route, worker }: Sending,
    ask: (session: AgentSession, soFar: AnswerSoFar) => Promise<AgentAnswer>,
  ): Promise<AgentAnswer> {
    const { clock, sessionOf, view } = this.#options;
    const { resource } = worker;
    let isAside = false;
    if (runtimeInterfaceOf(resource) !== 'Lambda' || call.isRepeated === true) {
      return sent;
    }
    let until = clock.monotonic() + this.#maxWaitMs;
    const end = until + resource.spec.timeoutSeconds * 1000;
    let answer = sent;
    for (let soFar = soFarOf(sent); soFar !== undefined && !caller.gone; soFar = soFarOf(answer)) {
      const left = until - clock.monotonic();
      if (left <= 0) {
        break;
      }
      await this.#nextChange(call.reference.name, Math.min(left, ASK_AGAIN_MS), caller);
      if (!isAside && worker.lastNode !== route.nodeName && view.worker(worker.uid) === worker) {
        // The worker is another one by now, and free for others.
        isAside = true;
        place.stepAside();
      }
      const session = sessionOf(route.nodeName);
      if (session?.isOpen === true && !caller.gone) {
        answer = await ask(session, soFar);
        if (answer.kind === 'Unknown' && answer.reason === 'ConnectionLost') {
          until = Math.min(end, clock.monotonic() + this.#maxWaitMs);
        }
      }
    }
    const isUnknown = answer.kind === 'Unknown';
    if (isAside && answer.kind === 'Refused') {
      await place.stepBack(caller);
    }
    this.#options.onAskedAgain?.(isUnknown ? 'unknown' : answer.kind === 'Refused' ? 'not_started' : 'recovered');
    return isUnknown ? sent : answer;
  }

  #isStill(
    { reference }: FunctionCall,
    draw: () => number,
    target: FunctionEntry,
    version: number | undefined,
  ): boolean {
    const { name, qualifier } = reference;
    const found = this.#options.book.resolve(name, qualifier, draw);
    const now = found.kind === 'Version' ? found.version : undefined;
    return now === version && this.#options.view.function(name) === target;
  }

  /** Refusals until these workers are asked again, as others change all the time. */
  #fresh(refusals: Refusals | undefined): Refusals | undefined {
    const { clock } = this.#options;
    return refusals !== undefined && clock.monotonic() - refusals.at < ASK_AGAIN_MS ? refusals : undefined;
  }

  /** Waits for a place, and returns the end of another wait, which is later by that. */
  async #inTurn(turn: Promise<void>, until: number | undefined): Promise<number | undefined> {
    const { clock } = this.#options;
    const since = clock.monotonic();
    await turn;
    return until === undefined ? undefined : until + clock.monotonic() - since;
  }

  /** Resolves at the next change of the function, when the caller hangs up, and at the latest after `delayMs`. */
  #nextChange(functionName: string, delayMs: number, caller: Caller): Promise<void> {
    const { view, clock } = this.#options;
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

  /**
   * The error for a call of a function without workers, in Lambda's words for the state of the function; undefined where
   * the function has no LambdaFunction.
   */
  #absenceOf(reference: FunctionReference): Absence | undefined {
    const owner = this.#options.book.function(reference.name);
    if (owner === undefined) {
      return undefined;
    }
    const { State, StateReason = 'It has no worker.' } = functionStateOf(owner, []);
    if (State === 'Pending') {
      const message = `The operation cannot be performed at this time. The function is currently in the following state: ${State}`;
      return {
        isLasting: false,
        error: new LambdaError('ResourceConflictException', message, { retryAfterSeconds: 1 }),
      };
    }
    const error = unavailable(`The function ${functionArn(reference)} has no worker (${State}): ${StateReason}`);
    return { isLasting: State === 'Inactive', error };
  }

  /** The refusal after the wait is over. */
  #exhausted(target: FunctionEntry, workers: readonly WorkerEntry[], passing: Refusal | undefined): LambdaError {
    if (passing !== undefined) {
      return unavailable(`No worker took the call: ${passing.message} (${passing.reason}).`);
    }
    const { view } = this.#options;
    let hasShare = true;
    const isConnected = (nodeName: string): boolean => view.connected.has(nodeName);
    for (const worker of workers) {
      const obstacle = obstacleOf(worker, isConnected);
      const node = worker.assignment?.nodeName ?? '';
      switch (obstacle) {
        case 'Unassigned': {
          const scheduled = findCondition(worker.resource.status?.conditions, workerConditions.scheduled);
          const { reason, message } = scheduled?.status === 'False' ? scheduled : NOT_ASSIGNED_YET;
          const text = `Worker ${worker.name} has no node: ${message}`;
          return reason === 'NoneFits' || reason === 'PinnedNodeUnfit'
            ? throttled(text, 'ConcurrentInvocationLimitExceeded', 5)
            : unavailable(text);
        }
        case 'AgentUnreachable':
          return unavailable(`The agent of node ${node}, which has worker ${worker.name}, cannot be reached.`);
        case 'NotTakenOver':
          return unavailable(`Node ${node} has not taken over worker ${worker.name} yet.`);
        case 'NoShare':
          hasShare = false;
          break;
        case undefined:
          break;
        default:
          unreachable(obstacle);
      }
    }
    return hasShare ? unavailable('No worker took the call.') : functionBusy(target.name);
  }
}

/** Counts a call at a worker until the returned function is called, or the worker has another node. */
function hold(worker: WorkerEntry): () => void {
  const { moves } = worker;
  worker.outstanding += 1;
  return () => {
    worker.outstanding -= worker.moves === moves ? 1 : 0;
  };
}

/** As {@link chooseRoute}; a worker that the call has waited at is the last choice of those without a free place. */
function routeBeside(
  left: Route | undefined,
  workers: readonly WorkerEntry[],
  refusals: Refusals | undefined,
  rotation: number,
): Route | undefined {
  const best = chooseRoute(workers, refusals?.workers, rotation, refusals?.busy);
  if (left === undefined || best?.uid !== left.uid) {
    return best;
  }
  const beside = chooseRoute(
    workers.filter(({ uid }) => uid !== left.uid),
    refusals?.workers,
    rotation,
    refusals?.busy,
  );
  return beside?.isQueued === true ? beside : best;
}

/** The beginning of an answer whose rest may be asked for. */
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
