import { isAborted, sleep } from '../../common/deadline.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { IssuedStamps, SharedMarker } from '../invoke/in-flight-marker.ts';
import { endOfLeftCall } from '../invoke/left-call.ts';
import type { Invocation, InvocationResult } from '../model/invocation.ts';
import type { Action } from '../model/plan.ts';
import type { WorkerStart } from '../step/adopt.ts';
import type { Call } from '../step/call.ts';
import type { Effect } from '../step/effects.ts';
import type { WorkerEvent } from '../step/events.ts';
import { KEPT_STAMPS, recordOf } from '../step/projection.ts';
import { findContainer, isEnding, type Moment, serves, type WorkerState } from '../step/state.ts';
import { ActionRunner } from './action-runner.ts';
import type { WorkerContext } from './context.ts';
import { Dispatcher } from './dispatcher.ts';
import { Publisher } from './publisher.ts';

/** Carries out the effects of one worker. Their outcomes are raised as events. */
export class EffectRunner {
  readonly callers = new Callers();
  readonly publisher: Publisher;
  readonly stamps: IssuedStamps;
  readonly #context: WorkerContext;
  readonly #logger: Logger;
  readonly #uid: string;
  readonly #raise: (event: WorkerEvent) => void;
  readonly #mark: SharedMarker;
  readonly #dispatcher: Dispatcher;
  readonly #runner: ActionRunner;
  /** Ends the waits for calls that an earlier run of the agent has left, by container. */
  readonly #watches = new Map<string, AbortController>();
  readonly #turnOf: (containerId: string) => number | undefined;

