import type { Timer } from '../../common/clock.ts';
import { unreachable } from '../../common/errors.ts';
import { versionText } from '../../common/function-arn.ts';
import { functionBusy } from '../admission/admission-policy.ts';
import type { AgentAnswer, AnswerSink } from '../agents/agent-call.ts';
import type { WaitingCall } from '../agents/agent-session.ts';
import { unknownOutcome } from '../agents/emulator-translation.ts';
import type { WorkerEntry } from '../agents/fleet-view.ts';
import type { FunctionCall, InvokeResult, SentTry } from '../agents/function-call.ts';
import { Refusals } from '../agents/refusals.ts';
import { chooseRoute, type Route } from '../agents/routing.ts';
import { drawOf } from '../agents/version-book.ts';
import type { Caller } from '../lambda/caller.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { LambdaError, unavailable } from '../lambda/lambda-error.ts';
import {
  ASK_AGAIN_MS,
  type CallPlace,
  CallSender,
  type CallSenderOptions,
  hold,
  nextChange,
  resultOf,
  type Sending,
} from './call-sender.ts';
import { FunctionFinder, type FunctionFinderOptions, type Target } from './function-finder.ts';
import { Turns } from './turns.ts';

/**
 * Milliseconds that a call waits for a worker that is being moved, or whose agent restarts: longer than an ending
 * agent, which takes no other calls, lets its last calls run (20 seconds).
 */
const MAX_WAIT_MS = 30_000;
/** Milliseconds for which a free worker is kept for a call that is being taken back from another one's agent. */
const KEPT_MS = 50;

export interface InvokerOptions extends FunctionFinderOptions, Omit<CallSenderOptions, 'maxWaitMs' | 'onReleased'> {
  /** A number of [0, 1), each as likely as the others, for aliases that share their calls. */
  readonly random: () => number;
  /** Milliseconds that a call waits for a place among those of its function. */
  readonly maxQueueWaitMs: number;
  /** Whether a function gets more workers where calls wait for one; none does when absent. */
  readonly mayGrow?: ((functionName: string) => boolean) | undefined;
  /** Milliseconds in place of the usual 30,000. */
  readonly maxWaitMs?: number;
}

/**
 * Brings calls to workers. A call is sent again only if it was not started, and waits a bounded time for a worker that
 * is being moved or whose agent is away. A call that was sent and lost is reported as unknown and never repeated.
 */
export class Invoker {
  readonly #options: InvokerOptions;
  readonly #maxWaitMs: number;
  readonly #turns: Turns;
  readonly #finder: FunctionFinder;
  readonly #sender: CallSender;
  /** Calls that wait at agents. */
  #waiting = 0;

  constructor(options: InvokerOptions) {
    this.#options = options;
    this.#maxWaitMs = options.maxWaitMs ?? MAX_WAIT_MS;
    this.#turns = new Turns(options.view);
    this.#finder = new FunctionFinder(options);
    this.#sender = new CallSender({
      ...options,
      maxWaitMs: this.#maxWaitMs,
      onReleased: (target) => {
        if (this.#waiting > 0) {
          this.#turns.look(target);
        }
      },
    });
  }

  /** As {@link FunctionFinder.find}. */
  find(reference: FunctionReference, draw?: () => number): Target {
    return this.#finder.find(reference, draw);
  }

  /** As {@link CallSender.ask}. */
  async ask(call: FunctionCall, sent: SentTry, caller: Caller): Promise<InvokeResult | undefined> {
    return await this.#sender.ask(call, sent, caller);
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
    /** Route to the worker that the call was taken back from. */
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
      const { entry: target, version, workers } = this.#finder.find(call.reference, draw);
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
        const absence =
          workers.length === 0 && version === undefined ? this.#finder.absenceOf(call.reference) : undefined;
        if (absence?.isLasting === true) {
          throw absence.error;
        }
        waitUntil ??= clock.monotonic() + this.#maxWaitMs;
        const leftMs = waitUntil - clock.monotonic();
        const passing = refusals?.passing;
        if (leftMs <= 0) {
          throw absence?.error ?? this.#finder.exhausted(target, workers, passing);
        }
        place.stepAside();
        await nextChange(
          this.#options,
          target.name,
          Math.min(leftMs, passing === undefined ? leftMs : ASK_AGAIN_MS),
          caller,
        );
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
      const isCurrent = (): boolean => this.#finder.isStill(call.reference, draw, target, version);
      const sending = { target, route, worker, call, caller, place, sink, since, isCurrent, atOnce, onLost };
      const answer = route.isQueued ? await this.#waitThere(sending, refusals) : await this.#sender.send(sending);
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
          return resultOf(answer, call, worker.resource.spec.timeoutSeconds, executedVersion, clock.now());
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
      const answer = await this.#sender.send(sending, waits);
      return isOver && answer.kind === 'Refused' && answer.reason === 'CallerGone' ? 'TakenBack' : answer;
    } finally {
      this.#waiting -= 1;
      timer.cancel();
      stop();
      release?.();
    }
  }

  /** Refusals that are younger than {@link ASK_AGAIN_MS}; undefined once the workers may be asked again. */
  #fresh(refusals: Refusals | undefined): Refusals | undefined {
    const { clock } = this.#options;
    return refusals !== undefined && clock.monotonic() - refusals.at < ASK_AGAIN_MS ? refusals : undefined;
  }

  /** Waits for a place, and extends the end of another wait by the time waited. */
  async #inTurn(turn: Promise<void>, until: number | undefined): Promise<number | undefined> {
    const { clock } = this.#options;
    const since = clock.monotonic();
    await turn;
    return until === undefined ? undefined : until + clock.monotonic() - since;
  }
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
