import { createHash } from 'node:crypto';
import type { Clock, Timer } from '../common/clock.ts';
import { type CallOptions, sleep, withDeadline } from '../common/deadline.ts';
import { EsbError, hasCode, messageOf, unreachable } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import type {
  ContainerRuntime,
  EnsureStep,
  RuntimeEvent,
  WorkerAddress,
  WorkerInfo,
} from '../runtime/container-runtime.ts';
import { WorkerExitError } from '../runtime/worker-exit-error.ts';
import { IssuedStamps, type StampSource } from './activity-stamp.ts';
import { CallQueue, PendingCall, startOf } from './call-queue.ts';
import type { DesiredWorker } from './desired-worker.ts';
import { type Goal, goalOf, mayWake } from './goal.ts';
import { IdleClock, type Rest } from './idle-clock.ts';
import { type FoundMark, InFlightMark } from './in-flight-mark.ts';
import type { Invocation, InvocationResult, RefusalReason, UnknownReason } from './invocation.ts';
import type { NodeCapacity } from './node-capacity.ts';
import { type Action, type Observed, plan } from './plan.ts';
import { resolveShape } from './resolve-shape.ts';
import { crashBackoff, healthyMs, RestartBackoff, startBackoff } from './restart-backoff.ts';
import type { SecretReader } from './secret-reader.ts';
import type { StartGate } from './start-gate.ts';
import type { WorkerAnswer, WorkerLink } from './worker-http.ts';
import type { RecordStore, WorkerRecord } from './worker-record.ts';
import { type Failure, statusOf } from './worker-status.ts';
import type { WorkerView } from './worker-view.ts';

const inspectMs = 5_000;
const transitionMs = 15_000;
const ensureMs = 300_000;
/** Milliseconds that taking a worker away may take beside its grace period. */
const destroyMs = 60_000;
/** Milliseconds after its timeout until a worker counts as silent: the emulator's own answer to it comes first. */
const timeoutMarginMs = 1_500;
/** Milliseconds that the first call after a start may take on top, for the runtime and the function to load. */
const initialisationMs = 10_000;
/** Milliseconds that a call waits for a runtime that does not answer. */
const patienceMs = 5_000;
/** First and longest delay in milliseconds before an action that failed is tried again. */
const retryFirstMs = 100;
const retryMaxMs = 30_000;
/** Longest such delay while the runtime cannot be reached: it may be back at any moment. */
const unavailableRetryMs = 1_000;
/** Resumes that fail in a row until the worker is replaced. */
const maxResumes = 5;
const maxAttempts = 3;
const logTailBytes = 4 * 1024;
const lastOutputBytes = 2 * 1024;
const keptStamps = 16;

/** What the actors of a node share. */
export interface ActorContext {
  readonly runtime: ContainerRuntime;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly secrets: SecretReader;
  readonly capacity: NodeCapacity;
  readonly records: RecordStore;
  readonly stamps: StampSource;
  readonly startGate: StartGate;
  readonly marksFolder: string;
  readonly maxQueued: number;
  readonly connect: (address: WorkerAddress) => WorkerLink;
  /** Whether the last that was heard of the runtime is that it does not answer. */
  readonly runtimeDown: () => boolean;
  readonly onRuntime: (answers: boolean) => void;
  readonly onAction: (kind: Action['kind'], durationMs: number, outcome: string) => void;
  readonly onChanged: (view: WorkerView) => void;
  /** Nothing is left of a worker that was released. */
  readonly onGone: (uid: string) => void;
}

/** What is known of a worker when its actor begins. */
export interface ActorStart {
  readonly desired: DesiredWorker;
  readonly record?: WorkerRecord;
  readonly mark?: FoundMark;
  /** Its container as the runtime listed it, or `missing`; absent when nobody has looked. */
  readonly container?: WorkerInfo | 'missing';
}

interface Waiter {
  readonly check: (view: WorkerView) => boolean;
  readonly resolve: (view: WorkerView) => void;
  readonly reject: (error: unknown) => void;
}

/** Name of a worker's container: the same for its whole life, so that a record lost costs nothing. */
export function containerIdOf(identity: DesiredWorker['identity']): string {
  const digest = createHash('sha256').update(identity.uid).digest('hex').slice(0, 8);
  return `${identity.name.slice(0, 40).replace(/[^A-Za-z0-9]+$/, '')}-${digest}`;
}

/**
 * Everything that happens to one worker happens here, one action after the other. Calls are let in, the resting state
 * is kept, and what is to be done next is decided anew after each action from what is then known. Every decision is
 * made, and made visible in `#acting`, in one synchronous step: a call can never slip in between.
 */
export class WorkerActor {
  readonly containerId: string;
  readonly #context: ActorContext;
  readonly #logger: Logger;
  readonly #queue: CallQueue;
  readonly #idle: IdleClock;
  readonly #crashes: RestartBackoff;
  readonly #starts: RestartBackoff;
  readonly #mark: InFlightMark;
  readonly #issued: IssuedStamps;
  readonly #waiters = new Set<Waiter>();
  readonly #unrecorded: boolean;
  #desired: DesiredWorker;
  #released = false;
  #stopping = false;
  /** What the runtime said last; undefined for no container. Means nothing unless `#known`. */
  #info: WorkerInfo | undefined;
  #known = false;
  /** The first look at the container decides where the idle clock stands. */
  #adopting: WorkerRecord | 'unrecorded' | undefined;
  /**
   * It was found frozen, and nobody has called it or told of its resource since. The record may be a moment older than
   * the freeze, so what it says is no reason to wake it.
   */
  #foundPaused = false;
  /** Whether the resource has been told of by the API, not by a record alone. */
  #confirmed = false;
  /** Whether a log of a container that is no more may be left: its owner may want to read it until all of it goes. */
  #traces = true;
  /** Why the container must not get another call; undefined when it may. */
  #unusable: string | undefined;
  #warm = false;
  /** Whether the function is loaded: the next call need not wait for that. */
  #loaded = false;
  /** Hash of the shape that is being started. */
  #startingShape = '';
  /** Whether the end of the present container has been counted. */
  #exitCounted = false;
  #restartPending = false;
  #startedMonotonic: number;
  #startedAt: string | undefined;
  #pausedAt: string | undefined;
  #restartCount = 0;
  #lastTermination: WorkerView['lastTermination'];
  #failure: Failure | undefined;
  #nodeFull: string | undefined;
  #observedStamp: string | undefined;
  #savedRest: Rest = 'Running';
  #acting: Action | undefined;
  #step: EnsureStep | undefined;
  #abort: AbortController | undefined;
  #loop: Promise<void> = Promise.resolve();
  /** Counts actions begun, to tell that a look taken meanwhile is out of date. */
  #turns = 0;
  #verifying = false;
  #verifyAgain = false;
  #current: PendingCall | undefined;
  #connection: WorkerLink | undefined;
  #failures = 0;
  /** Whether it has been told that the runtime does not answer; until it does. */
  #outageTold = false;
  #failedResumes = 0;
  #retryAt = Number.NEGATIVE_INFINITY;
  #retryKind: Action['kind'] | undefined;
  #inspectAt = Number.NEGATIVE_INFINITY;
  #failingSince: number | undefined;
  /** From when on a worker that is to go goes even with a call in it. */
  #hurryAt = Number.POSITIVE_INFINITY;
  #alarm: { readonly timer: Timer; readonly at: number } | undefined;
  /** When it was last decided what to do, and when that decision would come out otherwise by itself. */
  #decision: { readonly at: number; readonly changesAt: readonly number[] } = { at: 0, changesAt: [] };
  #view!: WorkerView;