  /**
   * @param raise takes an event of the worker
   * @param turnOf the turn of one of its containers now
   */
  constructor(
    context: WorkerContext,
    { desired, mark, record }: WorkerStart,
    raise: (event: WorkerEvent) => void,
    turnOf: (containerId: string) => number | undefined,
  ) {
    const { clock, connect, feed, inits, logger, marks, runtime } = context;
    const { name, namespace, uid } = desired.identity;
    this.#context = context;
    this.#logger = logger.child({ worker: `${namespace}/${name}` });
    this.#uid = uid;
    this.#raise = raise;
    this.#turnOf = turnOf;
    this.publisher = new Publisher(feed);
    this.stamps = new IssuedStamps(context.stamps, record?.stamps, KEPT_STAMPS);
    if (mark?.stamp !== undefined) {
      this.stamps.found(mark.stamp);
    }
    const onError = (error: unknown): void => this.#logger.error({ err: error }, 'cannot take back the mark of a call');
    this.#mark = new SharedMarker(marks.open(uid, mark?.stamp, onError), mark?.containerId);
    this.#dispatcher = new Dispatcher({
      clock,
      connect,
      initOf: (containerId) => inits.link(containerId),
      logger: this.#logger,
      mark: this.#mark,
      runtime,
      stamps: this.stamps,
    });
    this.#runner = new ActionRunner(context, this.#dispatcher, this.#logger);
  }

  /** @param state the state that asks for them */
  carryOut(effects: readonly Effect[], state: WorkerState, at: Moment): void {
    for (const effect of effects) {
      this.#do(effect, state, at);
    }
  }

  /** Ends a call for a container if not a byte of it was sent. Returns whether that is so. */
  withdraw(containerId: string, requestId: string): boolean {
    return this.#dispatcher.withdraw(containerId, requestId, 'the agent is stopping');
  }

  /** Ends what is under way, and waits for the end of it. */
  async stop(): Promise<void> {
    for (const watch of this.#watches.values()) {
      watch.abort();
    }
    await this.#runner.idle();
    this.#dispatcher.closeAll();
    this.#mark.close();
  }

  #do(effect: Effect, state: WorkerState, at: Moment): void {
    const { capacity, claims, feed, records, resolver } = this.#context;
    switch (effect.kind) {
      case 'Send':
        this.#send(effect.call, effect.containerId, state);
        return;
      case 'Await':
        this.callers.listen(effect.id, () => this.#raise({ kind: 'HungUp', id: effect.id }));
        return;
      case 'Answer':
        this.callers.answer(effect.id, effect.result);
        this.#context.onAnswered?.(state.desired.identity, effect.result);
        return;
      case 'Run':
        this.#run(effect.containerId, effect.action, state);
        return;
      case 'Settle':
        void this.#runner.settle(effect.containerId).then((outcome) => {
          this.#raise({ kind: 'Settled', containerId: effect.containerId, outcome });
        });
        return;
      case 'Look':
        void this.#look(effect);
        return;
      case 'Abort':
        this.#runner.abort(effect.containerId);
        return;
      case 'Abandon':
        this.#runner.abandon(effect.containerId);
        return;
      case 'Hurry':
        this.#runner.hurry(effect.containerId, effect.urgent);
        return;
      case 'AbortCall':
        this.#dispatcher.abort(effect.containerId, effect.message);
        return;
      case 'Claim':
        claims.claim(effect.containerId, this.#uid);
        return;
      case 'Watch':
        void this.#watch(effect);
        return;
      case 'Unwatch':
        this.#unwatch(effect.containerId);
        return;
      case 'Drop':
        this.#letGo(effect.containerId);
        capacity.free(effect.containerId);
        claims.unclaim(effect.containerId, this.#uid);
        return;
      case 'SetAside':
        this.#setAside(effect, state);
        return;
      case 'Mark':
        this.#mark.begin(effect.containerId, effect.call);
        return;
      case 'Unmark':
        this.#unmark(effect.containerId);
        return;
      case 'Hold':
        capacity.hold(effect.containerId, effect.memoryMiB);
        return;
      case 'Free':
        capacity.free(effect.containerId);
        return;
      case 'Resolve':
        void resolver.resolve(state.desired).then((error) => {
          this.#raise({ kind: 'Resolved', image: effect.image, error });
        });
        return;
      case 'Turn':
        this.#turn(effect, state);
        return;
      case 'Reject':
        this.publisher.reject(new EsbError(effect.message, { code: effect.reason }));
        return;
      case 'Save':
        records.save(this.#uid, recordOf(state, at, this.stamps.latest(KEPT_STAMPS)), effect.change);
        return;
      case 'RemoveRecord':
        records.remove(this.#uid);
        return;
      case 'Log':
        this.#logger[effect.level](effect.fields, effect.message);
        return;
      case 'Forget':
        feed.removed(this.#uid);
        return;
      default:
        unreachable(effect);
    }
  }

  #run(containerId: string, action: Action, state: WorkerState): void {
    const container = findContainer(state, containerId);
    if (container === undefined) {
      return;
    }
    const { activity } = container;
    void this.#runner
      .run({
        container,
        action,
        desired: state.desired,
        ending: isEnding(state),
        serves: serves(state, container),
        urgent: activity.kind === 'Acting' && activity.urgent,
        onProgress: (progress) => this.#raise({ kind: 'Progressed', containerId, progress }),
      })
      .then((outcome) => this.#raise({ kind: 'Acted', containerId, action, outcome }));
  }

  #send(call: Call, containerId: string, state: WorkerState): void {
    const container = findContainer(state, containerId);
    const invocation = this.callers.invocationOf(call.id);
    if (container === undefined || invocation === undefined) {
      return;
    }
    this.callers.ignore(call.id);
    void this.#dispatcher
      .call({
        container,
        functionName: state.desired.identity.functionName,
        version: state.desired.version,
        invocation,
        marked: true,
        attempt: call.attempts + 1,
      })
      .then((outcome) => this.#raise({ kind: 'Returned', containerId, id: call.id, outcome }));
  }

  async #look({ containerId, delayMs, purpose }: Extract<Effect, { kind: 'Look' }>): Promise<void> {
    if (purpose === 'Diagnose') {
      await sleep(this.#context.clock, delayMs);
    }
    const turn = this.#turnOf(containerId) ?? -1;
    const seen = await this.#runner.look(containerId, purpose);
    const isCurrent = this.#turnOf(containerId) === turn;
    const lost = seen !== undefined && isCurrent && this.#context.answers.judge(containerId, seen.info);
    this.#raise({
      kind: 'Looked',
      containerId,
      turn,
      purpose,
      seen: seen === undefined ? undefined : { ...seen, lost },
    });
  }

  async #watch({ by, call, containerId }: Extract<Effect, { kind: 'Watch' }>): Promise<void> {
    const { clock, runtime } = this.#context;
    const logger = this.#logger.child({ container: containerId });
    if (by === 'Log') {
      this.#mark.keep(containerId, call);
    }
    logger.info({ requestId: call.requestId, until: call.until }, 'a call was left in a container');
    const watch = new AbortController();
    this.#watches.set(containerId, watch);
    try {
      const sought = by === 'Log' ? call : { until: call.until };
      const seen = await endOfLeftCall({ containerId, call: sought, runtime, clock, logger }, watch.signal);
      this.#raise({ kind: 'LeftCallEnded', containerId, call, seen });
    } catch (error) {
      if (!isAborted(error)) {
        logger.error({ err: error }, 'cannot wait for the end of a call that was left');
      }
    }
  }

  /** The container is no longer this worker's. */
  #letGo(containerId: string): void {
    this.#unwatch(containerId);
    this.#dispatcher.close(containerId);
  }

  #unmark(containerId: string): void {
    this.#mark.remove(containerId);
    this.#unwatch(containerId);
  }

  #unwatch(containerId: string): void {
    this.#watches.get(containerId)?.abort();
    this.#watches.delete(containerId);
  }

  #setAside({ containerId, memoryMiB, message }: Extract<Effect, { kind: 'SetAside' }>, state: WorkerState): void {
    const { capacity, claims, setAsides } = this.#context;
    const { name, namespace } = state.desired.identity;
    this.#letGo(containerId);
    this.#mark.remove(containerId);
    claims.setAside(containerId);
    capacity.hold(containerId, memoryMiB);
    setAsides.add({ containerId, namespace, name, memoryMiB, message });
  }

  #turn({ resting, want }: Extract<Effect, { kind: 'Turn' }>, state: WorkerState): void {
    const { limiter } = this.#context;
    const { namespace } = state.desired.identity;
    const again = (): void => this.#raise({ kind: 'Ticked' });
    if (want === 'Take') {
      limiter.take(this.#uid, { namespace, resting }, again);
    } else if (want === 'Wait') {
      limiter.await(this.#uid, { namespace, resting }, again);
    } else {
      limiter.give(this.#uid);
    }
  }
}

interface Caller {
  readonly invocation: Invocation;
  readonly promise: Promise<InvocationResult>;
  readonly resolve: (result: InvocationResult) => void;
  onHangUp: (() => void) | undefined;
}

/** The callers of one worker's calls, by the number of the call, from its arrival to its one result. */
class Callers {
  readonly #callers = new Map<number, Caller>();
  #last = 0;

  add(invocation: Invocation): { readonly id: number; readonly promise: Promise<InvocationResult> } {
    const { promise, resolve } = Promise.withResolvers<InvocationResult>();
    this.#last += 1;
    this.#callers.set(this.#last, { invocation, promise, resolve, onHangUp: undefined });
    return { id: this.#last, promise };
  }

  invocationOf(id: number): Invocation | undefined {
    return this.#callers.get(id)?.invocation;
  }

  /** Settles when the caller is told how its call ended. */
  resultOf(id: number): Promise<InvocationResult> | undefined {
    return this.#callers.get(id)?.promise;
  }

  /** The first result counts. */
  answer(id: number, result: InvocationResult): void {
    const caller = this.#callers.get(id);
    if (caller !== undefined) {
      this.ignore(id);
      this.#callers.delete(id);
      caller.resolve(result);
    }
  }

  /** Hears when the caller of a call that waits hangs up. */
  listen(id: number, onHangUp: () => void): void {
    const caller = this.#callers.get(id);
    if (caller?.invocation.signal.aborted === true) {
      onHangUp();
    } else if (caller !== undefined && caller.onHangUp === undefined) {
      caller.onHangUp = onHangUp;
      caller.invocation.signal.addEventListener('abort', onHangUp, { once: true });
    }
  }

  /** A call that was sent goes on, whether its caller hangs up or not. */
  ignore(id: number): void {
    const caller = this.#callers.get(id);
    if (caller?.onHangUp !== undefined) {
      caller.invocation.signal.removeEventListener('abort', caller.onHangUp);
      caller.onHangUp = undefined;
    }
  }
}
