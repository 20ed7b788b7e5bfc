import { unreachable } from '../../common/errors.ts';
import { versionText } from '../../common/function-arn.ts';
import { decideEntry, functionBusy, overloaded, refusalFor } from '../admission/admission-policy.ts';
import type { LoadMeter } from '../admission/load-meter.ts';
import type { Hold, Room } from '../admission/room.ts';
import type { AgentAnswer, AnswerSink } from '../agents/agent-call.ts';
import { unknownOutcome } from '../agents/emulator-translation.ts';
import type { FunctionEntry } from '../agents/fleet-view.ts';
import type { FunctionCall, InvokeResult, SentTry } from '../agents/function-call.ts';
import { Refusals } from '../agents/refusals.ts';
import { chooseBeside, type Route } from '../agents/routing.ts';
import { drawOf } from '../agents/version-book.ts';
import type { Caller } from '../lambda/caller.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { LambdaError, unavailable } from '../lambda/lambda-error.ts';
import { CallSender, type CallSenderOptions, resultOf, type Sending } from './call-sender.ts';
import { FunctionFinder, type FunctionFinderOptions, type Target } from './function-finder.ts';
import { FunctionPlaces } from './function-places.ts';
import { FunctionQueue } from './function-queue.ts';
import { freshOf } from './match.ts';
import type { QueuedCall } from './queued-call.ts';

/**
 * Milliseconds that a call waits for a worker that is being moved, or whose agent restarts: longer than an ending
 * agent, which takes no other calls, lets its last calls run (20 seconds).
 */
const MAX_WAIT_MS = 30_000;

export interface InvokerOptions extends FunctionFinderOptions, Omit<CallSenderOptions, 'maxWaitMs' | 'onReleased'> {
  /** A number of [0, 1), each as likely as the others, for aliases that share their calls. */
  readonly random: () => number;
  /** The room of calls that come by no other one. */
  readonly room: Room;
  /** Counts the calls by which functions are scaled; none are when absent. */
  readonly loadMeter?: Pick<LoadMeter, 'count'>;
  /** Milliseconds that a call waits for a place among those of its function. */
  readonly maxQueueWaitMs: number;
  /** Whether a function gets more workers where calls wait for one; none does when absent. */
  readonly mayGrow?: ((functionName: string) => boolean) | undefined;
  /** Milliseconds in place of the usual 30,000. */
  readonly maxWaitMs?: number;
}

/** Places and queue of each function, kept for as long as its entry. */
interface Functions {
  readonly placesOf: (target: FunctionEntry) => FunctionPlaces;
  /** Made with the first call that waits. */
  readonly queueOf: (target: FunctionEntry) => FunctionQueue;
}

/** A call that has had a place, until its end. */
export class EnteredCall {
  /** Milliseconds that the call waited for its first place. */
  readonly queuedMs: number;
  readonly queued: QueuedCall;
  readonly #functions: Functions;

  constructor(queued: QueuedCall, functions: Functions, queuedMs: number) {
    this.queued = queued;
    this.#functions = functions;
    this.queuedMs = queuedMs;
  }

  /** The places of the function that has the name of the call now. */
  get places(): FunctionPlaces {
    return this.#functions.placesOf(this.queued.target);
  }

  /** The queue of that function. */
  get queue(): FunctionQueue {
    return this.#functions.queueOf(this.queued.target);
  }

  /**
   * Notes the bytes of the answer, if there is one; to be called before {@link EnteredCall.release}.
   *
   * @param hold of the request: the answer counts on against the function until it has gone out. Undefined for an
   * answer that no client has to read
   */
  answered(bytes: number, hold?: Pick<Hold, 'whenClosed'>): void {
    const { places } = this;
    places.answered(bytes);
    if (hold !== undefined) {
      const unread = { room: this.queued.held.room, bytes };
      places.hold(unread, 1);
      hold.whenClosed(() => places.hold(unread, -1));
    }
  }

  /** Ends the call, which gives its place back: to be called once. */
  release(): void {
    const { places, queued } = this;
    places.hold(queued.held, -1);
    queued.counted?.end();
    places.leave(queued);
  }
}

/**
 * Brings calls to workers. A call is sent again only if it was not started, and waits a bounded time for a worker that
 * is being moved or whose agent is away. A call that was sent and lost is reported as unknown and never repeated.
 */
export class Invoker {
  readonly #options: InvokerOptions;
  readonly #finder: FunctionFinder;
  readonly #sender: CallSender;
  readonly #functions: Functions;
  readonly #maxWaitMs: number;
  #arrivals = 0;
  #waiting = 0;

