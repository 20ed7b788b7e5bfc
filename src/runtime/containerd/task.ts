import type { Clock } from '../../common/clock.ts';
import { AbortedError, type CallOptions, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf, undefinedIf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { TaskProcess } from '../../containerd/task-service.ts';
import type { FoundTask, KernelState } from '../contract/runtime.ts';
import type { Freezer } from './freezer.ts';

export interface TaskControlOptions {
  readonly client: ContainerdClient;
  readonly freezer: Freezer;
  readonly clock: Clock;
  readonly logger: Logger;
}

const SIGTERM = 15;
const SIGKILL = 9;
const CALL_DEADLINE_MS = 10_000;
/** containerd asks one shim after the other and gives each 2 s. Five that hang are not waited for. */
const LIST_DEADLINE_MS = 10_000;
/** For the look before a pause. containerd itself gives a shim 2 s to tell its state. */
const LOOK_DEADLINE_MS = 3_000;
/** From SIGKILL to the end of the process; longer only for a process stuck in the kernel. */
const KILL_DEADLINE_MS = 15_000;
/** A shim kills, unmounts and exits in well under a second; the machine may be busy. */
const DELETE_DEADLINE_MS = 30_000;
/** Time without a state after which a shim counts as broken. */
const UNKNOWN_DEADLINE_MS = 1000;
const UNKNOWN_EVERY_MS = 100;
const SETTLE_DEADLINE_MS = 3000;
const SETTLE_EVERY_MS = 5;
const PULSE_DEADLINE_MS = 2_000;
/** A name that no worker has. */
const UNUSED_NAME = 'esb-pulse';

/**
 * Freezes, thaws and ends tasks. containerd answers a wrong state only with a text, so after every failure the state is
 * read and decides. The kernel decides whether a task is frozen, since a wake thaws below containerd
 * (`docs/adr/0008-thaw-below-containerd.md`).
 */
export class TaskControl {
  readonly #options: TaskControlOptions;
  #pulse: Promise<boolean> | undefined;

  constructor(options: TaskControlOptions) {
    this.#options = options;
  }

  /**
   * The present task, or undefined. `UNKNOWN` only when that lasts for more than a moment.
   *
   * @throws {EsbError} `TaskUnanswering` when its shim does not answer, `RuntimeUnavailable` when containerd does not
   */
  async find(containerId: string, options: CallOptions = {}): Promise<FoundTask | undefined> {
    const { client, clock } = this.#options;
    const call = { deadlineMs: CALL_DEADLINE_MS, ...options };
    try {
      const end = clock.monotonic() + UNKNOWN_DEADLINE_MS;
      for (;;) {
        const task = await client.tasks.get(containerId, call);
        if (task.status !== 'UNKNOWN' || clock.monotonic() > end) {
          return this.see(task);
        }
        await sleep(clock, UNKNOWN_EVERY_MS, options.signal);
      }
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return undefined;
      }
      throw await this.#blame(containerId, error);
    }
  }

  /** All tasks, by containerd. Undefined where shims that hang take containerd too long. */
  async list(signal?: AbortSignal): Promise<readonly TaskProcess[] | undefined> {
    const listed = this.#options.client.tasks.list({ signal, deadlineMs: LIST_DEADLINE_MS });
    return await undefinedIf(listed, (error) => hasCode(error, 'DeadlineExceeded'));
  }

  kernelState(containerId: string): KernelState {
    return this.#options.freezer.kernelState(containerId);
  }

  /** A task by containerd, corrected by the kernel. Synchronous: a few microseconds. */
  see(task: TaskProcess): FoundTask {
    const told = task.status;
    if (told !== 'RUNNING' && told !== 'PAUSED') {
      return { ...task, told };
    }
    switch (this.#options.freezer.state(task.containerId)) {
      case 'Thawed':
        return { ...task, told, status: 'RUNNING' };
      case 'Frozen':
        return { ...task, told, status: 'PAUSED' };
      case 'Missing':
        return { ...task, told };
    }
  }

  /**
   * Freezes a task. A task that containerd calls paused, since it was thawed below containerd, is frozen below
   * containerd. A failed pause is taken back on both levels: a request to freeze outlives the call that made it.
   *
   * @param signal fires when the last caller has left: the pause does not begin then, since a call may come at any time
   * @throws {EsbError} `NotFound` when there is no task; otherwise the error of the pause
   */
  async pause(containerId: string, signal?: AbortSignal): Promise<void> {
    const { client, freezer } = this.#options;
    // A short look, so that the caller still waits at the end of the pause.
    const found = await this.find(containerId, { deadlineMs: LOOK_DEADLINE_MS });
    if (signal?.aborted === true) {
      throw new AbortedError(`pausing ${containerId}`, signal.reason);
    }
    if (found?.told === 'PAUSED') {
      // An agent that died may have begun the freeze a moment ago.
      if (freezer.state(containerId) !== 'Missing') {
        await freezer.freeze(containerId);
      }
      return;
    }
    try {
      await client.tasks.pause(containerId, { deadlineMs: CALL_DEADLINE_MS });
    } catch (error) {
      const task = await this.#settled(containerId, error);
      if (task?.told === 'PAUSED' && task.status === 'PAUSED') {
        return;
      }
      if (task === undefined || !isAlive(task)) {
        throw notRunning(containerId, task, error);
      }
      this.#options.logger.warn({ containerId, err: error }, 'a pause failed and is taken back');
      await this.#thaw(containerId);
      throw error;
    }
  }

  isFrozen(containerId: string): boolean {
    return this.#options.freezer.state(containerId) === 'Frozen';
  }

  /**
   * Thaws the task's own cgroup below containerd, which calls the task paused until {@link TaskControl.settle} or the
   * next pause. Synchronous: a call to a frozen worker waits for nothing else.
   *
   * @returns whether the task was frozen and is thawed; otherwise {@link TaskControl.resume} finds the reason
   */
  thawDirectly(containerId: string): boolean {
    return this.#options.freezer.thaw(containerId) === 'Thawed';
  }

  /**
   * Thaws a task, by way of containerd where the direct way does not work.
   *
   * @throws {EsbError} `NotFound` when there is no task; otherwise the error of the resume
   */
  async resume(containerId: string): Promise<void> {
    const { client, freezer } = this.#options;
    if (this.thawDirectly(containerId)) {
      return;
    }
    try {
      await client.tasks.resume(containerId, { deadlineMs: CALL_DEADLINE_MS });
    } catch (error) {
      const task = await this.#settled(containerId, error);
      if (task?.status !== 'RUNNING') {
        throw task?.status === 'PAUSED' ? error : notRunning(containerId, task, error);
      }
    }
    // containerd calls the task running; the kernel must agree.
    if (freezer.state(containerId) === 'Frozen') {
      await this.#thaw(containerId);
    }
  }

  /**
   * Tells containerd that a task which was thawed below it runs. containerd asks runc, and runc resumes only frozen
   * tasks: the task is frozen for the few milliseconds of a resume, or until `signal` fires. `signal` thaws in the same
   * step, however long containerd takes.
   *
   * @returns whether containerd's state is right now. The task runs in either case.
   * @throws {EsbError} `TaskStuck` when the task stays frozen
   */
  async settle(containerId: string, signal: AbortSignal): Promise<boolean> {
    const { client, freezer, logger } = this.#options;
    let found: FoundTask | undefined;
    try {
      found = await this.find(containerId, { deadlineMs: SETTLE_DEADLINE_MS });
    } catch (error) {
      // The kernel was not asked for anything: the task runs on.
      logger.debug({ containerId, err: error }, 'a worker could not be looked at to be settled');
      return false;
    }
    if (found === undefined || found.told !== 'PAUSED' || found.status !== 'RUNNING') {
      return true;
    }
    if (signal.aborted) {
      return false;
    }
    const thaw = (): void => void freezer.thaw(containerId);
    signal.addEventListener('abort', thaw, { once: true });
    try {
      freezer.request(containerId);
      await client.tasks.resume(containerId, { deadlineMs: SETTLE_DEADLINE_MS });
      return true;
    } catch (error) {
      logger.debug({ containerId, err: error }, 'containerd was not told that a worker runs');
      return false;
    } finally {
      signal.removeEventListener('abort', thaw);
      if (freezer.thaw(containerId) === 'StillFrozen') {
        await this.#thaw(containerId);
      }
    }
  }

  /**
   * Ends the process of a task in any state. A paused process is killed frozen and runs no more; one that never started
   * is killed as well.
   */
  async end(containerId: string, found: TaskProcess, graceMs: number): Promise<void> {
    switch (found.status) {
      case 'RUNNING':
        if (graceMs <= 0 || !(await this.#terminate(containerId, graceMs))) {
          await this.#kill(containerId);
        }
        break;
      case 'PAUSED':
      case 'PAUSING':
      case 'CREATED':
      case 'UNKNOWN':
        await this.#kill(containerId);
        break;
      case 'STOPPED':
        break;
    }
  }

  /** Removes a task whose process has ended. Missing is success. */
  async delete(containerId: string): Promise<void> {
    try {
      await this.#options.client.tasks.delete(containerId, { deadlineMs: DELETE_DEADLINE_MS });
    } catch (error) {
      if (!hasCode(error, 'NotFound')) {
        throw await this.#blame(containerId, error);
      }
    }
  }

  /** Asks the process to end. Returns whether it ended within the grace. */
  async #terminate(containerId: string, graceMs: number): Promise<boolean> {
    const exited = this.#waitForExit(containerId, graceMs);
    await this.#signal(containerId, SIGTERM);
    return await exited;
  }

  async #kill(containerId: string): Promise<void> {
    const { client, logger } = this.#options;
    const exited = this.#waitForExit(containerId, KILL_DEADLINE_MS);
    await this.#signal(containerId, SIGKILL);
    // On cgroup v1 a frozen process takes the signal only once thawed (runc issues 3134, 2105).
    await client.tasks.resume(containerId, { deadlineMs: CALL_DEADLINE_MS }).catch(() => undefined);
    this.#options.freezer.thaw(containerId);
    if (!(await exited)) {
      // containerd may miss the end of a process (its issue 11133): deleting the task shows it.
      logger.warn({ containerId }, 'a killed task does not end');
    }
  }

  async #signal(containerId: string, signal: number): Promise<void> {
    try {
      await this.#options.client.tasks.kill(containerId, signal, { deadlineMs: CALL_DEADLINE_MS });
    } catch (error) {
      // `NotFound` means that the process has ended, too.
      if (hasCode(error, 'RuntimeUnavailable') || hasCode(error, 'DeadlineExceeded')) {
        throw await this.#blame(containerId, error);
      }
      this.#options.logger.debug({ containerId, signal, err: error }, 'a signal was not delivered');
    }
  }

  /** Whether the process ended in time, or is missing. Never throws: the caller looks again. */
  async #waitForExit(containerId: string, deadlineMs: number): Promise<boolean> {
    try {
      await this.#options.client.tasks.wait(containerId, { deadlineMs });
      return true;
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return true;
      }
      this.#options.logger.debug({ containerId, why: messageOf(error) }, 'no exit was seen');
      return false;
    }
  }

  /** Takes back a freeze on both levels and checks the result. */
  async #thaw(containerId: string): Promise<void> {
    const { client, clock, freezer } = this.#options;
    await client.tasks.resume(containerId, { deadlineMs: CALL_DEADLINE_MS }).catch(() => undefined);
    freezer.thaw(containerId);
    const end = clock.monotonic() + SETTLE_DEADLINE_MS;
    while (freezer.state(containerId) === 'Frozen') {
      if (clock.monotonic() > end) {
        throw new EsbError(`${containerId} stays frozen after a pause that failed`, { code: 'TaskStuck' });
      }
      await sleep(clock, SETTLE_EVERY_MS);
    }
  }

  /** Finds the cause of a missed deadline, shim or containerd. Returns any other error unchanged. */
  async #blame(containerId: string, error: unknown): Promise<unknown> {
    if (!hasCode(error, 'DeadlineExceeded')) {
      return error;
    }
    // Callers at the same time share one question.
    this.#pulse ??= this.#answers().finally(() => {
      this.#pulse = undefined;
    });
    return (await this.#pulse)
      ? new EsbError(`the shim of ${containerId} does not answer`, { code: 'TaskUnanswering', cause: error })
      : new EsbError('containerd does not answer', { code: 'RuntimeUnavailable', cause: error });
  }

  /** Whether containerd answers for a task that does not exist, for which no shim is asked. */
  async #answers(): Promise<boolean> {
    try {
      await this.#options.client.tasks.get(UNUSED_NAME, { deadlineMs: PULSE_DEADLINE_MS });
      return true;
    } catch (error) {
      return hasCode(error, 'NotFound');
    }
  }

  /** The lasting state after a failed call. */
  async #settled(containerId: string, cause: unknown): Promise<FoundTask | undefined> {
    const { clock } = this.#options;
    if (hasCode(cause, 'RuntimeUnavailable')) {
      throw cause;
    }
    const end = clock.monotonic() + SETTLE_DEADLINE_MS;
    for (;;) {
      const task = await this.find(containerId);
      if (task?.status !== 'PAUSING' || clock.monotonic() > end) {
        return task;
      }
      await sleep(clock, SETTLE_EVERY_MS);
    }
  }
}

function isAlive(task: FoundTask): boolean {
  return task.status === 'RUNNING' || task.status === 'PAUSED';
}

function notRunning(containerId: string, task: TaskProcess | undefined, cause: unknown): EsbError {
  const what = task === undefined ? 'has no task' : `is ${task.status.toLowerCase()}`;
  return new EsbError(`${containerId} ${what}`, { code: 'NotFound', cause });
}
