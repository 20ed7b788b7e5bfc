import { isDeepStrictEqual } from 'node:util';
import { readyReasons } from '../../api/condition.ts';
import { AbortedError, sleep, withDeadline } from '../../common/deadline.ts';
import { EsbError, hasCode, isShortage, unreachable } from '../../common/errors.ts';
import type { FairGate } from '../../common/fair-gate.ts';
import type { Logger } from '../../common/logger.ts';
import type { EnsureStep, KernelState, RuntimeEvent, WorkerInfo } from '../../runtime/contract/runtime.ts';
import { WorkerExitError } from '../../runtime/contract/worker-exit-error.ts';
import { type LeftCall, LeftCallWatch } from '../invoke/left-call.ts';
import { CrashBackoff, failureOf, type Termination, terminationOf } from '../model/crash-backoff.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { UnknownReason } from '../model/invocation.ts';
import { type Action, type DestroyAction, isOptional } from '../model/plan.ts';
import { ActionRetry, unavailableRetryMs } from '../model/retry-schedule.ts';
import { resolveSecrets } from '../secrets/resolve-secrets.ts';
import type { WorkerContainer } from './container.ts';
import type { ContainerCaller } from './container-call.ts';
import type { WorkerContext } from './context.ts';
import { FreezerResync } from './freezer-resync.ts';
import type { RecordChange } from './record-store.ts';
import { WarmUpAnswer } from './warm-up-answer.ts';

const inspectMs = 5_000;
const transitionMs = 15_000;
export const ensureMs = 300_000;
/** Milliseconds that taking a container away may take beside its grace period. */
const destroyMs = 60_000;
/** Milliseconds for which a container may fail to be removed, beside its grace period, until it is set aside. */
const setAsideMs = 120_000;
/** Milliseconds that a start may take with the longest pull. Each of its steps has a deadline of its own. */
const startMs = 65 * 60_000;
/** Milliseconds for which a process that was started, and does not listen yet, counts as a start. */
const listenInGateMs = 2_000;
/** Milliseconds after which a pause or a removal waits for something else than for this machine. */
const longestInGateMs = 2_000;
/** Milliseconds that a wake takes until it is shown. */
const showResumeMs = 100;
/** Resumes that fail in a row until the container is made anew. */
const maxResumes = 5;
const lastOutputBytes = 2 * 1024;

/** What a lane asks of its worker, and tells it. */
export interface ActionRunnerHost {
  readonly caller: ContainerCaller;
  desired(): DesiredWorker;
  stopping(): boolean;
  /** Whether the worker is to go for good. */
  ending(): boolean;
  /** Whether a call waits for what is being made in that lane. */
  urgent(lane: ActionRunner): boolean;
  /** Whether calls go to the container of that lane. */
  serves(lane: ActionRunner): boolean;
  /** Whether a call is in the container of that lane: then it is not settled. */
  occupied(lane: ActionRunner): boolean;
  /** Resolves when what was saved last is on disk, or cannot be written. */
  saved(): Promise<void>;
  /** What to do next with the lane's container; undefined for nothing. */
  next(lane: ActionRunner): Action | undefined;
  /** There is nothing to do now. */
  idle(lane: ActionRunner): void;
  /** An action is over, and the next one not yet decided. */
  acted(lane: ActionRunner): void;
  /** Its container is known anew. */
  observed(lane: ActionRunner): void;
  /** Its container takes calls again. */
  ready(lane: ActionRunner): void;
  /** Its container was thawed just now. */
  woken(): void;
  /** The call that an earlier run of the agent has left in its container is over. */
  released(lane: ActionRunner): void;
  /** It is being started again after an end that nobody asked for. */
  restarted(lane: ActionRunner): void;
  /** Whether an earlier run of the agent has counted the end of a process at that time. */
  wasCounted(lane: ActionRunner, finishedAt: Date | undefined): boolean;
  /** Its process ended by itself; whether that is to be made good for. */
  terminated(lane: ActionRunner, termination: Termination): boolean;
  /** It cannot be removed: the worker is to go on without it. */
  unremovable(lane: ActionRunner, why: string): void;
  /** A start failed, and may have to wait now. */
  putOff(lane: ActionRunner): void;
  stamp(): string;
  publish(): void;
  save(change?: RecordChange): void;
}