  constructor(options: InvokerOptions) {
    this.#options = options;
    this.#maxWaitMs = options.maxWaitMs ?? MAX_WAIT_MS;
    this.#finder = new FunctionFinder(options);
    this.#functions = this.#createFunctions();
    this.#sender = new CallSender({
      ...options,
      maxWaitMs: this.#maxWaitMs,
      onReleased: (target) => this.#functions.placesOf(target).onFree?.(),
    });
  }

  #createFunctions(): Functions {
    const { book, mayGrow } = this.#options;
    const placesOf = keptFor((target: FunctionEntry) => new FunctionPlaces(target, mayGrow));
    const queueOf: Functions['queueOf'] = keptFor(
      (target: FunctionEntry) =>
        new FunctionQueue(placesOf(target), {
          ...this.#options,
          maxWorkerWaitMs: this.#maxWaitMs,
          find: (call) => this.#find(call),
          exhausted: (call) => this.#exhausted(call),
          queueOf,
          meaningOf: (name) => book.function(name),
        }),
    );
    return { placesOf, queueOf };
  }

  /** Calls that wait for a place, of all functions. */
  get waiting(): number {
    return this.#waiting;
  }

  /** As {@link FunctionFinder.find}. */
  find(reference: FunctionReference): Target {
    return this.#finder.find(reference);
  }

  /** As {@link CallSender.ask}. */
  async ask(call: FunctionCall, sent: SentTry, caller: Caller): Promise<InvokeResult | undefined> {
    return await this.#sender.ask(call, sent, caller);
  }

  /**
   * A place for a call that is to run now: at once where nothing has to be waited for. Waits for one in the function's
   * bounded queue, as long as the caller does.
   *
   * @param room that its request is in: the function has a share of each
   * @throws {LambdaError} TooManyRequestsException with its Reason, or that there is no such function
   */
  enter(call: FunctionCall, caller: Caller, room: Room = this.#options.room): Promise<EnteredCall> | EnteredCall {
    const { clock, loadMeter, random } = this.#options;
    const { reference } = call;
    let drawn: number | undefined;
    const draw = (): number => {
      drawn ??= drawOf(random);
      return drawn;
    };
    const { entry, version } = this.#finder.find(reference, draw);
    const places = this.#functions.placesOf(entry);
    // Bytes that arrived since the request was taken in may have left no room for an answer.
    if (room.freeBytes < 0) {
      throw overloaded();
    }
    const free = { requests: room.freeRequests, bytes: room.freeBytes };
    const decision = decideEntry(places.of(version), places.heldIn(room), free);
    if (decision !== 'Enter' && decision !== 'Wait') {
      throw refusalFor(decision, entry.name);
    }
    this.#arrivals += 1;
    const queued: QueuedCall = {
      ...{ caller, draw, reference, version },
      held: { room, bytes: call.payload.length },
      counted: loadMeter?.count(reference.name, version),
      arrival: this.#arrivals,
      since: clock.monotonic(),
      target: entry,
      state: { kind: 'Away' },
      refusals: undefined,
      left: undefined,
      workerUntil: undefined,
      closedSince: undefined,
      lackedPlace: false,
    };
    places.hold(queued.held, 1);
    if (decision === 'Wait') {
      return this.#wait(queued);
    }
    places.take(queued);
    return new EnteredCall(queued, this.#functions, 0);
  }

  async #wait(queued: QueuedCall): Promise<EnteredCall> {
    const { clock } = this.#options;
    this.#waiting += 1;
    try {
      await this.#functions.queueOf(queued.target).enter(queued);
      return new EnteredCall(queued, this.#functions, clock.monotonic() - queued.since);
    } catch (error) {
      queued.counted?.end();
      this.#functions.placesOf(queued.target).hold(queued.held, -1);
      throw error;
    } finally {
      this.#waiting -= 1;
    }
  }

  /**
   * Runs one call.
   *
   * @param entered its place, which others have while the call waits for a worker that is away
   * @param sink gets an answer that the function streams; the result then has what came after
   * @throws {LambdaError} when the call has run nowhere, but for a function that cannot be initialized
   */
  async invoke(call: FunctionCall, caller: Caller, entered: EnteredCall, sink?: AnswerSink): Promise<InvokeResult> {
    const { clock } = this.#options;
    const { queued } = entered;
    for (;;) {
      if (caller.gone) {
        throw hungUp();
      }
      let route = this.#route(entered);
      let letGo: (() => void) | undefined;
      if (route === undefined) {
        // A worker that says no for good is a better answer than to wait for one that may not come.
        const final = queued.refusals?.final({ arn: functionArn(call.reference), requestId: call.requestId });
        if (final instanceof LambdaError) {
          throw final;
        }
        if (final !== undefined) {
          const executedVersion = versionText(queued.version);
          return { ...final, outcome: 'init-failed', executedVersion, timings: undefined, logTail: undefined };
        }
      }
      if (route === undefined || route === 'NoPlace') {
        ({ letGo, route } = await entered.queue.seek(queued));
        // The queue has let go of the call before it goes on here.
        if (caller.gone) {
          letGo();
          throw hungUp();
        }
      }
      const { target, version } = queued;
      const worker = this.#options.view.worker(route.uid);
      if (worker === undefined) {
        letGo?.();
        continue;
      }
      worker.lastTurn = target.rotation;
      const executedVersion = versionText(version);
      sink?.routed?.(executedVersion);
      // At the only worker of a function that does not grow a call waits in any case.
      const hasOthers = (target.byVersion.get(version)?.length ?? 0) > 1 || entered.places.mayGrow;
      const atOnce = !route.isQueued && hasOthers;
      const sent = this.#send({ target, route, worker, call, caller, sink, atOnce }, entered);
      letGo?.();
      const answer = await sent;
      queued.left = answer === 'TakenBack' ? route : undefined;
      if (answer === 'TakenBack') {
        call.follower?.refused();
        // A worker that has refused may be free before the busy one.
        queued.refusals = freshOf(queued.refusals, clock.monotonic());
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
          queued.refusals ??= new Refusals();
          queued.refusals.add(route, answer, clock.monotonic(), atOnce);
          call.follower?.refused();
          break;
        default:
          unreachable(answer);
      }
    }
  }

  /**
   * The worker for a call that has its place still; `NoPlace` for a call that has to wait for a place, and undefined
   * where no worker takes the call.
   *
   * @throws {LambdaError} when the call would wait at an agent, and has waited for too long
   */
  #route({ places, queued }: EnteredCall): Route | 'NoPlace' | undefined {
    // Looked up each time: an alias may name another version by now.
    const { entry, version, workers } = this.#find(queued);
    if (entry !== queued.target || version !== queued.version) {
      places.handOver(queued, this.#functions.placesOf(entry), version);
    }
    const route = chooseBeside(queued.left, workers, queued.refusals, entry.rotation++);
    if (route !== undefined && queued.state.kind !== 'Placed') {
      return 'NoPlace';
    }
    const { clock, maxQueueWaitMs } = this.#options;
    if (route?.isQueued === true && clock.monotonic() >= queued.since + maxQueueWaitMs) {
      throw functionBusy(entry.name);
    }
    return route;
  }

  /** Sends a call to a worker; to one without a free place so that the call can be taken back. */
  async #send(
    sending: Omit<Sending, 'onLost' | 'onMoved' | 'since'>,
    entered: EnteredCall,
  ): Promise<AgentAnswer | 'TakenBack'> {
    const { places, queued } = entered;
    const { route } = sending;
    const whole: Sending = {
      ...sending,
      since: queued.since,
      onMoved: () => places.leave(queued),
      onLost: (lostMs) => {
        queued.since += lostMs;
        queued.workerUntil = queued.workerUntil === undefined ? undefined : queued.workerUntil + lostMs;
      },
    };
    if (!route.isQueued) {
      const answer = this.#sender.send(whole);
      places.onSent?.();
      return await answer;
    }
    const { queue } = entered;
    const ahead = queue.sendAhead(queued, route);
    try {
      const sent = this.#sender.send(whole, ahead.waits);
      places.onSent?.();
      const answer = await sent;
      return ahead.isTakenBack && answer.kind === 'Refused' && answer.reason === 'CallerGone' ? 'TakenBack' : answer;
    } finally {
      queue.back(ahead);
    }
  }

  /** @throws {LambdaError} as {@link FunctionFinder.find}, and where no worker is on its way */
  #find({ draw, reference }: Pick<QueuedCall, 'draw' | 'reference'>): Target {
    const found = this.#finder.find(reference, draw);
    const absence = this.#absenceOf(reference, found);
    if (absence?.isLasting === true) {
      throw absence.error;
    }
    return found;
  }

  #absenceOf(reference: FunctionReference, { version, workers }: Pick<Target, 'version' | 'workers'>) {
    return workers.length === 0 && version === undefined ? this.#finder.absenceOf(reference) : undefined;
  }

  #exhausted({ reference, refusals, target, version }: QueuedCall): LambdaError {
    const workers = target.byVersion.get(version) ?? [];
    const absence = this.#absenceOf(reference, { version, workers });
    const passing = freshOf(refusals, this.#options.clock.monotonic())?.passing;
    return absence?.error ?? this.#finder.exhausted(target, workers, passing);
  }
}

function hungUp(): LambdaError {
  return unavailable('The caller hung up.');
}

/** Makes a part for each key at the first use, and keeps it for as long as the key. */
function keptFor<K extends object, V>(make: (key: K) => V): (key: K) => V {
  const kept = new WeakMap<K, V>();
  return (key) => {
    const known = kept.get(key);
    if (known !== undefined) {
      return known;
    }
    const made = make(key);
    kept.set(key, made);
    return made;
  };
}
