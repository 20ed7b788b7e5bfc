import { type Clock, WakeupTimer } from '../../common/clock.ts';
import { unreachable } from '../../common/errors.ts';
import { functionBusy, overloaded, refusalFor } from '../admission/admission-policy.ts';
import type { WaitingCall } from '../agents/agent-session.ts';
import type { FleetView, FunctionEntry } from '../agents/fleet-view.ts';
import type { Route } from '../agents/routing.ts';
import { type LambdaError, unavailable } from '../lambda/lambda-error.ts';
import { hold } from './call-sender.ts';
import type { Target } from './function-finder.ts';
import type { FunctionPlaces, VersionPlaces } from './function-places.ts';
import { ASK_AGAIN_MS, freshOf, type Move, match, type Waiting } from './match.ts';
import type { AheadCall, CallState, FoundWorker, QueuedCall, Turn, Waits } from './queued-call.ts';

/** Milliseconds for which a free worker is kept for a call that is being taken back from another one's agent. */
const KEPT_MS = 50;

export interface FunctionQueueOptions {
  readonly view: Pick<FleetView, 'function' | 'onNextChange' | 'worker'>;
  /**
   * The function and version that a call goes to as things are.
   *
   * @throws {LambdaError} when there is none
   */
  readonly find: (call: QueuedCall) => Target;
  /** The error of a call for which no worker has come in time. */
  readonly exhausted: (call: QueuedCall) => LambdaError;
  readonly queueOf: (target: FunctionEntry) => FunctionQueue;
  /** Another value once aliases of the function may name other versions; they never do when absent. */
  readonly meaningOf?: ((functionName: string) => unknown) | undefined;
  /** Milliseconds that a call waits for a place. */
  readonly maxQueueWaitMs: number;
  /** Milliseconds that a call waits for a worker while it could have a place. */
  readonly maxWorkerWaitMs: number;
  readonly clock: Clock;
}

/** A call at the agent of a worker without a free place, and the way to take it back. */
export interface SentAhead extends AheadCall {
  readonly waits: WaitingCall;
  isTakenBack: boolean;
  /** Gives up the worker that is kept for the call. */
  giveUp: (() => void) | undefined;
}

/** The calls of one function that wait in this gateway: it alone knows which, and for what. */
export class FunctionQueue implements Waiting {
  readonly places: FunctionPlaces;
  readonly ahead = new Set<SentAhead>();
  readonly #options: FunctionQueueOptions;
  readonly #timer: WakeupTimer;
  #isWatching = false;
  #meaning: unknown;

  constructor(places: FunctionPlaces, options: FunctionQueueOptions) {
    this.places = places;
    this.#options = options;
    this.#timer = new WakeupTimer(options.clock, () => this.run());
  }

  get target(): FunctionEntry {
    return this.places.target;
  }

  get versions(): Iterable<VersionPlaces> {
    return this.places.versions;
  }

  get workers(): number {
    return this.target.workers.length;
  }

  get rotation(): number {
    return this.target.rotation;
  }

  get maxQueueWaitMs(): number {
    return this.#options.maxQueueWaitMs;
  }

  /**
   * Waits for a place.
   *
   * @throws {LambdaError} when the caller hung up, the time is over or the function was switched off
   */
  async enter(call: QueuedCall): Promise<void> {
    await this.#wait<void>(call, (turn) => ({ kind: 'Queued', turn }));
  }

  /**
   * Waits for a worker that takes the call. The call gives up its place meanwhile, and goes before all calls that have had
   * no place.
   *
   * @throws {LambdaError} when the caller hung up, the time is over, the function was switched off or is gone
   */
  async seek(call: QueuedCall): Promise<FoundWorker> {
    const { clock, exhausted, maxWorkerWaitMs } = this.#options;
    const now = clock.monotonic();
    const { workerUntil } = call;
    call.workerUntil ??= now + maxWorkerWaitMs;
    if (call.state.kind === 'Placed' && call.workerUntil <= now) {
      throw exhausted(call);
    }
    this.places.leave(call);
    const found = this.#wait<FoundWorker>(call, (turn) => ({ kind: 'Seeking', turn }));
    if (call.state.kind !== 'Seeking') {
      // Nothing had to be waited for.
      call.workerUntil = workerUntil;
    }
    return await found;
  }