  constructor(context: ActorContext, start: ActorStart) {
    const { desired, record, mark } = start;
    this.#context = context;
    this.#desired = desired;
    this.#confirmed = record === undefined;
    this.containerId =
      typeof start.container === 'object' ? start.container.containerId : containerIdOf(desired.identity);
    this.#logger = context.logger.child({
      worker: `${desired.identity.namespace}/${desired.identity.name}`,
      container: this.containerId,
    });
    this.#queue = new CallQueue(context.maxQueued, () => this.#callsChanged());
    this.#idle = new IdleClock(context.clock);
    this.#crashes = new RestartBackoff({ clock: context.clock, ...crashBackoff });
    this.#starts = new RestartBackoff({ clock: context.clock, ...startBackoff });
    this.#mark = new InFlightMark(context.marksFolder, desired.identity.uid, context.clock, (error) => {
      this.#logger.error({ err: error }, 'cannot take back the mark of a call');
    });
    this.#issued = new IssuedStamps(record?.stamps);
    this.#startedMonotonic = context.clock.monotonic();
    if (mark?.stamp !== undefined) {
      this.#issued.add(mark.stamp);
    }
    if (record !== undefined) {
      this.#startedAt = record.startedAt;
      this.#pausedAt = record.pausedAt;
      this.#restartCount = record.restartCount;
      this.#lastTermination = record.lastTermination;
      this.#crashes.restore(record.crashes);
      this.#warm = record.warmContainer === this.containerId;
      this.#savedRest = record.rest;
    }
    this.#observedStamp = record?.observedInvocationTime ?? desired.observedInvocationTime;
    this.#adopting = record ?? (typeof start.container === 'object' ? 'unrecorded' : undefined);
    if (mark?.busy === true) {
      this.#unusable = 'a call was in it when the agent ended';
    }
    const ended = typeof start.container === 'object' && start.container.task.kind === 'Stopped';
    if (start.container === 'missing' || ended) {
      this.#rememberCrash(record);
    }
    // How one ended is read, and counted, by a look of its own.
    if (start.container !== undefined && !ended) {
      this.#observe(start.container === 'missing' ? undefined : start.container);
    }
    this.#unrecorded = record === undefined;
    if (this.#unrecorded) {
      this.#wakeOnForeignStamp();
    }
    if (desired.deleting) {
      this.#beginEnd();
    }
    this.#view = this.#buildView();
  }

  get view(): WorkerView {
    return this.#view;
  }

  get uid(): string {
    return this.#desired.identity.uid;
  }

  get identity(): DesiredWorker['identity'] {
    return this.#desired.identity;
  }

  get released(): boolean {
    return this.#released;
  }

  get waitsForRoom(): boolean {
    return this.#nodeFull !== undefined;
  }

  /** Begins to act. */
  begin(): void {
    if (this.#unrecorded) {
      this.#save();
    }
    this.#publish();
    this.#kick();
  }

  /** The resource as it is now; older than what is known, it is ignored. */
  apply(next: DesiredWorker): void {
    const before = this.#desired;
    if (next.epoch < before.epoch || (next.epoch === before.epoch && next.generation < before.generation)) {
      return;
    }
    this.#desired = before.deleting ? { ...next, deleting: true } : next;
    const reclaimed = this.#released;
    this.#confirmed = true;
    this.#foundPaused = false;
    this.#released = false;
    if (reclaimed) {
      this.#hurryAt = Number.POSITIVE_INFINITY;
    }
    const changed = next.generation !== before.generation || next.epoch !== before.epoch || reclaimed;
    if (next.generation !== before.generation) {
      this.#idle.renew(before, next);
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
    const woken = this.#wakeOnForeignStamp();
    this.#abortUnwantedStart();
    if (changed || woken || this.#desired.deleting !== before.deleting) {
      this.#save();
    }
    this.#publish();
    this.#kick();
  }

  /** The worker is no longer this node's: whatever is left of it is removed. */
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
      return Promise.resolve(refusal);
    }
    const { clock } = this.#context;
    const start = this.#acting?.kind === 'Pause' ? 'paused' : startOf(this.#observed().kind);
    const call = new PendingCall(invocation, clock.monotonic(), start);
    this.#touch();
    if (this.#queue.length === 0 && this.#takesCalls()) {
      this.#enter(call);
    } else {
      this.#queue.push(call);
      if (!this.#pump()) {
        this.#kick();
      }
    }
    this.#callsChanged();
    return call.result;
  }

  /** A hint that something may have happened to the container. */
  hint(event: RuntimeEvent['kind']): void {
    if (this.#acting === undefined && !this.#isExpected(event)) {
      this.#verify();
    }
  }

  /** A look at the whole node says this of the container. Ignored while something is being done to it. */
  seen(info: WorkerInfo | undefined, turn: number): void {
    if (this.#acting === undefined && turn === this.#turns && info?.task.kind !== 'Stopped') {
      this.#observe(info);
      this.#pump();
      this.#publish();
      this.#kick();
    } else {
      this.hint('Exited');
    }
  }

  /** Number of the present turn, to be given to {@link WorkerActor.seen}. */
  get turn(): number {
    return this.#turns;
  }

  /** What was put off because something outside was broken is tried again now. */
  retry(): void {
    this.#retryAt = Number.NEGATIVE_INFINITY;
    this.#inspectAt = Number.NEGATIVE_INFINITY;
    this.#kick();
  }

  async ensure(epoch: number, options: CallOptions): Promise<WorkerView> {
    this.#checkHint(epoch);
    this.#checkMayWake();
    this.#checkStart();
    this.#touch();
    this.#kick();
    return await this.#until('start', options, (view) => view.phase === 'Running');
  }

  async resume(epoch: number, options: CallOptions): Promise<WorkerView> {
    this.#checkHint(epoch);
    this.#checkMayWake();
    if (this.#known && this.#info === undefined) {
      throw new EsbError('there is nothing to resume', { code: 'FailedPrecondition' });
    }
    return await this.ensure(epoch, options);
  }

  async pause(epoch: number, options: CallOptions): Promise<WorkerView> {
    this.#checkHint(epoch);
    const { restingState, pauseAfterSeconds, removeAfterSeconds } = this.#desired;
    const allowed =
      restingState === 'Paused' ||
      (restingState === 'Running' && pauseAfterSeconds !== undefined) ||
      (restingState === 'Absent' && removeAfterSeconds !== undefined);
    if (!allowed) {
      throw new EsbError(`it rests ${restingState}, and its idle policy does not pause it`, {
        code: 'FailedPrecondition',
      });
    }
    return await this.#lower('Paused', options);
  }

  async destroy(epoch: number, options: CallOptions): Promise<WorkerView> {
    this.#checkHint(epoch);
    if (this.#desired.restingState !== 'Absent' && this.#desired.removeAfterSeconds === undefined) {
      throw new EsbError(
        `it rests ${this.#desired.restingState}, and its idle policy does not remove it: write desiredState Absent`,
        { code: 'FailedPrecondition' },
      );
    }
    return await this.#lower('Absent', options);
  }

  /** Takes no more calls; resolves when no call is in the worker any more. */
  async drain(): Promise<void> {
    this.#stopping = true;
    this.#refuseWhere(() => true, 'Unavailable', 'the agent is stopping');
    this.#publish();
    await this.#current?.result;
  }

  /** Ends the actor and touches no worker: what goes on in it is for the next run of the agent. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#alarm?.timer.cancel();
    for (const waiter of this.#waiters) {
      waiter.reject(new EsbError('the agent is stopping', { code: 'Unavailable', retryable: true }));
    }
    this.#current?.settle({
      kind: 'Unknown',
      reason: 'AgentStopped',
      message: 'the agent stopped before the worker answered',
      stamp: this.#stamp(),
    });
    this.#save();
    this.#abort?.abort();
    await this.#loop;
    this.#mark.release();
    this.#connection?.close();
  }

  // Deciding

  #rest(): Rest {
    const { state } = this.#idle.rest(this.#desired);
    return this.#foundPaused && state === 'Running' ? 'Paused' : state;
  }

  #touch(): void {
    this.#foundPaused = false;
    this.#idle.touch();
  }

  #demand(): boolean {
    return this.#current !== undefined || this.#queue.length > 0;
  }

  #goal(): Goal {
    return goalOf({
      desired: this.#desired,
      released: this.#released,
      rest: this.#rest(),
      demand: this.#demand(),
    });
  }

  #observed(): Observed {
    if (!this.#known) {
      return { kind: 'Unknown' };
    }
    const info = this.#info;
    if (info === undefined) {
      return { kind: 'Missing', traces: this.#traces };
    }
    const { task } = info;
    switch (task.kind) {
      case 'Missing':
      case 'Created':
        return { kind: 'Created' };
      case 'Stopped':
        return { kind: 'Stopped' };
      case 'Running':
      case 'Paused':
        return {
          kind: task.kind,
          shapeHash: info.shapeHash,
          usable: this.#unusable === undefined && info.address !== undefined,
          warm: this.#warm,
        };
      default:
        return unreachable(task);
    }
  }

  /** A failure puts off the same action only: a pause that failed must not hold up the call that comes next. */
  #notBefore(action: Action): number {
    if (action.kind === 'Inspect') {
      return this.#inspectAt;
    }
    return action.kind === this.#retryKind ? this.#retryAt : Number.NEGATIVE_INFINITY;
  }

  #putOff(kind: Action['kind'], delayMs: number): void {
    this.#retryKind = kind;
    this.#retryAt = this.#context.clock.monotonic() + delayMs;
  }

  /** Whether a call in the worker is to be waited for. */
  #isBusy(): boolean {
    return this.#current !== undefined && this.#context.clock.monotonic() < this.#hurryAt;
  }

  /** The next action that may be done now. */
  #next(): Action | undefined {
    if (this.#stopping) {
      return undefined;
    }
    // Read before anything is decided: what changes between decision and alarm would else never be looked at.
    const decidedAt = this.#context.clock.monotonic();
    this.#decision = {
      at: decidedAt,
      changesAt: [
        decidedAt + (this.#idle.rest(this.#desired).changesInMs ?? Number.POSITIVE_INFINITY),
        decidedAt + Math.max(this.#crashes.remainingMs, this.#starts.remainingMs),
      ],
    };
    const goal = this.#goal();
    const action = plan(goal, this.#observed(), this.#isBusy());
    if (action === undefined) {
      this.#settle(goal);
      return undefined;
    }
    const now = this.#context.clock.monotonic();
    if (now < this.#notBefore(action)) {
      this.#loseFaith(now);
      return undefined;
    }
    if (action.kind === 'Ensure' && !this.#mayStart()) {
      return undefined;
    }
    if (action.kind === 'Pause' && this.#context.runtimeDown()) {
      // It would only leave the worker in a state that nobody can tell. Calls need no runtime as long as it runs.
      this.#verify();
      this.#putOff('Pause', unavailableRetryMs);
      return undefined;
    }
    return action;
  }

  /** Whether the container may be made now; otherwise those who wait for it are told. */
  #mayStart(): boolean {
    if (Math.max(this.#crashes.remainingMs, this.#starts.remainingMs) > 0) {
      this.#refuseWaiting();
      return false;
    }
    const { capacity } = this.#context;
    const { memoryMiB } = this.#desired;
    if (!capacity.fits(this.uid, memoryMiB)) {
      this.#nodeFull = `no room for ${memoryMiB} MiB: ${capacity.allocated.memoryMiB} of ${capacity.limits.memoryMiB} MiB and ${capacity.allocated.workers} of ${capacity.limits.workers} workers are taken`;
      this.#refuseWhere(() => true, 'NodeFull', this.#nodeFull);
      return false;
    }
    this.#nodeFull = undefined;
    capacity.hold(this.uid, memoryMiB);
    return true;
  }

  /** Nothing is to be done: what a container that does not exist had is given back. */
  #settle(goal: Goal): void {
    const rest = this.#rest();
    if (rest !== this.#savedRest && goal.kind !== 'Gone') {
      this.#save();
    }
    if (!this.#known || this.#info !== undefined) {
      return;
    }
    this.#context.capacity.free(this.uid);
    if (goal.kind === 'Absent') {
      this.#failure = undefined;
      this.#nodeFull = undefined;
    }
    if (goal.kind === 'Gone' && !this.#traces && this.#current === undefined) {
      this.#context.records.remove(this.uid);
      if (this.#released) {
        this.#alarm?.timer.cancel();
        this.#stopping = true;
        this.#connection?.close();
        this.#context.onGone(this.uid);
      }
    }
  }

  /** Calls do not wait for ever for a runtime that does not answer. */
  #loseFaith(now: number): void {
    if (this.#failingSince !== undefined && now - this.#failingSince >= patienceMs) {
      this.#refuseWhere(
        (call) => now - call.arrivedAt >= patienceMs,
        'Unavailable',
        `the worker cannot be made ready: ${this.#failure?.message ?? 'the container runtime does not answer'}`,
      );
    }
  }

  #kick(): void {
    if (this.#stopping || this.#acting !== undefined) {
      return;
    }
    const action = this.#next();
    if (action === undefined) {
      this.#arm();
      return;
    }
    // Set before anything is awaited: from here on no call gets into the worker.
    this.#acting = action;
    this.#loop = this.#run(action);
  }

  async #run(first: Action): Promise<void> {
    let action: Action | undefined = first;
    while (action !== undefined) {
      this.#acting = action;
      this.#turns += 1;
      const begun = this.#context.clock.monotonic();
      let outcome = 'ok';
      try {
        const done = this.#perform(action);
        this.#publish();
        await done;
        this.#succeeded(action);
      } catch (error) {
        outcome = EsbError.from(error).code;
        this.#failed(action, error);
      }
      this.#context.onAction(action.kind, this.#context.clock.monotonic() - begun, outcome);
      this.#acting = undefined;
      this.#step = undefined;
      this.#abort = undefined;
      this.#pump();
      action = this.#next();
    }
    this.#publish();
    this.#arm();
  }

  /** Looks again when something changes by itself. */
  #arm(): void {
    if (this.#stopping) {
      return;
    }
    const decision = this.#decision;
    const times = [this.#retryAt, this.#inspectAt, this.#hurryAt, ...decision.changesAt];
    const at = Math.min(...times.filter((time) => time > decision.at));
    if (!Number.isFinite(at) || (this.#alarm !== undefined && this.#alarm.at <= at)) {
      // An alarm that comes too early does no harm; one for each call would cost more.
      return;
    }
    this.#alarm?.timer.cancel();
    const timer = this.#context.clock.setTimer(() => {
      this.#alarm = undefined;
      this.#kick();
      this.#publishIfChanged();
    }, at - this.#context.clock.monotonic());
    this.#alarm = { timer, at };
  }

  // Acting

  async #perform(action: Action): Promise<void> {
    const { runtime, clock } = this.#context;
    const abort = new AbortController();
    this.#abort = abort;
    const options = { signal: abort.signal, deadlineMs: transitionMs };
    switch (action.kind) {
      case 'Inspect':
        await this.#inspect(abort.signal);
        return;
      case 'Ensure':
        await this.#ensure(abort.signal);
        return;
      case 'WarmUp':
        await this.#warmUp();
        return;
      case 'Pause':
        await runtime.pause(this.containerId, options);
        this.#setTask('Paused');
        this.#pausedAt = new Date(clock.now()).toISOString();
        this.#mark.release();
        this.#save();
        return;
      case 'Resume':
        await runtime.resume(this.containerId, options);
        this.#setTask('Running');
        this.#pausedAt = undefined;
        this.#markReady();
        return;
      case 'Destroy':
        await this.#destroy(action.why, abort.signal);
        return;
      default:
        unreachable(action);
    }
  }

  async #inspect(signal: AbortSignal): Promise<void> {
    const { runtime } = this.#context;
    const info = await runtime.inspect(this.containerId, { signal, deadlineMs: inspectMs });
    await this.#countExit(info);
    this.#observe(info);
  }

  async #ensure(signal: AbortSignal): Promise<void> {
    const { runtime, secrets, startGate, clock } = this.#context;
    const desired = this.#desired;
    this.#traces = true;
    this.#startingShape = desired.shapeHash;
    if (this.#restartPending) {
      this.#restartPending = false;
      this.#restartCount += 1;
    }
    const shape = await withDeadline('reading secrets', transitionMs, signal, (inner) =>
      resolveShape(desired, secrets, { signal: inner, deadlineMs: transitionMs }),
    );
    const info = await startGate.pass(this.#queue.length > 0, signal, (leave) =>
      runtime.ensure(
        {
          containerId: this.containerId,
          identity: desired.identity,
          epoch: desired.epoch,
          shapeHash: desired.shapeHash,
          shape,
          onProgress: (step) => {
            if (step === 'Pulling') {
              leave();
            }
            this.#step = step;
            this.#publish();
          },
        },
        { signal, deadlineMs: ensureMs },
      ),
    );
    this.#mark.remove();
    this.#connection?.close();
    this.#connection = undefined;
    this.#unusable = undefined;
    this.#warm = false;
    this.#loaded = false;
    this.#exitCounted = false;
    this.#startedMonotonic = clock.monotonic();
    this.#startedAt = new Date(clock.now()).toISOString();
    this.#pausedAt = undefined;
    this.#failure = undefined;
    this.#starts.reset();
    this.#observe(info);
    this.#markReady();
    this.#save();
  }

  async #destroy(why: string, signal: AbortSignal): Promise<void> {
    const graceSeconds = why === 'Unusable' ? 0 : this.#desired.terminationGraceSeconds;
    this.#logger.info({ why, reason: this.#unusable }, 'removing a container');
    await this.#context.runtime.destroy(this.containerId, {
      signal,
      graceSeconds,
      deadlineMs: graceSeconds * 1_000 + destroyMs,
    });
    this.#traces = false;
    this.#connection?.close();
    this.#connection = undefined;
    this.#mark.remove();
    this.#unusable = undefined;
    this.#warm = false;
    this.#loaded = false;
    this.#exitCounted = false;
    this.#startedAt = undefined;
    this.#pausedAt = undefined;
    if (why === 'Unwanted') {
      this.#restartPending = false;
    }
    // What was removed is proven to be gone by looking.
    this.#known = false;
    this.#save();
  }

  /** One call that nobody waits for, so that the runtime and the function are loaded. Its answer is not looked at. */
  async #warmUp(): Promise<void> {
    const nothing = (): void => undefined;
    const answer = await this.#send(
      {
        payload: Buffer.from(this.#desired.warmUpPayload ?? '{}'),
        requestId: `warm-up-${this.#context.clock.now().toString(36)}`,
        clientContext: '',
      },
      { onSending: nothing, onHead: nothing, onChunk: nothing },
    );
    switch (answer.kind) {
      case 'Answered':
        this.#mark.end(this.#stamp());
        this.#save();
        return;
      case 'NotSent':
        throw new EsbError(`the warm-up call could not be sent: ${answer.message}`, {
          code: 'NotListening',
          retryable: true,
        });
      case 'Unknown':
        this.#unusable = 'its warm-up call was lost';
        throw new EsbError(`the warm-up call was lost: ${answer.message}`, {
          code: 'WarmUpFailed',
          retryable: true,
        });
      case 'TimedOut':
        this.#unusable = 'its warm-up call was not answered';
        throw new EsbError('the warm-up call was not answered in time', {
          code: 'WarmUpFailed',
          retryable: true,
        });
      default:
        unreachable(answer);
    }
  }

  #succeeded(action: Action): void {
    this.#context.onRuntime(true);
    this.#outageTold = false;
    if (action.kind !== 'Inspect') {
      this.#failures = 0;
      this.#failingSince = undefined;
      if (action.kind === 'Resume') {
        this.#failedResumes = 0;
      }
      if (action.kind !== 'Destroy') {
        this.#failure = undefined;
      }
    }
  }

  #failed(action: Action, thrown: unknown): void {
    const error = EsbError.from(thrown);
    // Whatever came of it: the truth is what the next look says.
    this.#known = false;
    if (error.code === 'Aborted') {
      return;
    }
    const now = this.#context.clock.monotonic();
    const down = error.code === 'RuntimeUnavailable';
    if (down) {
      this.#context.onRuntime(false);
    }
    this.#failingSince ??= now;
    this.#failures += 1;
    const delay = Math.min(
      retryFirstMs * 2 ** Math.min(this.#failures - 1, 16),
      down ? unavailableRetryMs : retryMaxMs,
    );
    // Tried every second by each worker of the node: once is enough to say that the runtime is away.
    const level = down && this.#outageTold ? 'debug' : 'warn';
    this.#outageTold ||= down;
    this.#logger[level]({ action: action.kind, code: error.code, err: thrown }, 'an action failed');
    switch (action.kind) {
      case 'Inspect':
        this.#inspectAt = now + delay;
        this.#failure ??= failureOf(error, 0);
        return;
      case 'Ensure':
        this.#startFailed(error, down ? delay : undefined);
        return;
      case 'WarmUp':
        this.#startFailed(error, undefined);
        this.#putOff('WarmUp', this.#starts.remainingMs);
        return;
      case 'Resume':
        this.#failedResumes += down ? 0 : 1;
        if (this.#failedResumes >= maxResumes) {
          this.#failedResumes = 0;
          this.#unusable = 'it cannot be resumed';
        }
        this.#putOff('Resume', this.#failures === 1 ? 0 : delay);
        return;
      case 'Pause':
      case 'Destroy':
        this.#putOff(action.kind, delay);
        this.#failure = failureOf(error, 0);
        return;
      default:
        unreachable(action);
    }
  }

  /** @param retryMs when it is not the worker's fault and is tried again that soon */
  #startFailed(error: EsbError, retryMs: number | undefined): void {
    if (retryMs !== undefined) {
      this.#putOff('Ensure', retryMs);
      this.#failure = failureOf(error, 0);
      return;
    }
    if (error instanceof WorkerExitError) {
      this.#exitCounted = true;
      this.#exited(error.exit.exitCode, error.exit.oomKilled, error.exit.finishedAt, error.exit.output);
    } else {
      this.#starts.fail();
      this.#failure = failureOf(error, Math.ceil(this.#starts.remainingMs / 1_000));
    }
    if (Math.max(this.#crashes.remainingMs, this.#starts.remainingMs) > 0) {
      this.#refuseWaiting();
    }
    this.#save();
  }

  /** Counts the end of a process that nobody asked for, once. */
  async #countExit(info: WorkerInfo | undefined): Promise<void> {
    if (info?.task.kind !== 'Stopped' || this.#exitCounted) {
      return;
    }
    this.#exitCounted = true;
    const { exitCode, oomKilled, exitedAt } = info.task;
    const known = this.#adopting !== undefined && this.#lastTermination !== undefined;
    if (known && this.#lastTermination?.finishedAt === exitedAt?.toISOString()) {
      // An earlier run of the agent has counted it.
      this.#restartPending = true;
      return;
    }
    let output = '';
    try {
      output = (await this.#context.runtime.readLog(this.containerId, lastOutputBytes)).toString('utf8');
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the last output of a worker');
    }
    this.#exited(exitCode, oomKilled, exitedAt ?? new Date(this.#context.clock.now()), output);
    this.#save();
  }

  #exited(exitCode: number, oomKilled: boolean, finishedAt: Date, output: string): void {
    const reason = oomKilled ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error';
    const message = lastLinesOf(output);
    this.#lastTermination = { exitCode, reason, finishedAt: finishedAt.toISOString(), message };
    const goal = this.#goal();
    if (goal.kind === 'Gone' || goal.kind === 'Absent') {
      return;
    }
    if (this.#context.clock.monotonic() - this.#startedMonotonic >= healthyMs) {
      this.#crashes.reset();
    }
    this.#crashes.fail();
    this.#restartPending = true;
    this.#failure = {
      code: reason,
      message: exitMessage({ exitCode, reason, message }),
      exited: true,
      delaySeconds: Math.ceil(this.#crashes.remainingMs / 1_000),
    };
    this.#logger.warn({ exitCode, reason }, 'a worker ended by itself');
  }

  #observe(info: WorkerInfo | undefined): void {
    this.#known = true;
    this.#info = info;
    if (info !== undefined) {
      this.#context.capacity.hold(this.uid, this.#desired.memoryMiB);
    }
    if (this.#adopting !== undefined) {
      this.#adopt(this.#adopting === 'unrecorded' ? undefined : this.#adopting, info);
      this.#adopting = undefined;
    }
    if (info?.task.kind === 'Paused') {
      this.#pausedAt ??= new Date(this.#context.clock.now()).toISOString();
    }
    if (this.#current !== undefined && (info === undefined || info.task.kind === 'Stopped')) {
      this.#connection?.abort('the worker exited');
    }
  }

  /** Sets the idle clock so that nothing idle is woken or started, and nothing busy is frozen at once. */
  #adopt(record: WorkerRecord | undefined, info: WorkerInfo | undefined): void {
    const kind = info?.task.kind;
    switch (kind) {
      case 'Running':
        this.#idle.assume(this.#desired, 'Running');
        return;
      case 'Paused':
        this.#foundPaused = !this.#confirmed;
        this.#idle.assume(this.#desired, 'Paused');
        return;
      case 'Missing':
      case 'Created':
      case 'Stopped':
      case undefined:
        // Nothing runs. One that rested goes to where it rested; everything else is an ordinary start.
        if (record !== undefined && record.rest !== 'Running') {
          this.#idle.assume(this.#desired, record.rest);
        }
        return;
      default:
        unreachable(kind);
    }
  }

  /** A worker that crashed before the agent did goes on being put off. */
  #rememberCrash(record: WorkerRecord | undefined): void {
    const termination = record?.lastTermination;
    if (record === undefined || termination === undefined) {
      return;
    }
    if (record.crashes.failures > 0 && record.rest !== 'Absent') {
      this.#restartPending = true;
      this.#failure = {
        code: termination.reason,
        message: exitMessage(termination),
        exited: true,
        delaySeconds: Math.ceil(this.#crashes.remainingMs / 1_000),
      };
    }
  }

  #setTask(kind: 'Running' | 'Paused'): void {
    const info = this.#info;
    if (info !== undefined && (info.task.kind === 'Running' || info.task.kind === 'Paused')) {
      this.#info = { ...info, task: { kind, pid: info.task.pid } };
    }
  }

  /** Reads the container beside everything else. A look that fails, or that something overtook, says nothing. */
  #verify(): void {
    if (this.#verifying) {
      this.#verifyAgain = true;
      return;
    }
    this.#verifying = true;
    const turn = this.#turns;
    this.#context.runtime
      .inspect(this.containerId, { deadlineMs: inspectMs })
      .then(async (info) => {
        this.#context.onRuntime(true);
        if (turn === this.#turns && !this.#stopping) {
          await this.#countExit(info);
          if (turn === this.#turns) {
            this.#observe(info);
            this.#publish();
          }
        }
      })
      .catch((error: unknown) => {
        if (hasCode(error, 'RuntimeUnavailable')) {
          this.#context.onRuntime(false);
        }
        this.#logger.debug({ err: error }, 'cannot look at a container');
        // What made us look may be true all the same.
        this.#context.clock.setTimer(() => {
          if (!this.#stopping && this.#acting === undefined && turn === this.#turns) {
            this.#verify();
          }
        }, unavailableRetryMs);
      })
      .finally(() => {
        this.#verifying = false;
        if (this.#verifyAgain && !this.#stopping) {
          this.#verifyAgain = false;
          this.#verify();
        }
        this.#kick();
      });
  }

  #isExpected(event: RuntimeEvent['kind']): boolean {
    const { kind } = this.#observed();
    switch (event) {
      case 'Paused':
        return kind === 'Paused';
      case 'Resumed':
      case 'Created':
        return kind === 'Running';
      case 'Deleted':
        return kind === 'Missing';
      case 'Exited':
      case 'OutOfMemory':
        return kind === 'Missing' || kind === 'Stopped';
      case 'Reconnected':
        return false;
      default:
        return unreachable(event);
    }
  }

  // Changing course

  /** Something that may have been the cause of every failure has changed. */
  #mend(): void {
    this.#crashes.reset();
    this.#starts.reset();
    this.#retryAt = Number.NEGATIVE_INFINITY;
    this.#inspectAt = Number.NEGATIVE_INFINITY;
    this.#failures = 0;
    this.#failingSince = undefined;
    this.#nodeFull = undefined;
    if (this.#failure !== undefined) {
      this.#failure = { ...this.#failure, delaySeconds: 0 };
    }
  }

  #beginEnd(): void {
    this.#refuseWhere(() => true, 'NotFound', 'the worker is being removed');
    this.#retryAt = Number.NEGATIVE_INFINITY;
    if (this.#hurryAt === Number.POSITIVE_INFINITY) {
      this.#hurryAt = this.#context.clock.monotonic() + this.#desired.terminationGraceSeconds * 1_000;
    }
    if (this.#acting?.kind === 'WarmUp') {
      this.#connection?.abort('the worker is being removed');
    }
  }

  /** Ends a start whose result nobody wants any more; the runtime takes back what it has made. */
  #abortUnwantedStart(): void {
    if (this.#acting?.kind !== 'Ensure') {
      return;
    }
    const goal = this.#goal();
    const unwanted = goal.kind === 'Gone' || goal.kind === 'Absent';
    if (unwanted || goal.shapeHash !== this.#startingShape) {
      this.#abort?.abort();
    }
  }

  #wakeOnForeignStamp(): boolean {
    const { lastInvocationTime, observedInvocationTime } = this.#desired;
    if (lastInvocationTime === undefined || lastInvocationTime === this.#observedStamp) {
      return false;
    }
    this.#observedStamp = lastInvocationTime;
    if (lastInvocationTime === observedInvocationTime || this.#issued.has(lastInvocationTime)) {
      return false;
    }
    if (mayWake(this.#desired.wakePolicy, this.#rest())) {
      this.#touch();
    }
    return true;
  }

  // Calls

  #refusalOf(invocation: Invocation): InvocationResult | undefined {
    const refuse = (reason: RefusalReason, message: string): InvocationResult => ({
      kind: 'Refused',
      reason,
      message,
    });
    if (this.#stopping) {
      return refuse('Unavailable', 'the agent is stopping');
    }
    if (this.#released || this.#desired.deleting) {
      return refuse('NotFound', 'the worker is being removed');
    }
    if (invocation.epoch !== this.#desired.epoch) {
      return refuse(
        'Fenced',
        `the call has epoch ${invocation.epoch}, the assignment ${this.#desired.epoch}`,
      );
    }
    if (invocation.signal.aborted) {
      return refuse('CallerGone', 'the caller hung up');
    }
    if (!mayWake(this.#desired.wakePolicy, this.#rest())) {
      return refuse('PausedByOwner', 'the worker is paused by its owner');
    }
    if (this.#known && this.#acting === undefined && this.#isDown() && this.#isPutOff()) {
      return refuse(...this.#whyPutOff());
    }
    if (this.#nodeFull !== undefined && !this.#context.capacity.fits(this.uid, this.#desired.memoryMiB)) {
      return refuse('NodeFull', this.#nodeFull);
    }
    if (this.#queue.full) {
      return refuse('QueueFull', `${this.#queue.length} calls wait for this worker already`);
    }
    return undefined;
  }

  #isDown(): boolean {
    const task = this.#info?.task.kind;
    return task !== 'Running' && task !== 'Paused';
  }

  #isPutOff(): boolean {
    return Math.max(this.#crashes.remainingMs, this.#starts.remainingMs) > 0;
  }

  #whyPutOff(): [RefusalReason, string] {
    const message = this.#failure?.message ?? 'it failed before';
    return this.#failure?.exited === true
      ? ['CrashLoopBackOff', `the worker starts again later: ${message}`]
      : ['StartFailed', message];
  }

  #refuseWaiting(): void {
    this.#refuseWhere(() => true, ...this.#whyPutOff());
  }

  #refuseWhere(condition: (call: PendingCall) => boolean, reason: RefusalReason, message: string): void {
    const refused = this.#queue.extract(condition);
    for (const call of refused) {
      call.refuse(reason, message);
    }
    if (reason !== 'Fenced' && reason !== 'Unavailable') {
      for (const waiter of this.#waiters) {
        waiter.reject(new EsbError(message, { code: reason }));
      }
    }
    if (refused.length > 0) {
      this.#callsChanged();
    }
  }

  /** Sends the next call if the worker can take one now. */
  #pump(): boolean {
    if (!this.#takesCalls()) {
      return false;
    }
    const call = this.#queue.shift();
    if (call === undefined) {
      return false;
    }
    this.#enter(call);
    return true;
  }

  /** Whether a call could be sent now. */
  #takesCalls(): boolean {
    const info = this.#info;
    return (
      this.#current === undefined &&
      this.#acting === undefined &&
      !this.#stopping &&
      this.#known &&
      info?.task.kind === 'Running' &&
      info.address !== undefined &&
      this.#unusable === undefined &&
      info.shapeHash === this.#desired.shapeHash
    );
  }

  #enter(call: PendingCall): void {
    this.#current = call;
    call.readyAt ??= this.#context.clock.monotonic();
    this.#serve(call).catch((error: unknown) => {
      this.#logger.error({ err: error }, 'serving a call failed');
      this.#unusable = 'serving a call failed';
      this.#finish(call, {
        kind: 'Unknown',
        reason: 'ConnectionLost',
        message: messageOf(error),
        stamp: this.#stamp(),
      });
    });
  }

  async #serve(call: PendingCall): Promise<void> {
    const { clock } = this.#context;
    const { invocation } = call;
    const logOffset = invocation.tailLog ? await this.#logOffset() : 0;
    let sentAt = clock.monotonic();
    const answer = await this.#send(invocation, {
      onSending: () => {
        sentAt = clock.monotonic();
      },
      onHead: invocation.onHead,
      onChunk: invocation.onChunk,
    });
    const answeredAt = clock.monotonic();
    switch (answer.kind) {
      case 'NotSent':
        await this.#notSent(call, answer.message);
        return;
      case 'Unknown': {
        const reason = await this.#diagnose();
        if (reason === 'ConnectionLost') {
          this.#unusable = 'the connection was lost in the middle of a call';
        }
        this.#finish(call, { kind: 'Unknown', reason, message: answer.message, stamp: this.#stamp() });
        return;
      }
      case 'TimedOut':
      case 'Answered': {
        const logTail = invocation.tailLog ? await this.#logTail(logOffset) : undefined;
        const stamp = this.#stamp();
        const rest = {
          stamp,
          timings: call.timings(sentAt, answeredAt),
          ...(logTail === undefined ? {} : { logTail }),
        };
        if (answer.kind === 'Answered') {
          this.#mark.end(stamp);
          this.#finish(call, { kind: 'Answered', ...rest });
        } else {
          this.#unusable = 'a call was not answered in time';
          const message = `Task timed out after ${this.#desired.timeoutSeconds}.00 seconds`;
          this.#finish(call, { kind: 'TimedOut', message, ...rest });
        }
        return;
      }
      default:
        unreachable(answer);
    }
  }

  /** Frees the worker for the next call, then tells the caller. */
  #finish(call: PendingCall, result: InvocationResult): void {
    this.#current = undefined;
    this.#touch();
    if (!this.#pump()) {
      this.#kick();
    }
    call.settle(result);
    this.#callsChanged();
  }

  async #send(
    request: Pick<Invocation, 'payload' | 'requestId' | 'clientContext' | 'traceId'>,
    told: {
      readonly onSending: () => void;
      readonly onHead: Invocation['onHead'];
      readonly onChunk: Invocation['onChunk'];
    },
  ): Promise<WorkerAnswer> {
    const { clock } = this.#context;
    const timeoutMs = this.#desired.timeoutSeconds * 1_000;
    let status = 0;
    let sentAt = 0;
    const answer = await this.#connect().call({
      payload: request.payload,
      requestId: request.requestId,
      clientContext: request.clientContext,
      traceId: request.traceId,
      timeoutMs: timeoutMs + timeoutMarginMs + (this.#loaded ? 0 : initialisationMs),
      onSending: () => {
        sentAt = clock.monotonic();
        this.#markBegin();
        told.onSending();
      },
      onHead: (head) => {
        status = head.status;
        told.onHead(head);
      },
      onChunk: told.onChunk,
    });
    // After a timeout or a crash of the runtime the emulator loads the function anew.
    this.#loaded =
      answer.kind === 'Answered' && status >= 200 && status < 300 && clock.monotonic() - sentAt < timeoutMs;
    if (answer.kind === 'Answered' && !this.#warm) {
      this.#warm = true;
      this.#save();
    }
    return answer;
  }

  /** Nothing was sent: the call is still ours, and goes first once it is known what the worker is. */
  async #notSent(call: PendingCall, message: string): Promise<void> {
    call.attempts += 1;
    if (call.attempts >= maxAttempts) {
      this.#unusable = 'it does not listen';
      this.#known = false;
      this.#finishUnsent(call);
      call.refuse('StartFailed', `the worker does not listen: ${message}`);
      this.#callsChanged();
      return;
    }
    await sleep(this.#context.clock, 10 * call.attempts);
    if (call.settled) {
      this.#finishUnsent(call);
      return;
    }
    this.#known = false;
    this.#connection?.close();
    this.#connection = undefined;
    if (this.#released || this.#desired.deleting) {
      call.refuse('NotFound', 'the worker is being removed');
    } else if (call.invocation.signal.aborted) {
      call.refuse('CallerGone', 'the caller hung up');
    } else if (this.#stopping) {
      call.refuse('Unavailable', 'the agent is stopping');
    } else {
      this.#queue.unshift(call);
    }
    this.#finishUnsent(call);
  }

  #finishUnsent(call: PendingCall): void {
    if (this.#current === call) {
      this.#current = undefined;
    }
    this.#kick();
    this.#callsChanged();
  }

  /** Why a connection broke in the middle of a call. The runtime may hear of an exit a moment after we do. */
  async #diagnose(): Promise<UnknownReason> {
    for (const waitMs of [0, 50, 150]) {
      if (this.#known && (this.#info === undefined || this.#info.task.kind === 'Stopped')) {
        return 'WorkerExited';
      }
      if (this.#acting?.kind === 'Destroy' || this.#released || this.#desired.deleting) {
        return 'Restarted';
      }
      if (this.#stopping) {
        return 'AgentStopped';
      }
      await sleep(this.#context.clock, waitMs);
      const turn = this.#turns;
      try {
        const info = await this.#context.runtime.inspect(this.containerId, { deadlineMs: 1_000 });
        if (turn === this.#turns && (info === undefined || info.task.kind === 'Stopped')) {
          await this.#countExit(info);
          this.#observe(info);
          return 'WorkerExited';
        }
      } catch (error) {
        this.#logger.debug({ err: error }, 'cannot look at a container');
      }
    }
    return 'ConnectionLost';
  }

  #connect(): WorkerLink {
    const address = this.#info?.address;
    if (address === undefined) {
      throw new EsbError('the address of the worker is not known', { code: 'Internal' });
    }
    if (
      this.#connection === undefined ||
      this.#connection.address.ip !== address.ip ||
      this.#connection.address.port !== address.port
    ) {
      this.#connection?.close();
      this.#connection = this.#context.connect(address);
    }
    return this.#connection;
  }

  #markReady(): void {
    const now = this.#context.clock.monotonic();
    for (const call of this.#queue) {
      call.readyAt ??= now;
    }
  }

  #markBegin(): void {
    try {
      this.#mark.begin(this.containerId);
    } catch (error) {
      // Without it a crash of the agent in the middle of this call goes unnoticed; refusing all calls is worse.
      this.#logger.error({ err: error }, 'cannot write the mark of a call');
    }
  }

  #stamp(): string {
    const stamp = this.#context.stamps.next();
    this.#issued.add(stamp);
    return stamp;
  }

  async #logOffset(): Promise<number> {
    try {
      return await this.#context.runtime.logOffset(this.containerId);
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the log of a worker');
      return 0;
    }
  }

  /** What was written during the call. The shim writes it down a moment after the emulator has answered. */
  async #logTail(offset: number): Promise<Buffer> {
    let tail: Buffer = Buffer.alloc(0);
    try {
      for (let look = 0; look < 5; look += 1) {
        tail = await this.#context.runtime.readLogSince(this.containerId, offset, logTailBytes);
        if (tail.includes('REPORT RequestId')) {
          break;
        }
        await sleep(this.#context.clock, 10);
      }
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the log of a worker');
    }
    return tail;
  }

  // Hints

  #checkHint(epoch: number): void {
    if (this.#stopping) {
      throw new EsbError('the agent is stopping', { code: 'Unavailable', retryable: true });
    }
    if (this.#released || this.#desired.deleting) {
      throw new EsbError('the worker is being removed', { code: 'NotFound' });
    }
    if (epoch !== this.#desired.epoch) {
      throw new EsbError(`the request has epoch ${epoch}, the assignment ${this.#desired.epoch}`, {
        code: 'Fenced',
      });
    }
  }

  #checkMayWake(): void {
    if (!mayWake(this.#desired.wakePolicy, this.#rest())) {
      throw new EsbError('the worker is paused by its owner', { code: 'FailedPrecondition' });
    }
  }

  #checkStart(): void {
    if (this.#known && this.#acting === undefined && this.#isDown() && this.#isPutOff()) {
      const [code, message] = this.#whyPutOff();
      throw new EsbError(message, { code, retryable: true });
    }
  }

  async #lower(state: 'Paused' | 'Absent', options: CallOptions): Promise<WorkerView> {
    if (this.#demand()) {
      throw new EsbError('calls are in it or waiting for it', { code: 'FailedPrecondition' });
    }
    this.#idle.assume(this.#desired, state);
    this.#kick();
    return await this.#until(state, options, (view) => view.phase === state || this.#rest() !== state);
  }

  async #until(
    what: string,
    options: CallOptions,
    check: (view: WorkerView) => boolean,
  ): Promise<WorkerView> {
    if (check(this.#view)) {
      return this.#view;
    }
    return await withDeadline(what, options.deadlineMs ?? ensureMs, options.signal, async () => {
      const { promise, resolve, reject } = Promise.withResolvers<WorkerView>();
      const waiter: Waiter = { check, resolve, reject };
      this.#waiters.add(waiter);
      const forget = (): void => {
        this.#waiters.delete(waiter);
      };
      options.signal?.addEventListener('abort', forget, { once: true });
      try {
        return await promise;
      } finally {
        forget();
        options.signal?.removeEventListener('abort', forget);
      }
    });
  }

  // Showing

  #callsChanged(): void {
    const inFlight = this.#inFlight();
    if (this.#view.inFlight !== inFlight) {
      this.#show({ ...this.#view, inFlight });
    }
  }

  #publish(): void {
    this.#show(this.#buildView());
  }

  /** After an alarm, which more often than not changes nothing. */
  #publishIfChanged(): void {
    const view = this.#buildView();
    if (JSON.stringify(view) !== JSON.stringify(this.#view)) {
      this.#show(view);
    }
  }

  #show(view: WorkerView): void {
    this.#view = view;
    if (this.#waiters.size > 0) {
      for (const waiter of this.#waiters) {
        if (waiter.check(view)) {
          waiter.resolve(view);
        }
      }
    }
    this.#context.onChanged(view);
  }

  #inFlight(): number {
    return this.#queue.length + (this.#current === undefined ? 0 : 1);
  }

  #buildView(): WorkerView {
    const desired = this.#desired;
    const goal = this.#goal();
    const observed = this.#observed().kind;
    const info = this.#info;
    const status = statusOf({
      desired,
      goal,
      observed,
      traces: this.#traces,
      info,
      acting: this.#acting?.kind,
      step: this.#step,
      failure: this.#failure,
      nodeFull: this.#nodeFull,
      cold: desired.warmUpPayload !== undefined && !this.#warm,
      previous: this.#view as WorkerView | undefined,
    });
    return {
      identity: desired.identity,
      epoch: desired.epoch,
      ...status,
      inFlight: this.#inFlight(),
      callable: goal.kind !== 'Gone' && !this.#stopping && mayWake(desired.wakePolicy, this.#rest()),
      observedGeneration: desired.generation,
      ...(info === undefined ? {} : { containerId: info.containerId }),
      ...(info === undefined || info.image === '' ? {} : { image: info.image }),
      ...(info?.address === undefined ? {} : { address: info.address }),
      ...(info === undefined || this.#startedAt === undefined ? {} : { startedAt: this.#startedAt }),
      ...(observed !== 'Paused' || this.#pausedAt === undefined ? {} : { pausedAt: this.#pausedAt }),
      restartCount: this.#restartCount,
      ...(this.#lastTermination === undefined ? {} : { lastTermination: this.#lastTermination }),
      ...(this.#observedStamp === undefined ? {} : { observedInvocationTime: this.#observedStamp }),
    };
  }

  #save(): void {
    const desired = this.#desired;
    if (this.#released || (desired.deleting && this.#known && this.#info === undefined)) {
      return;
    }
    this.#savedRest = this.#rest();
    this.#context.records.save(this.uid, {
      version: 1,
      desired,
      rest: this.#savedRest,
      ...(this.#warm ? { warmContainer: this.containerId } : {}),
      ...(this.#startedAt === undefined ? {} : { startedAt: this.#startedAt }),
      ...(this.#pausedAt === undefined ? {} : { pausedAt: this.#pausedAt }),
      restartCount: this.#restartCount,
      ...(this.#lastTermination === undefined ? {} : { lastTermination: this.#lastTermination }),
      crashes: this.#crashes.snapshot(),
      ...(this.#observedStamp === undefined ? {} : { observedInvocationTime: this.#observedStamp }),
      stamps: this.#issued.latest(keptStamps),
    });
  }
}

function failureOf(error: EsbError, delaySeconds: number): Failure {
  return { code: error.code, message: error.message, exited: false, delaySeconds };
}

function exitMessage(exit: { exitCode: number; reason: string; message: string }): string {
  const lastLine = exit.message.trimEnd().split('\n').at(-1) ?? '';
  const how =
    exit.reason === 'OOMKilled'
      ? 'killed for using more memory than its limit'
      : `exited with code ${exit.exitCode} (${exit.reason})`;
  return lastLine === '' ? how : `${how}, its last output: ${lastLine}`;
}

/** The last lines of an output, at most twenty. */
function lastLinesOf(output: string): string {
  return output.trimEnd().split('\n').slice(-20).join('\n');
}
