import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { mayWake } from '../model/goal.ts';
import type { Rest } from '../model/idle-policy.ts';
import type { Closing } from '../model/invocation.ts';
import type { WorkerView } from '../model/worker-state.ts';
import { ensureMs } from './action-runner.ts';
import type { ViewWaiters } from './view-waiters.ts';

/** What hints ask of their worker, and make it do. */
export interface CommandsHost {
  readonly waiters: ViewWaiters;
  readonly view: WorkerView;
  desired(): DesiredWorker;
  rest(): Rest;
  stopping(): boolean;
  ending(): boolean;
  /** Whether calls are in it or waiting for it. */
  demand(): boolean;
  /** Whether nothing is there that could be resumed. */
  isMissing(): boolean;
  /** Why it cannot be started now; undefined when it can. */
  refusal(): Closing | undefined;
  /** It was active just now. */
  wake(): void;
  /** As if its idle policy had brought it there. */
  assume(rest: Rest): void;
}

/** What an operator may ask of a worker within what its desired state allows. */
export class WorkerCommands {
  readonly #host: CommandsHost;

  constructor(host: CommandsHost) {
    this.#host = host;
  }

  async ensure(epoch: number, options: CallOptions): Promise<WorkerView> {
    this.#check(epoch);
    this.#checkMayWake();
    const refusal = this.#host.refusal();
    if (refusal !== undefined) {
      throw new EsbError(refusal[1], { code: refusal[0], retryable: true });
    }
    this.#host.wake();
    return await this.#until('start', options, (view) => view.phase === 'Running');
  }

  async resume(epoch: number, options: CallOptions): Promise<WorkerView> {
    this.#check(epoch);
    this.#checkMayWake();
    if (this.#host.isMissing()) {
      throw new EsbError('there is nothing to resume', { code: 'FailedPrecondition' });
    }
    return await this.ensure(epoch, options);
  }

  async pause(epoch: number, options: CallOptions): Promise<WorkerView> {
    this.#check(epoch);
    const { restingState, pauseAfterSeconds, removeAfterSeconds } = this.#host.desired();
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
    this.#check(epoch);
    const { restingState, removeAfterSeconds } = this.#host.desired();
    if (restingState !== 'Absent' && removeAfterSeconds === undefined) {
      throw new EsbError(
        `it rests ${restingState}, and its idle policy does not remove it: write desiredState Absent`,
        { code: 'FailedPrecondition' },
      );
    }
    return await this.#lower('Absent', options);
  }

  #check(epoch: number): void {
    if (this.#host.stopping()) {
      throw new EsbError('the agent is stopping', { code: 'Unavailable' });
    }
    if (this.#host.ending()) {
      throw new EsbError('the worker is being removed', { code: 'NotFound' });
    }
    const assigned = this.#host.desired().epoch;
    if (epoch !== assigned) {
      throw new EsbError(`the request has epoch ${epoch}, the assignment ${assigned}`, { code: 'Fenced' });
    }
  }

  #checkMayWake(): void {
    if (!mayWake(this.#host.desired().wakePolicy, this.#host.rest())) {
      throw new EsbError('the worker is paused by its owner', { code: 'FailedPrecondition' });
    }
  }

  async #lower(state: 'Paused' | 'Absent', options: CallOptions): Promise<WorkerView> {
    if (this.#host.demand()) {
      throw new EsbError('calls are in it or waiting for it', { code: 'FailedPrecondition' });
    }
    this.#host.assume(state);
    return await this.#until(state, options, (view) => view.phase === state || this.#host.rest() !== state);
  }

  async #until(
    what: string,
    options: CallOptions,
    check: (view: WorkerView) => boolean,
  ): Promise<WorkerView> {
    const { view, waiters } = this.#host;
    if (check(view)) {
      return view;
    }
    return await waiters.until(what, { ...options, deadlineMs: options.deadlineMs ?? ensureMs }, check);
  }
}