/** Acts on one container, one action after the other. What is to be done is decided by the worker. */
export class ActionRunner {
  readonly container: WorkerContainer;
  readonly setbacks: CrashBackoff;
  readonly retry: ActionRetry;
  readonly #context: WorkerContext;
  readonly #host: ActionRunnerHost;
  readonly #logger: Logger;
  readonly #settling: FreezerResync;
  #acting: Action | undefined;
  #step: EnsureStep | undefined;
  #detail: string | undefined;
  #abort: AbortController | undefined;
  /** The gate that has not let it through yet. */
  #waitsAt: FairGate | undefined;
  #loop: Promise<void> = Promise.resolve();
  /** Counts actions begun, to tell that a look taken meanwhile is out of date. */
  #turn = 0;
  /** How the process ended is being read, to be counted. */
  #counting: Promise<void> | undefined;
  #verifying = false;
  #verifyAgain = false;
  #failedResumes = 0;
  /** Since when it is being removed in vain, in monotonic milliseconds. */
  #endingSince: number | undefined;
  #leftCallWatch: LeftCallWatch | undefined;
  /** Whether it has been told that the runtime does not answer; until it does. */
  #outageTold = false;

  constructor(container: WorkerContainer, context: WorkerContext, host: ActionRunnerHost, logger: Logger) {
    this.container = container;
    this.setbacks = new CrashBackoff(context.clock);
    this.retry = new ActionRetry(context.clock);
    this.#context = context;
    this.#host = host;
    this.#logger = logger;
    this.#settling = this.#createSettling();
  }

