import { takenMiB } from '../../api/worker-resources.ts';
import type { Timer } from '../../common/clock.ts';
import { EsbError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { RuntimeEvent, WorkerInfo } from '../../runtime/contract/runtime.ts';
import { type PendingCall, startOf } from '../invoke/call-queue.ts';
import { type FoundMark, InFlightMarker } from '../invoke/in-flight-marker.ts';
import { SharedMarker } from '../invoke/shared-marker.ts';
import { refusalOf } from '../model/admission.ts';
import type { Termination } from '../model/crash-backoff.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { type Goal, goalOf } from '../model/goal.ts';
import type { Rest } from '../model/idle-policy.ts';
import type { Closing, Invocation, InvocationResult, RefusalReason } from '../model/invocation.ts';
import { type Action, isAlive } from '../model/plan.ts';
import { unavailableRetryMs } from '../model/retry-schedule.ts';
import type { WorkerRecord } from '../model/worker-record.ts';
import type { WorkerView } from '../model/worker-state.ts';
import type { SecretName } from '../secrets/secret-cache.ts';
import type { ActionRunner, ActionRunnerHost } from './action-runner.ts';
import { WorkerActivity } from './activity.ts';
import { WorkerCommands } from './commands.ts';
import { ContainerCaller } from './container-call.ts';
import type { WorkerContext } from './context.ts';
import { Dispatcher } from './dispatcher.ts';
import { recordOf, viewOf, type WorkerFacts } from './projection.ts';
import type { RecordChange } from './record-store.ts';
import { Rollout } from './rollout.ts';
import { StartPolicy } from './start-policy.ts';
import { StatePublisher } from './state-publisher.ts';
import { WakeupTimer } from './wakeup-timer.ts';

/** Milliseconds after a thaw for which it is told to nobody while a call is in the worker. */
const answerFirstMs = 100;

/** What is known of a worker when its actor begins. */
export interface WorkerStart {
  readonly desired: DesiredWorker;
  readonly record?: WorkerRecord;
  readonly mark?: FoundMark;
  /** Its containers as the runtime listed them; absent when nobody could look yet: then it waits for that. */
  readonly containers?: readonly WorkerInfo[];
  /** Whether there may be more containers than these, which the first list is to tell of. Default false. */
  readonly partial?: boolean;
}

/**
 * Everything that happens to one worker is decided here. Calls are let in, the resting state is kept, and what is to be
 * done next is decided anew after each action from what is then known. Every decision is made, and made visible in
 * the `acting` of its lane, in one synchronous step: a call can never slip in between.
 */
export class Worker {
  readonly hints: WorkerCommands;
  readonly #context: WorkerContext;
  readonly #logger: Logger;
  readonly #mark: SharedMarker;
  readonly #foundMark: FoundMark | undefined;
  readonly #containers: Rollout;
  readonly #gate: StartPolicy;
  readonly #slot: Dispatcher;
  readonly #activity: WorkerActivity;
  readonly #alarm: WakeupTimer;
  readonly #display: StatePublisher;
  readonly #unrecorded: boolean;
  #desired: DesiredWorker;
  #released = false;
  #stopping = false;
  /** Whether nobody has looked yet what containers it has. */
  #unlisted: boolean;
  /** Whether only the container that served is known, by the record and the kernel. */
  #partial: boolean;
  /** The first look at the container decides where the idle clock stands. */
  #adopting: WorkerRecord | 'unrecorded' | undefined;
  /** Whether the resource has been told of by the API, not by a record alone. */
  #confirmed = false;
  #restartCount = 0;
  #lastTermination: WorkerView['lastTermination'];
  #savedRest: Rest = 'Running';
  /** Monotonic milliseconds of its last thaw, and when what has become of it since is told. */
  #wokenAt = Number.NEGATIVE_INFINITY;
  #telling: Timer | undefined;
  /** From when on a worker that is deleted goes even with a call in it; on the clock that never steps, and by the wall. */
  #hurryAt = Number.POSITIVE_INFINITY;
  #hurryUntil = Number.POSITIVE_INFINITY;

  constructor(context: WorkerContext, start: WorkerStart) {
    const { desired, record, mark } = start;
    const { clock } = context;
    this.#context = context;
    this.#desired = desired;
    this.#confirmed = record === undefined;
    this.#logger = context.logger.child({
      worker: `${desired.identity.namespace}/${desired.identity.name}`,
    });
    this.#activity = new WorkerActivity(clock, context.stamps, desired, record);
    this.#alarm = new WakeupTimer(clock, () => {
      this.#kick();
      this.#display.publishIfChanged();
    });
    this.#display = this.#createDisplay();
    this.#mark = new SharedMarker(this.#createMark(mark?.stamp), mark?.containerId);
    this.#foundMark = mark;
    const caller = new ContainerCaller(
      context,
      this.#logger,
      () => this.#save(),
      () => this.#publish(),
    );
    this.#slot = this.#createSlot(caller);
    this.#containers = this.#createContainers(caller, record);
    this.#gate = this.#createGate();
    this.hints = this.#createHints();
    this.#unrecorded = record === undefined;
    if (mark?.stamp !== undefined) {
      this.#activity.issued(mark.stamp);
    }
    if (record !== undefined) {
      this.#restartCount = record.restartCount;
      this.#lastTermination = record.lastTermination;
      this.#savedRest = record.rest;
      this.#containers.restore(record);
    }
    this.#unlisted = start.containers === undefined;
    this.#partial = start.partial === true;
    if (start.containers === undefined) {
      this.#adopting = record;
      this.#containers.present.retry.failed(true);
    } else {
      this.#adoptContainers(record, start.containers);
    }
    if (this.#unrecorded) {
      this.#activity.wakeOnForeignStamp(desired);
    }
    if (desired.deleting) {
      this.#beginEnd();
    }
  }

  get view(): WorkerView {
    return this.#display.view;
  }

  get uid(): string {
    return this.#desired.identity.uid;
  }

  get identity(): DesiredWorker['identity'] {
    return this.#desired.identity;
  }

  get image(): string {
    return this.#desired.image;
  }

  /** Secrets that its resource names. */
  get secrets(): readonly SecretName[] {
    const { env, identity, imagePullSecrets } = this.#desired;
    const ofVariables = env.flatMap((variable) => ('secret' in variable ? [variable.secret.name] : []));
    return [...imagePullSecrets, ...ofVariables].map((name) => ({ namespace: identity.namespace, name }));
  }

  get released(): boolean {
    return this.#released;
  }

  /** Whether the API has told of its resource in this run of the agent. */
  get confirmed(): boolean {
    return this.#confirmed;
  }

  get waitsForRoom(): boolean {
    return this.#gate.nodeFull !== undefined || this.#containers.noRoomBeside !== undefined;
  }

  /** Begins to act. */
  begin(): void {
    if (this.#unrecorded) {
      this.#save();
    }
    this.#publish();
    this.#kick();
  }

  /**
   * The resource as it is now. Older than what the API has told of it in this run, it is ignored. What a record tells goes
   * by the API's first word: a cluster that was set back to a backup knows less than its nodes.
   */
  apply(next: DesiredWorker): void {
    const before = this.#desired;
    const isOlder =
      next.epoch < before.epoch || (next.epoch === before.epoch && next.generation < before.generation);
    if (this.#confirmed && isOlder) {
      return;
    }
    this.#desired = this.#confirmed && before.deleting ? { ...next, deleting: true } : next;
    if (!this.#desired.deleting) {
      this.#hurryAt = Number.POSITIVE_INFINITY;
      this.#hurryUntil = Number.POSITIVE_INFINITY;
    }
    const reclaimed = this.#released;
    this.#confirmed = true;
    this.#released = false;
    const changed = next.generation !== before.generation || next.epoch !== before.epoch || reclaimed;
    this.#activity.told(before, next);
    if (next.generation !== before.generation) {
      this.#mend();
    }
    if (next.epoch !== before.epoch) {
      this.#refuseWhere(
        (call) => call.invocation.epoch !== next.epoch,
        'Fenced',
        `the assignment has epoch ${next.epoch} now`,
      );
    }
    if (this.#desired.deleting && !before.deleting) {
      this.#beginEnd();
    }
    const woken = this.#activity.wakeOnForeignStamp(this.#desired);
    this.#abortUnwantedStart();
    if (changed || woken || this.#desired.deleting !== before.deleting) {
      this.#save();
    }
    this.#publish();
    this.#kick();
  }

  /** Wall-clock milliseconds at which the calls that are in its containers are over at the latest; undefined for none. */
  get callUntil(): number | undefined {
    const untils = this.#containers.all.flatMap(({ container }) => {
      const call = container.occupied ? container.leftCall : container.call;
      return call === undefined ? [] : [call.until];
    });
    return untils.length === 0 ? undefined : Math.min(Math.max(...untils), this.#hurryUntil);
  }

  /** The worker is no longer this node's: whatever is left of it is removed, after the calls that are in it. */
  release(): void {
    if (this.#released) {
      return;
    }
    this.#released = true;
    this.#beginEnd();
    this.#abortUnwantedStart();
    this.#publish();
    this.#kick();
  }

  invoke(invocation: Invocation): Promise<InvocationResult> {
    const refusal = this.#refusalOf(invocation);
    if (refusal !== undefined) {
      const [reason, message] = refusal;
      return Promise.resolve({ kind: 'Refused', reason, message });
    }
    const { acting, container } = this.#containers.present;
    const start = acting?.kind === 'Pause' ? 'paused' : startOf(container.state.kind);
    return this.#slot.take(invocation, start);
  }

  /** A hint that something may have happened to one of its containers. */
  hint(containerId: string, event: RuntimeEvent['kind']): void {
    this.#containers.find(containerId)?.hint(event);
  }

  /** What that process of one of its containers writes is lost. Returns whether the container is made anew for that. */
  outputLost(containerId: string, pid: number): boolean {
    const container = this.#containers.find(containerId)?.container;
    const task = container?.info?.task;
    const isSame = (task?.kind === 'Running' || task?.kind === 'Paused') && task.pid === pid;
    if (container === undefined || !isSame || container.unusable !== undefined) {
      return false;
    }
    container.unusable = 'its output is not written since the disk was full';
    this.#kick();
    return true;
  }

  /**
   * Before a look at the whole node: what is returned takes what that look has found, all of it and what is this worker's.
   * It is ignored where something was done meanwhile, and where it says nothing new.
   */
  look(): (found: ReadonlyMap<string, WorkerInfo>, own: readonly WorkerInfo[]) => void {
    const looks = this.#unlisted ? [] : this.#containers.all.map((lane) => ({ lane, turn: lane.turn }));
    return (found, own) => {
      if (this.#unlisted) {
        this.#listed(own);
        return;
      }
      let isNews = this.#partial;
      if (this.#partial) {
        this.#partial = false;
        this.#containers.adoptBeside(undefined, this.#foundMark, own);
      }
      for (const { lane, turn } of looks) {
        const info = found.get(lane.container.id);
        if (lane.acting !== undefined || turn !== lane.turn || lane.settling) {
          continue;
        }
        if (info?.task.kind === 'Stopped') {
          lane.hint('Exited');
        } else if (lane.isNews(info)) {
          lane.observe(info);
          isNews = true;
        }
      }
      if (isNews) {
        this.#slot.pump();
        this.#publish();
        this.#kick();
      }
    };
  }

  /** The containers of a worker that nobody could look at when its actor began. */
  #listed(containers: readonly WorkerInfo[]): void {
    const record = this.#adopting === 'unrecorded' ? undefined : this.#adopting;
    this.#containers.present.retry.succeeded();
    this.#adoptContainers(record, containers);
    this.#slot.pump();
    this.#publish();
    this.retry();
  }

  /** What was put off because something outside was broken is tried again now. */
  retry(): void {
    for (const { retry } of this.#containers.all) {
      retry.now();
    }
    this.#kick();
  }

  /** Settles when the call that is in the worker is over; undefined for none. */
  get currentCall(): Promise<unknown> | undefined {
    return this.#slot.current?.result;
  }

  /** Takes no more calls. */
  refuse(): void {
    this.#stopping = true;
    this.#refuseWhere(() => true, 'Unavailable', 'the agent is stopping');
    this.#publish();
  }

  /** Ends the actor and touches no worker: what goes on in it is for the next run of the agent. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#alarm.cancel();
    this.#telling?.cancel();
    this.#display.waiters.reject(new EsbError('the agent is stopping', { code: 'Unavailable' }));
    this.#slot.current?.settle({
      kind: 'Unknown',
      reason: 'AgentStopped',
      message: 'the agent stopped before the worker answered; the worker ends the call',
      stamp: this.#activity.stamp(),
    });
    this.#save();
    await this.#containers.stop();
    this.#mark.close();
  }

  // Parts

  /** @param stamp the last one that an earlier run of the agent has issued */
  #createMark(stamp: string | undefined): InFlightMarker {
    return new InFlightMarker(this.#context.marksFolder, this.uid, stamp, (error) => {
      this.#logger.error({ err: error }, 'cannot take back the mark of a call');
    });
  }

  #createSlot(caller: ContainerCaller): Dispatcher {
    const { clock, queueLimits } = this.#context;
    return new Dispatcher({
      clock,
      logger: this.#logger,
      caller,
      queueLimits,
      taker: () => this.#taker(),
      closing: () => this.#closing(),
      diagnose: (lane) => lane.diagnose(),
      stamp: () => this.#activity.stamp(),
      touch: () => this.#activity.touch(),
      kick: () => this.#kick(),
      changed: () => this.#callsChanged(),
    });
  }

  #createContainers(caller: ContainerCaller, record: WorkerRecord | undefined): Rollout {
    return new Rollout(
      this.#context,
      this.#logger,
      this.#mark,
      {
        lane: this.#createLaneHost(caller),
        desired: () => this.#desired,
        busy: () => this.#isBusy(),
        patient: () => this.#context.clock.monotonic() < this.#hurryAt,
        waiting: () => this.#slot.queue.length > 0,
        exchanged: (lane) => {
          this.#gate.nodeFull = undefined;
          if (lane.container.state.kind === 'Running') {
            this.#slot.markReady();
          }
          this.#save();
        },
        kick: () => this.#kick(),
      },
      record?.container,
    );
  }

  #createLaneHost(caller: ContainerCaller): ActionRunnerHost {
    const serves = (lane: ActionRunner): boolean => this.#containers.serves(lane);
    return {
      caller,
      desired: () => this.#desired,
      stopping: () => this.#stopping,
      ending: () => this.#isEnding(),
      urgent: (lane) => serves(lane) && this.#slot.queue.length > 0,
      serves,
      occupied: (lane) => this.#slot.occupies(lane) || lane.container.occupied,
      saved: () => this.#context.records.saved(this.uid),
      next: (lane) => this.#next(lane),
      idle: () => this.#arm(),
      acted: (lane) => this.#acted(lane),
      observed: (lane) => this.#observed(lane),
      ready: (lane) => {
        if (serves(lane)) {
          this.#slot.markReady();
        }
      },
      woken: () => {
        this.#wokenAt = this.#context.clock.monotonic();
      },
      released: () => {
        this.#activity.touch();
        // Its container may take the place of one that is not ready yet.
        this.#kick();
        this.#slot.pump();
        this.#callsChanged();
      },
      restarted: (lane) => {
        this.#restartCount += serves(lane) ? 1 : 0;
      },
      wasCounted: (lane, finishedAt) =>
        serves(lane) &&
        this.#adopting !== undefined &&
        this.#lastTermination !== undefined &&
        this.#lastTermination.finishedAt === finishedAt?.toISOString(),
      terminated: (lane, termination) => this.#terminated(lane, termination),
      unremovable: (lane, why) => {
        const { identity } = this.#desired;
        this.#context.setAside({
          containerId: lane.container.id,
          namespace: identity.namespace,
          name: identity.name,
          memoryMiB: lane.container.takenMiB,
          message: why,
        });
        this.#containers.setAside(lane);
        // After the end of the action that failed.
        queueMicrotask(() => this.#kick());
      },
      putOff: (lane) => {
        if (serves(lane)) {
          this.#refuseWaiting();
        }
      },
      stamp: () => this.#activity.stamp(),
      publish: () => this.#tell(),
      save: (change) => this.#save(change),
    };
  }

  #createGate(): StartPolicy {
    const { capacity, clock, runtimeDown } = this.#context;
    return new StartPolicy({
      clock,
      capacity,
      runtimeDown,
      ending: () => this.#isEnding(),
      containers: this.#containers,
      refuse: (condition, reason, message) => this.#refuseWhere(condition, reason, message),
    });
  }

  #createDisplay(): StatePublisher {
    return new StatePublisher(
      (previous) =>
        viewOf(this.#facts(), {
          goal: this.#goal(),
          stopping: this.#stopping,
          inFlight: this.#inFlight(),
          callUntil: this.callUntil,
          nodeFull: this.#gate.nodeFull,
          previous,
        }),
      (view) => this.#context.onChanged(view),
    );
  }

  #createHints(): WorkerCommands {
    const view = (): WorkerView => this.view;
    return new WorkerCommands({
      waiters: this.#display.waiters,
      get view() {
        return view();
      },
      desired: () => this.#desired,
      rest: () => this.#rest(),
      stopping: () => this.#stopping,
      ending: () => this.#isEnding(),
      demand: () => this.#demand(),
      isMissing: () => this.#containers.present.container.state.kind === 'Missing',
      refusal: () => this.#whyPutOff(),
      wake: () => {
        this.#activity.touch();
        this.#kick();
      },
      assume: (rest) => {
        this.#activity.assume(this.#desired, rest);
        this.#kick();
      },
    });
  }

  // Deciding

  #isEnding(): boolean {
    return this.#released || this.#desired.deleting;
  }

  #rest(): Rest {
    return this.#activity.rest(this.#desired);
  }

  #demand(): boolean {
    return this.#slot.inFlight > 0;
  }

  #goal(): Goal {
    return goalOf({
      desired: this.#desired,
      released: this.#released,
      rest: this.#rest(),
      demand: this.#demand(),
    });
  }

  /** Calls that wait or run, those included that an earlier run of the agent has left. */
  #inFlight(): number {
    return this.#slot.inFlight + this.#containers.all.filter(({ container }) => container.occupied).length;
  }

  /** Whether a call in the worker is to be waited for. */
  #isBusy(): boolean {
    return this.#slot.current !== undefined && this.#context.clock.monotonic() < this.#hurryAt;
  }

  /** The next action in that lane that may be done now. */
  #next(lane: ActionRunner): Action | undefined {
    if (this.#stopping) {
      return undefined;
    }
    const decidedAt = this.#context.clock.monotonic();
    this.#alarm.decided(decidedAt, [
      decidedAt + this.#activity.changesInMs(this.#desired),
      ...this.#containers.all.map(({ setbacks }) => decidedAt + setbacks.remainingMs),
      this.#containers.present.container.shownUnknownAt,
      ...(this.#unlisted ? [decidedAt + unavailableRetryMs] : []),
    ]);
    if (this.#unlisted) {
      this.#gate.loseFaith(decidedAt);
      return undefined;
    }
    const goal = this.#goal();
    const { present, others } = this.#containers.rearrange(goal);
    const index = this.#containers.others.indexOf(lane);
    const action = this.#containers.serves(lane) ? present : others[index];
    if (action === undefined) {
      this.#settle(goal);
      return undefined;
    }
    if (!this.#gate.mayAct(lane, action)) {
      return undefined;
    }
    if (action.kind === 'Inspect') {
      // It may take longer than nothing may be known.
      this.#arm();
    }
    return action;
  }

  /** Nothing is to be done: what a container that does not exist had is given back. */
  #settle(goal: Goal): void {
    if (this.#isAnswerFirst()) {
      this.#tell();
    } else {
      this.#keepRest(goal);
    }
    this.#containers.freeOthers();
    const { acting, container, setbacks } = this.#containers.present;
    if (acting !== undefined || !container.known || container.info !== undefined) {
      return;
    }
    if (!isAlive(goal)) {
      this.#context.capacity.free(container.id);
    }
    if (goal.kind === 'Absent') {
      setbacks.failure = undefined;
      this.#gate.nodeFull = undefined;
      if (this.#containers.isOutdated && this.#context.prepared.enabled) {
        // What is prepared is to be of the present shape.
        this.#containers.renew();
        return;
      }
      if (this.#context.prepared.offer(container.id, this.#desired)) {
        // It is to be looked for when the worker goes.
        container.traces = true;
      }
    }
    if (
      goal.kind === 'Gone' &&
      !container.traces &&
      this.#containers.others.length === 0 &&
      this.#slot.current === undefined
    ) {
      this.#context.records.remove(this.uid);
      if (this.#released) {
        this.#alarm.cancel();
        this.#telling?.cancel();
        this.#stopping = true;
        this.#containers.clear();
        this.#context.onGone(this.uid);
      }
    }
  }

  #kick(): void {
    const shown = this.#gate.nodeFull;
    this.#regroup();
    for (const lane of this.#containers.all) {
      lane.kick();
    }
    if (this.#gate.nodeFull !== shown || this.#containers.mayBeSeveral) {
      this.#display.publishIfChanged();
    }
  }

  /** An action of that lane is over: what the others do may depend on it. */
  #acted(lane: ActionRunner): void {
    this.#slot.pump();
    this.#regroup();
    for (const other of this.#containers.others.length === 0 ? [] : this.#containers.all) {
      if (other !== lane) {
        other.kick();
      }
    }
  }

  /** Brings the lanes up to date, where there may be more than one. */
  #regroup(): void {
    if (!this.#stopping && !this.#unlisted && this.#containers.mayBeSeveral) {
      this.#containers.rearrange(this.#goal());
    }
  }

  /** Looks again when something changes by itself. */
  #arm(): void {
    if (!this.#stopping) {
      this.#alarm.arm([...this.#containers.all.flatMap(({ retry }) => retry.times), this.#hurryAt]);
    }
  }

  // Observing

  /** The container of that lane is known anew. */
  #observed(lane: ActionRunner): void {
    const { container } = lane;
    const { info } = container;
    if (info !== undefined) {
      this.#context.capacity.hold(container.id, container.takenMiB);
    }
    if (this.#adopting !== undefined && this.#containers.serves(lane)) {
      const record = this.#adopting === 'unrecorded' ? undefined : this.#adopting;
      this.#activity.adopt(this.#desired, record, info, this.#confirmed);
      this.#adopting = undefined;
    }
    if (info?.task.kind === 'Paused') {
      container.pausedAt ??= new Date(this.#context.clock.now()).toISOString();
    }
    if (this.#slot.occupies(lane) && container.hasEnded) {
      container.abortCall('the worker exited');
    }
  }

  /** A process ended by itself; whether that is to be made good for. */
  #terminated(lane: ActionRunner, termination: Termination): boolean {
    const goal = this.#goal();
    if (this.#containers.serves(lane)) {
      this.#lastTermination = termination;
    }
    return isAlive(goal) && lane.container.shapeHash === goal.shapeHash;
  }

  /** Takes over what is there: what serves goes on serving, and a replacement that was under way is finished. */
  #adoptContainers(record: WorkerRecord | undefined, infos: readonly WorkerInfo[]): void {
    this.#unlisted = false;
    this.#adopting = record ?? (infos.length === 0 ? undefined : 'unrecorded');
    const info = this.#containers.adopt(record, this.#foundMark, infos);
    const ended = info?.task.kind === 'Stopped';
    if (info === undefined || ended) {
      this.#rememberCrash(record);
    }
    // How one ended is read, and counted, by a look of its own.
    if (!ended) {
      this.#containers.present.observe(info);
    }
  }

  /** A worker that crashed before the agent did goes on being put off. */
  #rememberCrash(record: WorkerRecord | undefined): void {
    const termination = record?.lastTermination;
    if (record !== undefined && termination !== undefined) {
      if (record.crashes.failures > 0 && record.rest !== 'Absent') {
        this.#containers.present.setbacks.remember(termination);
      }
    }
  }

  // Changing course

  /** Something that may have been the cause of every failure has changed. */
  #mend(): void {
    for (const { retry, setbacks } of this.#containers.all) {
      setbacks.mend();
      retry.now();
      retry.succeeded();
    }
    this.#gate.nodeFull = undefined;
  }

  #beginEnd(): void {
    this.#refuseWhere(() => true, 'NotFound', 'the worker is being removed');
    if (this.#desired.deleting && this.#hurryAt === Number.POSITIVE_INFINITY) {
      const { clock } = this.#context;
      const graceMs = this.#desired.terminationGraceSeconds * 1_000;
      this.#hurryAt = clock.monotonic() + graceMs;
      this.#hurryUntil = clock.now() + graceMs;
    }
    for (const { acting, container, retry } of this.#containers.all) {
      retry.hurry();
      if (acting?.kind === 'WarmUp') {
        container.abortCall('the worker is being removed');
      }
    }
  }

  /** Ends a start, or a call to warm up, whose result nobody wants any more. */
  #abortUnwantedStart(): void {
    const goal = this.#goal();
    for (const lane of this.#containers.all) {
      const wanted = isAlive(goal) && goal.shapeHash === lane.container.shapeHash;
      if (goal.kind !== 'Paused') {
        lane.abortWaitingPause();
      }
      if (!wanted && lane.acting?.kind === 'Ensure') {
        lane.abort();
      } else if (!wanted && lane.acting?.kind === 'WarmUp' && !this.#containers.serves(lane)) {
        lane.container.abortCall('another shape is wanted by now');
      }
    }
  }

  // Calls

  #refusalOf(invocation: Invocation): Closing | undefined {
    const { nodeFull } = this.#gate;
    const { container } = this.#containers.present;
    const desired = this.#desired;
    return refusalOf(invocation, {
      desired,
      rest: this.#rest(),
      closing: this.#closing(),
      putOff: this.#whyPutOff(),
      nodeFull:
        nodeFull !== undefined && !this.#context.capacity.fits(container.id, takenMiB(desired))
          ? nodeFull
          : undefined,
      queue: this.#slot.queue,
    });
  }

  /** Why no call can be let in, whatever it is. */
  #closing(): Closing | undefined {
    if (this.#stopping) {
      return ['Unavailable', 'the agent is stopping'];
    }
    return this.#isEnding() ? ['NotFound', 'the worker is being removed'] : undefined;
  }

  /** Why there is nothing that runs, and nothing is started either; undefined when it is or could be. */
  #whyPutOff(): Closing | undefined {
    const { acting, container, setbacks } = this.#containers.present;
    const task = container.info?.task.kind;
    const down = task !== 'Running' && task !== 'Paused';
    return container.known && acting === undefined && down && setbacks.remainingMs > 0
      ? setbacks.refusal
      : undefined;
  }

  #refuseWaiting(): void {
    this.#refuseWhere(() => true, ...this.#containers.present.setbacks.refusal);
  }

  #refuseWhere(condition: (call: PendingCall) => boolean, reason: RefusalReason, message: string): void {
    const refused = this.#slot.refuseWhere(condition, reason, message);
    if (reason !== 'Fenced' && reason !== 'Unavailable') {
      this.#display.waiters.reject(new EsbError(message, { code: reason }));
    }
    if (refused) {
      this.#callsChanged();
    }
  }

  /** Who takes a call now. */
  #taker(): ActionRunner | undefined {
    if (this.#stopping || this.#unlisted) {
      return undefined;
    }
    if (this.#containers.isOutdated) {
      // Between two calls is when its successor takes its place, or, where there is no room for both, it goes.
      const { present } = this.#containers.rearrange(this.#goal());
      if (present?.kind === 'Destroy' && this.#gate.mayAct(this.#containers.present, present)) {
        return undefined;
      }
    }
    const { acting, container, settling } = this.#containers.present;
    const { info } = container;
    return acting === undefined &&
      !settling &&
      container.known &&
      container.ready &&
      !container.occupied &&
      info?.task.kind === 'Running' &&
      info.address !== undefined &&
      container.unusable === undefined
      ? this.#containers.present
      : undefined;
  }

  // Showing and keeping

  #facts(): WorkerFacts {
    return {
      desired: this.#desired,
      rest: this.#rest(),
      containers: this.#containers,
      activity: this.#activity,
      restartCount: this.#restartCount,
      lastTermination: this.#lastTermination,
    };
  }

  #callsChanged(): void {
    this.#display.callsChanged(this.#inFlight());
  }

  #publish(): void {
    this.#display.publish();
  }

  /**
   * Shows and keeps what has become of the worker; a moment later while the call that it was woken for is in it.
   * Building the view, telling gateways and the API server and writing the record take the agent longer than the wake
   * does, and an answer that comes meanwhile lies unread.
   */
  #tell(): void {
    if (!this.#isAnswerFirst()) {
      this.#publish();
      return;
    }
    this.#telling ??= this.#context.clock.setTimer(() => {
      this.#telling = undefined;
      if (!this.#stopping) {
        this.#keepRest(this.#goal());
        this.#publish();
      }
    }, answerFirstMs);
  }

  #isAnswerFirst(): boolean {
    const { clock } = this.#context;
    return (
      this.#slot.current !== undefined && !this.#stopping && clock.monotonic() < this.#wokenAt + answerFirstMs
    );
  }

  /** Writes down where the worker rests, when that is another place than the record says. */
  #keepRest(goal: Goal): void {
    if (this.#rest() !== this.#savedRest && goal.kind !== 'Gone') {
      this.#save('Rest');
    }
  }

  #save(change: RecordChange = 'Any'): void {
    const { others, present } = this.#containers;
    const isGone = others.length === 0 && present.container.state.kind === 'Missing';
    if (this.#released || (this.#desired.deleting && isGone)) {
      return;
    }
    const record = recordOf(this.#facts());
    this.#savedRest = record.rest;
    this.#context.records.save(this.uid, record, change);
  }
}