  /**
   * A call goes to the agent of a worker without a free place, and waits there with calls of other gateways. The queue
   * takes the call back once another worker is free; where the function has another worker, also once the call has waited
   * there for as long as before; and at the end of the call's wait.
   */
  sendAhead(call: QueuedCall, route: Route): SentAhead {
    const now = this.#options.clock.monotonic();
    const end = call.since + this.maxQueueWaitMs;
    const until = this.workers > 1 ? Math.min(end, now + Math.max(ASK_AGAIN_MS, now - call.since)) : end;
    const sent: SentAhead = { call, route, until, waits: {}, isTakenBack: false, giveUp: undefined };
    this.ahead.add(sent);
    this.#timer.wakeAt(call.refusals === undefined ? until : Math.min(until, call.refusals.at + ASK_AGAIN_MS));
    this.#listen();
    // The worker that has a new call was the best one: another may be the best one now, and free.
    this.places.onSent = () => this.run();
    return sent;
  }

  /** A call that was sent ahead has come back, or is over. */
  back(sent: SentAhead): void {
    this.ahead.delete(sent);
    if (this.ahead.size === 0) {
      this.places.onSent = undefined;
    }
    sent.giveUp?.();
    this.#silence();
  }

  /** Sends on calls that wait. To be called where a place or a worker is free, or a setting has changed. */
  run(): void {
    if (this.#isWaitedFor && this.target.settings.concurrency?.reserved === 0) {
      this.#refuseAll(functionBusy(this.target.name));
    }
    if (!this.#isWaitedFor) {
      this.#silence();
      return;
    }
    this.#measure();
    let move = this.#next();
    while (move.kind !== 'Rest') {
      this.#apply(move);
      move = this.#next();
    }
    this.#measure();
    this.#timer.wakeAt(move.until);
    this.#silence();
  }

  #next(): Move {
    return match(this, this.#options.clock.monotonic());
  }

