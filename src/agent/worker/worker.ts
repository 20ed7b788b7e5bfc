import { type Timer, WakeupTimer } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { InitNews } from '../../init/contract.ts';
import type { RuntimeEvent, WorkerInfo } from '../../runtime/contract/runtime.ts';
import { recoverCall } from '../invoke/recovery.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { Invocation, InvocationResult, Recovery } from '../model/invocation.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { SecretName } from '../secrets/secret-cache.ts';
import type { WorkerStart } from '../step/adopt.ts';
import { adopted } from '../step/begin.ts';
import { type Container, expects, takesSeveral } from '../step/container.ts';
import { isNews } from '../step/container-sight.ts';
import { decide } from '../step/decide.ts';
import type { WorkerEvent } from '../step/events.ts';
import { signsOf, viewOf } from '../step/projection.ts';
import { reduce } from '../step/reduce.ts';
import { shareInForce } from '../step/share.ts';
import {
  callersOf,
  callUntilOf,
  containersOf,
  findContainer,
  hasOnly,
  inFlightOf,
  isAlike,
  isQuiet,
  type Moment,
  placesOf,
  restOf,
  type WorkerState,
} from '../step/state.ts';
import { type Command, eventOf, mayThaw } from './commands.ts';
import type { WorkerContext } from './context.ts';
import { EffectRunner } from './effect-runner.ts';

/** Milliseconds that a command waits for its end by default. */
const commandMs = 300_000;
/** Milliseconds that changes of the number of calls, or of places for them, and of nothing else, are gathered for. */
const gatherMs = 20;

/**
 * One worker on this node. All that happens to it is an event of {@link Worker.step}, which is reduced into a new state
 * and decided on in one synchronous step: a call can never slip in between.
 */
export class Worker {
  readonly #context: WorkerContext;
  readonly #effects: EffectRunner;
  /** For the next moment at which a decision changes without an event. */
  readonly #timer: WakeupTimer;
  readonly #unrecorded: boolean;
  readonly #mailbox: WorkerEvent[] = [];
  #state: WorkerState;
  #stepping = false;
  /** Containers beside the present one at the last word to the inits. */
  #toldOthers: readonly Container[] = [];
  /** The view that was published last. */
  #shown: WorkerView | undefined;
  /** Calls as they were when that one was made. */
  #counted: Pick<WorkerState, 'places' | 'waiting'> | undefined;
  /** Runs while the calls in it are not those of that one. */
  #gathering: Timer | undefined;
  /** Signs of that view, and the state of the last comparison. */
  #signs: readonly unknown[] = [];
  #seen: WorkerState | undefined;
  /** Until when the time alone changes nothing of it, in monotonic milliseconds. */
  #seenUntil = Number.NEGATIVE_INFINITY;