  #createSettling(): FreezerResync {
    const { runtime, clock } = this.#context;
    return new FreezerResync({
      containerId: this.container.id,
      runtime,
      clock,
      logger: this.#logger,
      isAsleep: () => !['Running', 'Unknown'].includes(this.container.state.kind),
      isIdle: () =>
        this.#acting === undefined &&
        !this.#host.stopping() &&
        this.container.state.kind === 'Running' &&
        !this.#host.occupied(this) &&
        !this.#host.urgent(this),
      runs: () => runtime.kernelState(this.container.id) === 'Running',
      turned: () => {
        this.#turn += 1;
      },
      ended: (runs) => {
        if (!runs) {
          this.container.known = false;
        }
        // Who interrupted it is let in now that nothing is settling any more.
        this.#host.acted(this);
        this.kick();
      },
    });
  }

  /** Whether it is being settled, and a call has to interrupt that by a {@link ActionRunner.kick} first. */
  get settling(): boolean {
    return this.#settling.active;
  }

  /** What is being done. Set before anything is awaited: from there on no call gets into the container. */
  get acting(): Action | undefined {
    return this.#acting;
  }

  /** How far an `Ensure` is. */
  get step(): EnsureStep | undefined {
    return this.#step;
  }

  get turn(): number {
    return this.#turn;
  }

  /** More of how far it is, for people. */
  get detail(): string | undefined {
    return this.#detail;
  }

  /** Ends what is being done; the runtime takes back what it has made. */
  abort(): void {
    this.#abort?.abort();
  }

  /** An earlier run of the agent has left a call in the container: until that is over nothing is done to it. */
  occupy(call: LeftCall): void {
    const { clock, runtime } = this.#context;
    const { container } = this;
    container.leftCall = call;
    container.mark.keep(container.id, call);
    this.#logger.info({ requestId: call.requestId, until: call.until }, 'a call was left in a container');
    this.#leftCallWatch = new LeftCallWatch({
      containerId: container.id,
      call,
      runtime,
      clock,
      logger: this.#logger,
      onEnd: (seen) => {
        if (container.leftCall !== call || this.#host.stopping()) {
          return;
        }
        container.leftCall = undefined;
        if (seen) {
          container.mark.remove(container.id);
        } else {
          container.unusable = 'a call was in it when an agent ended, and was not seen to end';
        }
        this.#logger.info({ requestId: call.requestId, seen }, 'a call that was left in a container is over');
        this.#host.released(this);
      },
    });
  }

  /** Nothing is to be done here any more, nor is anything being done. */
  end(): void {
    this.#settling.stop().catch(() => undefined);
    this.#leftCallWatch?.stop().catch(() => undefined);
  }

  /** Resolves when nothing is being done any more. */
  async ended(): Promise<void> {
    await this.#settling.stop();
    await this.#leftCallWatch?.stop();
    await this.#loop;
  }

  /** Decides anew, unless something is being done: then that comes first. */
  kick(): void {
    if (this.#host.stopping() || this.#acting !== undefined) {
      this.#reconsider();
      return;
    }
    if (this.#settling.active) {
      this.#settling.interrupt();
      return;
    }
    const action = this.#host.next(this);
    if (action === undefined) {
      this.#host.idle(this);
      return;
    }
    this.#acting = action;
    this.#loop = this.#run(action);
  }

  /** A hint that something may have happened to the container. */
  hint(event: RuntimeEvent['kind']): void {
    if (this.#acting === undefined && !this.container.expects(event)) {
      this.verify();
    }
  }

  /** The runtime was asked, and told this. */
  observe(info: WorkerInfo | undefined): void {
    if (info?.task.kind === 'Unanswering') {
      this.#unanswered(info.task.kernel);
    } else {
      this.#answered(info);
    }
    this.#take(info);
  }

  #take(info: WorkerInfo | undefined): void {
    this.container.observe(info);
    if (info?.task.kind === 'Running' && info.task.unsettled === true) {
      this.#settling.found();
    }
    this.#host.observed(this);
  }

  /** Whether a look at the whole node says something of the container that is not known. */
  isNews(info: WorkerInfo | undefined): boolean {
    const { container } = this;
    const isSame = container.known && !container.unanswering && isDeepStrictEqual(container.info, info);
    if (isSame) {
      this.#answered(info);
    }
    return !isSame;
  }

  /** Reads the container beside everything else. A look that fails, or that something overtook, says nothing. */
  verify(): void {
    if (this.#verifying) {
      this.#verifyAgain = true;
      return;
    }
    this.#verifying = true;
    const turn = this.#turn;
    this.#context.runtime
      .inspect(this.container.id, { deadlineMs: inspectMs })
      .then(async (info) => {
        this.#context.onRuntime(true);
        if (turn === this.#turn && !this.#host.stopping()) {
          await this.#countExit(info);
          if (turn === this.#turn) {
            this.observe(info);
            this.#host.publish();
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
          if (!this.#host.stopping() && this.#acting === undefined && turn === this.#turn) {
            this.verify();
          }
        }, unavailableRetryMs);
      })
      .finally(() => {
        this.#verifying = false;
        if (this.#verifyAgain && !this.#host.stopping()) {
          this.#verifyAgain = false;
          this.verify();
        }
        this.kick();
      });
  }

  /** Why a connection broke in the middle of a call. The runtime may hear of an exit a moment after we do. */
  async diagnose(): Promise<UnknownReason> {
    for (const waitMs of [0, 50, 150]) {
      if (this.container.hasEnded) {
        return 'WorkerExited';
      }
      if (this.#acting?.kind === 'Destroy' || this.#host.ending()) {
        return 'Restarted';
      }
      if (this.#host.stopping()) {
        return 'AgentStopped';
      }
      await sleep(this.#context.clock, waitMs);
      const turn = this.#turn;
      try {
        const info = await this.#context.runtime.inspect(this.container.id, { deadlineMs: 1_000 });
        if (info?.task.kind === 'Unanswering' && info.task.kernel === 'Gone') {
          return 'WorkerExited';
        }
        if (turn === this.#turn && (info === undefined || info.task.kind === 'Stopped')) {
          await this.#countExit(info);
          this.observe(info);
          return 'WorkerExited';
        }
      } catch (error) {
        this.#logger.debug({ err: error }, 'cannot look at a container');
      }
    }
    return 'ConnectionLost';
  }

  async #run(first: Action): Promise<void> {
    let action: Action | undefined = first;
    while (action !== undefined) {
      this.#acting = action;
      this.#turn += 1;
      const begun = this.#context.clock.monotonic();
      let outcome = 'ok';
      try {
        const done = this.#perform(action);
        this.#show(action);
        await done;
        this.#succeeded(action);
      } catch (error) {
        outcome = EsbError.from(error).code;
        this.#failed(action, error);
      }
      this.#context.onAction(action.kind, this.#context.clock.monotonic() - begun, outcome);
      this.#acting = undefined;
      this.#step = undefined;
      this.#detail = undefined;
      this.#abort = undefined;
      this.#host.acted(this);
      action = this.#host.next(this);
    }
    this.#host.publish();
    this.#host.idle(this);
  }

  /** Shows what is being done. A wake is over sooner than it is shown, and a call waits for it: only one that takes long is. */
  #show(action: Action): void {
    if (action.kind !== 'Resume') {
      this.#host.publish();
      return;
    }
    this.#context.clock.setTimer(() => {
      if (this.#acting === action) {
        this.#host.publish();
      }
    }, showResumeMs);
  }

  async #perform(action: Action): Promise<void> {
    const { runtime, clock } = this.#context;
    const { container } = this;
    const abort = new AbortController();
    this.#abort = abort;
    const options = { signal: abort.signal, deadlineMs: transitionMs };
    switch (action.kind) {
      case 'Inspect':
        await this.#inspect(abort.signal);
        return;
      case 'Ensure':
        this.#context.prepared.release(container.id);
        await this.#ensure(abort.signal);
        return;
      case 'WarmUp':
        await this.#warmUp();
        return;
      case 'Pause':
        await this.#pass(this.#context.gates.pauses, abort.signal, (leave) => {
          clock.setTimer(leave, longestInGateMs);
          return runtime.pause(container.id, options);
        });
        container.setTask('Paused');
        container.pausedAt = new Date(clock.now()).toISOString();
        container.mark.release(container.id);
        this.#host.save('Rest');
        return;
      case 'Resume':
        await runtime.resume(container.id, options);
        container.setTask('Running');
        this.#settling.thawed();
        container.pausedAt = undefined;
        this.#host.woken();
        this.#host.ready(this);
        return;
      case 'Destroy':
        await this.#pass(this.#context.gates.removals, abort.signal, (leave) => {
          clock.setTimer(leave, longestInGateMs);
          return this.#destroy(action, abort.signal);
        });
        return;
      default:
        unreachable(action);
    }
  }

  async #inspect(signal: AbortSignal): Promise<void> {
    const info = await this.#context.runtime.inspect(this.container.id, { signal, deadlineMs: inspectMs });
    await this.#countExit(info);
    this.observe(info);
    if (!this.container.known) {
      throw new EsbError('its shim does not answer', { code: 'TaskUnanswering' });
    }
  }

  async #ensure(signal: AbortSignal): Promise<void> {
    const { clock, gates, runtime, secrets } = this.#context;
    const { container } = this;
    const desired = this.#host.desired();
    // Found running, and made by an agent that did not get to see it listen.
    const found = container.state.kind === 'Running';
    container.traces = true;
    if (this.setbacks.restartPending) {
      this.setbacks.restartPending = false;
      this.#host.restarted(this);
    }
    const shape = await withDeadline('reading secrets', transitionMs, signal, (inner) =>
      resolveSecrets(desired, secrets, { signal: inner, deadlineMs: transitionMs }),
    );
    const turn = this.#turnOf(desired.identity.uid);
    const info = await this.#pass(gates.starts, signal, (leave) =>
      runtime.ensure(
        {
          containerId: container.id,
          identity: desired.identity,
          epoch: desired.epoch,
          shapeHash: container.shapeHash,
          shape,
          onProgress: (step, detail) => {
            if (step === 'Pulling') {
              leave();
              turn.wait();
            } else if (step === 'Starting') {
              // From here on the process is waited for, which may never listen.
              clock.setTimer(() => {
                leave();
                turn.wait();
              }, listenInGateMs);
            } else {
              turn.goOn();
            }
            this.#step = step;
            this.#detail = detail;
            this.#host.publish();
          },
        },
        { signal, deadlineMs: startMs },
      ),
    ).finally(() => turn.end());
    if (found) {
      container.ready = true;
    } else {
      container.started();
    }
    this.setbacks.started();
    // That one was made does not say that its shim answers.
    this.#take(info);
    this.#host.ready(this);
    this.#host.save();
  }

  /** The turn of a worker that is being replaced, for as long as one of its containers is made. */
  #turnOf(uid: string): { wait(): void; goOn(): void; end(): void } {
    const { replacements } = this.#context;
    let making = true;
    return {
      wait: () => {
        if (making) {
          replacements.wait(uid);
        }
      },
      goOn: () => replacements.goOn(uid),
      end: () => {
        making = false;
        replacements.goOn(uid);
      },
    };
  }

  /** Something has changed while an action waits to be begun. */
  #reconsider(): void {
    const acting = this.#acting;
    if (this.#waitsAt === undefined || acting === undefined) {
      return;
    }
    const keepsFromCall = acting.kind === 'Pause' || (acting.kind === 'Destroy' && acting.why === 'Unwanted');
    if (keepsFromCall && this.#host.urgent(this)) {
      this.abort();
    } else {
      this.#waitsAt.reconsider();
    }
  }

  /** Gives up a pause that has not begun. */
  abortWaitingPause(): void {
    if (this.#waitsAt !== undefined && this.#acting?.kind === 'Pause') {
      this.abort();
    }
  }

  /** Does something when the gate lets it through. A call that comes meanwhile makes it urgent. */
  async #pass<T>(gate: FairGate, signal: AbortSignal, work: (leave: () => void) => Promise<T>): Promise<T> {
    const { namespace } = this.#host.desired().identity;
    this.#waitsAt = gate;
    return await gate.pass({ namespace, urgent: () => this.#host.urgent(this) }, signal, (leave) => {
      this.#waitsAt = undefined;
      return work(leave);
    });
  }

  async #destroy(action: DestroyAction, signal: AbortSignal): Promise<void> {
    const { container } = this;
    const { why } = action;
    const graceSeconds = why === 'Unusable' ? 0 : this.#host.desired().terminationGraceSeconds;
    const reason = container.unusable;
    const serves = container.state.kind === 'Running' || container.state.kind === 'Paused';
    if (serves && reason === undefined && isOptional(action) && !this.#host.ending()) {
      // A runtime that answers nobody removes nothing, and calls need what runs meanwhile.
      await this.#context.runtime.inspect(container.id, { signal, deadlineMs: inspectMs });
    }
    // From here on there is no way back, whatever is wanted by the time that it is gone.
    container.unusable ??= 'it is being removed';
    if (why === 'Replaced') {
      // An agent that dies from here on must know which one serves: this one is no longer whole.
      await this.#host.saved();
    }
    this.#logger.info({ why, reason }, 'removing a container');
    this.#context.prepared.release(container.id);
    await this.#context.runtime.destroy(container.id, {
      signal,
      graceSeconds,
      deadlineMs: graceSeconds * 1_000 + destroyMs,
      // Why it had to go may be in what it wrote last.
      keepLog: !this.#host.ending(),
    });
    container.removed();
    this.#context.answers.forget(container.id);
    this.#endingSince = undefined;
    if (why === 'Unwanted' || why === 'Replaced') {
      this.setbacks.restartPending = false;
    }
    this.#host.save();
  }

  /** One call that nobody waits for, so that the runtime and the function are loaded. It has to succeed. */
  async #warmUp(): Promise<void> {
    const nothing = (): void => undefined;
    const { container } = this;
    const desired = this.#host.desired();
    const heard = new WarmUpAnswer();
    const answer = await this.#host.caller.call(container, {
      request: {
        payload: Buffer.from(desired.warmUpPayload ?? '{}'),
        requestId: `warm-up-${this.#context.clock.now().toString(36)}`,
        clientContext: '',
      },
      // One that serves nobody yet is made anew by the next run of the agent anyway.
      marked: this.#host.serves(this),
      onSending: nothing,
      onHead: nothing,
      onChunk: (chunk) => heard.take(chunk),
    });
    switch (answer.kind) {
      case 'Answered':
        container.mark.end(container.id, this.#host.stamp());
        this.#judgeWarmUp(heard.failure(answer.status, container.make.timeoutSeconds));
        return;
      case 'NotSent':
        throw new EsbError(`the warm-up call could not be sent: ${answer.message}`, {
          code: answer.own === true ? 'Unavailable' : 'NotListening',
          retryable: true,
        });
      case 'Unknown':
        if (this.#host.stopping()) {
          throw new AbortedError('the warm-up call');
        }
        container.unusable = 'its warm-up call was lost';
        throw new EsbError(`the warm-up call was lost: ${answer.message}`, { code: 'WarmUpFailed' });
      case 'CutOff':
        container.unusable = 'the answer to its warm-up call was larger than a function may give';
        throw new EsbError('the warm-up call was answered with more than 6 MB', { code: 'WarmUpFailed' });
      case 'TimedOut':
        container.unusable = 'its warm-up call was not answered';
        throw new EsbError('the warm-up call was not answered in time', { code: 'WarmUpFailed' });
      default:
        unreachable(answer);
    }
  }

  /** One that failed is made again. Calls are let in meanwhile: the container runs. */
  #judgeWarmUp(failure: string | undefined): void {
    this.container.warm = failure === undefined;
    this.#host.save();
    if (failure !== undefined) {
      throw new EsbError(`the warm-up call failed: ${failure}`, {
        code: readyReasons.warmUpFailed,
        retryable: true,
      });
    }
  }

  #succeeded(action: Action): void {
    if (action.kind !== 'Resume') {
      // A thaw below the runtime says nothing of it; whether it is settled is another matter.
      this.#context.onRuntime(true);
      this.#outageTold = false;
    }
    if (action.kind === 'Pause') {
      this.#context.answers.answered(this.container.id);
      this.container.answered();
    }
    if (action.kind !== 'Inspect') {
      this.retry.succeeded();
      if (action.kind === 'Resume') {
        this.#failedResumes = 0;
      }
      if (action.kind !== 'Destroy') {
        this.setbacks.failure = undefined;
      }
    }
  }

  #failed(action: Action, thrown: unknown): void {
    const error = EsbError.from(thrown);
    if (this.#waitsAt !== undefined) {
      // Nothing was begun, and what is known of the container stands.
      this.#waitsAt = undefined;
      return;
    }
    const wasRunning = this.container.state.kind === 'Running';
    this.#doubt(action);
    if (error.code === 'Aborted') {
      return;
    }
    if (error.code === 'TaskUnanswering') {
      this.#unanswered(this.#context.runtime.kernelState(this.container.id));
    }
    if (error.code === 'DeadlineExceeded') {
      // Whether it is the runtime as a whole is for a look at all of the node to say.
      this.#context.onDoubt();
    }
    const down = error.code === 'RuntimeUnavailable';
    if (down) {
      this.#context.onRuntime(false);
    }
    const delay = this.retry.failed(down);
    // Tried every second by each worker of the node: once is enough to say that the runtime is away.
    const level = down && this.#outageTold ? 'debug' : 'warn';
    this.#outageTold ||= down;
    this.#logger[level]({ action: action.kind, code: error.code, err: thrown }, 'an action failed');
    switch (action.kind) {
      case 'Inspect':
        this.retry.putOff('Inspect', delay);
        this.setbacks.failure ??= failureOf(error, 0);
        return;
      case 'Ensure':
        if (wasRunning && error.code === 'NotListening') {
          this.container.unusable = 'it does not listen';
        }
        this.#startFailed(error, down || error.code === 'TaskUnanswering' ? delay : undefined);
        return;
      case 'WarmUp':
        if (error.code === readyReasons.warmUpFailed && this.container.unusable === undefined) {
          this.setbacks.startFailed(error);
        } else {
          this.#startFailed(error, undefined);
        }
        this.retry.putOff('WarmUp', this.setbacks.startDelayMs);
        return;
      case 'Resume':
        this.#failedResumes += down || isShortage(thrown) ? 0 : 1;
        if (this.#failedResumes >= maxResumes) {
          this.#failedResumes = 0;
          this.container.unusable = 'it cannot be resumed';
        }
        this.retry.putOff('Resume', this.retry.failures === 1 ? 0 : delay);
        return;
      case 'Destroy':
        this.#endFailed(error, delay);
        return;
      case 'Pause':
        this.retry.putOff(action.kind, delay);
        this.setbacks.failure = failureOf(error, 0);
        return;
      default:
        unreachable(action);
    }
  }

  #endFailed(error: EsbError, delayMs: number): void {
    this.retry.putOff('Destroy', delayMs);
    this.setbacks.failure = failureOf(error, 0);
    if (error.code === 'RuntimeUnavailable' || this.#context.runtimeDown()) {
      // Nothing can be removed at all.
      this.#endingSince = undefined;
      return;
    }
    const now = this.#context.clock.monotonic();
    this.#endingSince ??= now;
    if (now - this.#endingSince >= setAsideMs) {
      this.#host.unremovable(this, `${error.code}: ${error.message}`);
    }
  }

  /** What is known of the container after a failure. */
  #doubt(action: Action): void {
    const { container } = this;
    switch (action.kind) {
      case 'Inspect':
      case 'Pause':
      case 'Resume':
        // Neither a failed look nor a failed switch ends a process: what the kernel says is as good as a look.
        container.known = container.goByKernel(this.#context.runtime.kernelState(container.id));
        return;
      case 'Destroy':
        // One that may be called still has not been touched.
        container.known =
          container.unusable === undefined &&
          container.goByKernel(this.#context.runtime.kernelState(container.id));
        return;
      case 'Ensure':
      case 'WarmUp':
        container.known = false;
        return;
      default:
        unreachable(action);
    }
  }

  /** The runtime told of it. What has no task has no shim that could answer. */
  #answered(info: WorkerInfo | undefined): void {
    const { answers } = this.#context;
    if (info === undefined || info.task.kind === 'Missing') {
      answers.forget(this.container.id);
    } else {
      answers.answered(this.container.id);
    }
  }

  /** Its shim did not answer, though the runtime did. */
  #unanswered(kernel: KernelState): void {
    const { container } = this;
    const { answers } = this.#context;
    if (!container.unanswering) {
      this.#logger.warn({ kernel }, 'the shim of a container does not answer');
    }
    container.unanswering = true;
    if (answers.unanswered(container.id, kernel === 'Gone') && !container.lost) {
      container.giveUp();
      this.#logger.warn({ kernel }, 'a container is given up: its shim does not answer, and others do');
    }
  }

  /** @param retryMs when it is not the worker's fault and is tried again that soon */
  #startFailed(error: EsbError, retryMs: number | undefined): void {
    if (retryMs !== undefined) {
      this.retry.putOff('Ensure', retryMs);
      this.setbacks.failure = failureOf(error, 0);
      return;
    }
    if (error instanceof WorkerExitError) {
      this.container.exitCounted = true;
      const { exitCode, oomKilled, finishedAt, output } = error.exit;
      this.#exited(terminationOf(exitCode, oomKilled, finishedAt, output));
    } else {
      this.setbacks.startFailed(error);
    }
    if (this.setbacks.remainingMs > 0) {
      this.#host.putOff(this);
    }
    this.#host.save();
  }

  /**
   * Counts the end of a process that nobody asked for, once. Looks that find it in the same moment wait for the one that
   * counts: an end acted upon before it is counted would be made good for at once, and not as a restart.
   */
  async #countExit(info: WorkerInfo | undefined): Promise<void> {
    if (info?.task.kind !== 'Stopped' || this.container.exitCounted) {
      return;
    }
    this.#counting ??= this.#readExit(info.task).finally(() => {
      this.#counting = undefined;
    });
    await this.#counting;
  }

  async #readExit(task: Extract<WorkerInfo['task'], { readonly kind: 'Stopped' }>): Promise<void> {
    const { exitCode, oomKilled, exitedAt } = task;
    if (this.#host.wasCounted(this, exitedAt)) {
      this.container.exitCounted = true;
      this.setbacks.restartPending = true;
      return;
    }
    const turn = this.#turn;
    let output = '';
    try {
      output = (await this.#context.runtime.readLog(this.container.id, lastOutputBytes)).toString('utf8');
    } catch (error) {
      this.#logger.debug({ err: error }, 'cannot read the last output of a worker');
    }
    // What overtook the reading has counted it, or found a container anew.
    if (this.container.exitCounted || (turn !== this.#turn && this.#acting?.kind !== 'Inspect')) {
      return;
    }
    this.container.exitCounted = true;
    const finishedAt = exitedAt ?? new Date(this.#context.clock.now());
    this.#exited(terminationOf(exitCode, oomKilled, finishedAt, output));
    this.#host.save();
  }

  #exited(termination: Termination): void {
    if (!this.#host.terminated(this, termination)) {
      return;
    }
    this.setbacks.exited(termination, this.#context.clock.monotonic() - this.container.startedMonotonic);
    this.#logger.warn(
      { exitCode: termination.exitCode, reason: termination.reason },
      'a worker ended by itself',
    );
  }
}