  #apply(move: Exclude<Move, { kind: 'Rest' }>): void {
    switch (move.kind) {
      case 'TakeBack':
        this.#takeBack(move.ahead as SentAhead, move.to);
        break;
      case 'Enter':
        this.#admit(move.call);
        break;
      case 'Send':
        this.#sendTo(move.call, move.route);
        break;
      case 'GiveUp': {
        const { call, lacks } = move;
        const error = lacks === 'Place' ? functionBusy(this.target.name) : this.#options.exhausted(call);
        this.#end(call)?.turn.refuse(error);
        break;
      }
      default:
        unreachable(move);
    }
  }

  /** A call takes the place that is free, unless its answer could not be held as well. */
  #admit(call: QueuedCall): void {
    const refusal = this.#refusalOf(call);
    const waited = this.#end(call);
    if (refusal !== undefined) {
      waited?.turn.refuse(refusal);
    } else if (waited?.kind === 'Queued') {
      this.places.take(call);
      waited.turn.go();
    }
  }

  #sendTo(call: QueuedCall, route: Route): void {
    const { clock, view } = this.#options;
    const refusal = call.lackedPlace ? this.#refusalOf(call) : undefined;
    const waited = this.#end(call);
    if (refusal !== undefined) {
      waited?.turn.refuse(refusal);
      return;
    }
    this.places.take(call);
    call.refusals = freshOf(call.refusals, clock.monotonic());
    this.target.rotation += 1;
    const worker = view.worker(route.uid);
    if (waited?.kind === 'Seeking') {
      waited.turn.go({ route, letGo: worker === undefined ? () => undefined : hold(worker) });
    }
  }

  #refusalOf({ held: { room } }: QueuedCall): LambdaError | undefined {
    if (room.freeBytes < 0) {
      return overloaded();
    }
    return this.places.heldIn(room).bytes > room.freeBytes
      ? refusalFor('FunctionInvocationRateLimitExceeded', this.target.name)
      : undefined;
  }

  /** @param to the worker that is kept for the call until it comes */
  #takeBack(sent: SentAhead, to: Route | undefined): void {
    this.ahead.delete(sent);
    sent.isTakenBack = true;
    const next = to === undefined ? undefined : this.#options.view.worker(to.uid);
    if (next !== undefined) {
      const free = hold(next);
      const kept = this.#options.clock.setTimer(() => {
        // The call has begun where it was: it does not come.
        sent.giveUp?.();
        this.run();
      }, KEPT_MS);
      sent.giveUp = () => {
        sent.giveUp = undefined;
        kept.cancel();
        free();
      };
    }
    sent.waits.withdraw?.();
  }

  async #wait<T>(call: QueuedCall, stateWith: (turn: Turn<T>) => CallState): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    call.state = stateWith({ go: resolve, refuse: reject });
    this.#waitersLike(call).add(call);
    const { queueOf } = this.#options;
    call.caller.onGone = () => queueOf(call.target).refuse(call, unavailable('The caller hung up.'));
    if (call.caller.gone) {
      this.refuse(call, unavailable('The caller hung up.'));
    }
    this.#listen();
    this.run();
    return await promise;
  }

  /** Ends the wait of a call. */
  refuse(call: QueuedCall, error: unknown): void {
    this.#end(call)?.turn.refuse(error);
    this.#silence();
  }

  #end(call: QueuedCall): Waits | undefined {
    const { state } = call;
    if (state.kind !== 'Queued' && state.kind !== 'Seeking') {
      return undefined;
    }
    this.#waitersLike(call).delete(call);
    call.state = { kind: 'Away' };
    call.closedSince = undefined;
    call.lackedPlace = false;
    call.caller.onGone = undefined;
    return state;
  }

  #waitersLike({ state, version }: QueuedCall): Set<QueuedCall> {
    const { queued, seeking } = this.places.of(version);
    return state.kind === 'Seeking' ? seeking : queued;
  }

  #refuseAll(error: LambdaError): void {
    for (const { queued, seeking } of this.versions) {
      for (const call of [...seeking, ...queued]) {
        this.#end(call)?.turn.refuse(error);
      }
    }
  }

  #measure(): void {
    for (const use of this.versions) {
      use.measure(this.#options.clock);
    }
  }

  /** Hears of free places, and of changes: workers come and go, and settings change, without any call leaving. */
  #listen(): void {
    this.places.onFree = () => this.run();
    if (!this.#isWatching) {
      this.#isWatching = true;
      // One batch of changes may take away all workers of a function and add others.
      this.#options.view.onNextChange(this.target.name, () => queueMicrotask(() => this.#changed()));
    }
  }

  #changed(): void {
    this.#isWatching = false;
    const { meaningOf, view } = this.#options;
    const { byVersion, name } = this.target;
    const meaning = meaningOf?.(name);
    const isOther = meaning !== this.#meaning || view.function(name) !== this.target;
    this.#meaning = meaning;
    const uses = [...this.versions];
    const seeking = uses.flatMap((use) => [...use.seeking]);
    if (byVersion.size <= 1) {
      // Of a function with several versions, the change may be that of another version.
      for (const call of seeking) {
        call.refusals = undefined;
      }
    }
    this.#redirect(isOther ? [...seeking, ...uses.flatMap(({ queued }) => [...queued])] : seeking);
    for (const sent of isOther ? this.ahead : []) {
      if (!this.#isCurrent(sent.call)) {
        this.#takeBack(sent, undefined);
      }
    }
    if (this.#isWaitedFor) {
      this.#listen();
    }
    this.run();
  }

  /** Calls that go to another version or function by now wait there, among its calls in the order of arrival. */
  #redirect(calls: readonly QueuedCall[]): void {
    const { find, queueOf, view } = this.#options;
    const reached = new Set<FunctionQueue>();
    for (const call of calls) {
      try {
        const found = find(call);
        if (found.entry !== this.target || found.version !== call.version) {
          this.#waitersLike(call).delete(call);
          const next = queueOf(found.entry);
          this.places.handOver(call, next.places, found.version);
          next.#waitersLike(call).add(call);
          reached.add(next);
        }
      } catch (error) {
        // A call that has had no place hears of it once it has one: its alias may come back before.
        if (call.state.kind === 'Seeking' || view.function(this.target.name) !== this.target) {
          this.#end(call)?.turn.refuse(error);
        }
      }
    }
    for (const queue of reached) {
      for (const use of queue.versions) {
        use.sort();
      }
      if (queue !== this) {
        queue.#listen();
        queue.run();
      }
    }
  }

  #isCurrent(call: QueuedCall): boolean {
    try {
      const { entry, version } = this.#options.find(call);
      return entry === this.target && version === call.version;
    } catch {
      return false;
    }
  }

  #silence(): void {
    if (!this.#isWaitedFor) {
      this.#timer.cancel();
      this.places.onFree = undefined;
    }
  }

  get #isWaitedFor(): boolean {
    if (this.ahead.size > 0) {
      return true;
    }
    for (const { queued, seeking } of this.versions) {
      if (queued.size + seeking.size > 0) {
        return true;
      }
    }
    return false;
  }
}