  constructor(context: WorkerContext, start: WorkerStart) {
    this.#context = context;
    this.#unrecorded = start.record === undefined;
    this.#timer = new WakeupTimer(context.clock, () => this.step({ kind: 'Ticked' }));
    this.#effects = new EffectRunner(
      context,
      start,
      (event) => this.step(event),
      (containerId) => findContainer(this.#state, containerId)?.turn,
    );
    this.#judge(start.containers ?? []);
    const at = this.#moment();
    const { effects, state } = adopted(start, this.#isOwnStamp(start.desired), context.queueLimits, at);
    this.#state = state;
    this.#effects.carryOut(effects, state, at);
  }

  get view(): WorkerView {
    const shown = this.#shown ?? viewOf(this.#state, this.#moment(), undefined);
    const { activeStamp } = this.#state;
    if (this.#isCounted(shown) && shown.lastInvocationTime === activeStamp) {
      return shown;
    }
    const places = shown.places === undefined ? {} : { places: placesOf(this.#state) };
    const share = shown.share === undefined ? {} : { share: shareInForce(this.#state) };
    const active = activeStamp === undefined ? {} : { lastInvocationTime: activeStamp };
    const counted = { inFlight: inFlightOf(this.#state), callers: callersOf(this.#state) };
    return { ...shown, ...counted, ...places, ...share, ...active };
  }

  get uid(): string {
    return this.#state.desired.identity.uid;
  }

  get desired(): DesiredWorker {
    return this.#state.desired;
  }

  /** Secrets that its resource names. */
  get secrets(): readonly SecretName[] {
    const { env, identity, imagePullSecrets } = this.#state.desired;
    const ofVariables = env.flatMap((variable) => ('secret' in variable ? [variable.secret.name] : []));
    return [...imagePullSecrets, ...ofVariables].map((name) => ({ namespace: identity.namespace, name }));
  }

  get released(): boolean {
    return this.#state.released;
  }

  /** Whether its resource came from the API in this run of the agent. */
  get confirmed(): boolean {
    return this.#state.confirmed;
  }

  get waitsForRoom(): boolean {
    return this.#state.nodeFull !== undefined || this.#state.noRoomBeside !== undefined;
  }

  /**
   * Wall-clock milliseconds at which the calls that are in its containers are over at the latest; undefined for none.
   */
  get callUntil(): number | undefined {
    return callUntilOf(this.#state);
  }

  /** Each settles when the caller of a call that is in the worker is told how it ended. */
  get currentCalls(): readonly Promise<unknown>[] {
    return this.#state.places.flatMap(({ call }) => this.#effects.callers.resultOf(call.id) ?? []);
  }

  /** Begins to act. */
  begin(): void {
    this.#show(this.#moment());
    this.step({ kind: 'Begun', unrecorded: this.#unrecorded });
  }

  /** The resource as it is now. */
  apply(desired: DesiredWorker): void {
    this.step({ kind: 'Applied', desired, ownStamp: this.#isOwnStamp(desired) });
  }

  invoke(invocation: Invocation): Promise<InvocationResult> {
    const { atOnce = false, caller, epoch, payload, requestId, signal, waitedMs } = invocation;
    const { id, promise } = this.#effects.callers.add(invocation);
    const arrivedAt = this.#context.clock.monotonic();
    const call = { id, requestId, epoch, bytes: payload.length, arrivedAt, waitedMs, caller };
    this.step({ kind: 'Invoked', call, gone: signal.aborted, atOnce });
    return promise;
  }

  /** Passes on the answer of a call that an earlier run of the agent has sent. */
  recover(recovery: Recovery): Promise<InvocationResult> {
    const { clock, inits, logger, runtime } = this.#context;
    return recoverCall(recovery, {
      ...{ clock, inits, logger, runtime },
      containers: () => containersOf(this.#state).map((one) => ({ id: one.make.id, several: takesSeveral(one) })),
      hasAll: () => this.#state.listing.kind === 'Complete' && !this.#state.hasLost,
      stamp: () => this.#effects.stamps.next(),
      thaw: () => void (mayThaw(this.#state, clock.monotonic()) && this.step({ kind: 'Woken' })),
    });
  }

  /** Does what an operator asks, and waits for the end of it. */
  async command(command: Command, epoch: number, options: CallOptions): Promise<WorkerView> {
    const { clock } = this.#context;
    const event = eventOf(command, epoch, this.#state, clock.monotonic());
    this.step(event);
    const limits = { ...options, deadlineMs: options.deadlineMs ?? commandMs };
    const [what, isDone] =
      event.kind === 'Lowered'
        ? [event.rest, (phase: string) => phase === event.rest || restOf(this.#state, clock.monotonic()) !== event.rest]
        : ['start', (phase: string) => phase === 'Running'];
    const { view } = this;
    return isDone(view.phase) ? view : await this.#effects.publisher.until(what, limits, ({ phase }) => isDone(phase));
  }

  /** The init of one of its containers has told something, or is gone. */
  initTold({ containerId, ...word }: InitNews): void {
    this.step({ kind: 'InitTold', containerId, word });
    this.#tellInit(containerId);
  }

  /**
   * The output of that process of one of its containers is lost. Returns whether the container is made again for that.
   */
  outputLost(containerId: string, pid: number): boolean {
    const container = findContainer(this.#state, containerId);
    const task = container?.sight.info?.task;
    const isSame = (task?.kind === 'Running' || task?.kind === 'Paused') && task.pid === pid;
    if (!isSame || container?.unusable !== undefined) {
      return false;
    }
    this.step({ kind: 'OutputLost', containerId });
    return true;
  }

  /** A hint that something may have happened to one of its containers. */
  hint(containerId: string, event: RuntimeEvent['kind']): void {
    const container = findContainer(this.#state, containerId);
    // Most events tell of what the worker has just done itself.
    if (container !== undefined && container.activity.kind !== 'Acting' && !expects(container, event)) {
      this.step({ kind: 'Hinted', containerId, event });
    }
  }

  /**
   * Called before a look at the whole node. The returned function takes the result of that look, of all workers and of
   * this one. A result is ignored where an action began meanwhile, and where it has no news.
   */
  look(): (found: ReadonlyMap<string, WorkerInfo>, own: readonly WorkerInfo[]) => void {
    const before = this.#state.listing.kind === 'Unlisted' ? [] : containersOf(this.#state);
    return (found, own) => {
      const isFirst = this.#state.listing.kind !== 'Complete';
      const news = before.flatMap(({ make: { id }, turn }) => {
        const container = findContainer(this.#state, id);
        const info = found.get(id);
        if (container?.turn !== turn || container.activity.kind !== 'None') {
          return [];
        }
        if (info?.task.kind === 'Stopped') {
          this.hint(id, 'Exited');
          return [];
        }
        const lost = this.#context.answers.judge(id, info);
        return isNews(container, info) ? [{ containerId: id, sighting: { info, lost } }] : [];
      });
      if (isFirst) {
        this.#judge(own);
      }
      if (isFirst || news.length > 0) {
        this.step({ kind: 'Listed', own, news });
      }
    };
  }

  /** Ends the actor and touches no worker: what goes on in it is for the next run of the agent. */
  async stop(): Promise<void> {
    this.#effects.publisher.reject(new EsbError('the agent is stopping', { code: 'Unavailable' }));
    const unsent = this.#state.places.flatMap(({ call, containerId, kind }) =>
      kind === 'Sent' && this.#effects.withdraw(containerId, call.requestId) ? [call.id] : [],
    );
    this.step({ kind: 'Stopped', stamp: this.#effects.stamps.next(), unsent });
    this.#timer.cancel();
    this.#gathering?.cancel();
    await this.#effects.stop();
  }

  /** Takes an event: the only way in which anything comes to the worker. One raised in a step is taken after it. */
  step(event: WorkerEvent): void {
    this.#mailbox.push(event);
    if (this.#stepping) {
      return;
    }
    this.#stepping = true;
    try {
      for (let next = this.#mailbox.shift(); next !== undefined; next = this.#mailbox.shift()) {
        this.#take(next);
      }
    } finally {
      this.#stepping = false;
    }
  }

  #take(event: WorkerEvent): void {
    const at = this.#moment();
    const reduced = reduce(this.#state, event, at);
    this.#state = reduced.state;
    this.#effects.carryOut(reduced.effects, reduced.state, at);
    if (event.kind === 'Applied') {
      // A wake that it leads to is not shown yet.
      this.#show(at);
    }
    const decision = decide(reduced.state, at);
    this.#state = decision.state;
    this.#tellInits();
    this.#effects.carryOut(decision.effects, decision.state, at);
    this.#show(at);
    if (this.#seen === decision.state) {
      this.#seenUntil = decision.wakeAt;
    }
    this.#timer.wakeAt(decision.wakeAt);
  }

  /** Tells the inits where the calls of the worker come, before the first call goes elsewhere. */
  #tellInits(): void {
    const { others } = this.#state;
    if (others !== this.#toldOthers) {
      this.#toldOthers = others;
      for (const { make } of containersOf(this.#state)) {
        this.#tellInit(make.id);
      }
    }
  }

  #tellInit(containerId: string): void {
    const { hasLost, others } = this.#state;
    if (others.length > 0) {
      this.#context.inits.link(containerId)?.serveBeside();
    } else if (hasOnly(this.#state, containerId)) {
      this.#context.inits.link(containerId)?.serveAlone(hasLost);
    }
  }

  #moment(): Moment {
    const { clock, facts } = this.#context;
    return { now: clock.monotonic(), wall: clock.now(), node: facts };
  }

  /** Shows what has changed. */
  #show(at: Moment): void {
    if (this.#state.life === 'Gone') {
      this.#gathering?.cancel();
      return;
    }
    const shown = this.#shown;
    const isNew = this.#seen === undefined || at.now >= this.#seenUntil || !isAlike(this.#seen, this.#state);
    if (shown === undefined || (isNew && !isQuiet(this.#state, at.now))) {
      this.#seen = this.#state;
      this.#seenUntil = Number.NEGATIVE_INFINITY;
      const signs = signsOf(this.#state, at);
      if (shown === undefined || signs.some((sign, index) => sign !== this.#signs[index])) {
        this.#signs = signs;
        this.#publish(viewOf(this.#state, at, shown));
        return;
      }
    }
    if (!this.#isCounted(shown)) {
      // Most calls are over before anybody had to know of them.
      this.#gathering ??= this.#context.clock.setTimer(() => this.#publish(this.view), gatherMs);
    }
  }

  /** Whether a view has the calls that there are, and the number of places for them. */
  #isCounted({ inFlight, places = 1, share }: WorkerView): boolean {
    return (
      this.#counted?.places === this.#state.places &&
      this.#counted.waiting === this.#state.waiting &&
      inFlight === inFlightOf(this.#state) &&
      places === placesOf(this.#state) &&
      (share === undefined || share.calls === shareInForce(this.#state)?.calls)
    );
  }

  #publish(view: WorkerView): void {
    this.#gathering?.cancel();
    this.#gathering = undefined;
    this.#shown = view;
    this.#counted = this.#state;
    this.#effects.publisher.show(view);
  }

  /** Takes note of containers whose shim does not answer. */
  #judge(infos: readonly WorkerInfo[]): void {
    for (const info of infos) {
      this.#context.answers.judge(info.containerId, info);
    }
  }

  #isOwnStamp({ lastInvocationTime }: DesiredWorker): boolean {
    return lastInvocationTime !== undefined && this.#effects.stamps.has(lastInvocationTime);
  }
}
