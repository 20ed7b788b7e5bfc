import type { Clock } from '../../common/clock.ts';
import { AbortedError, type CallOptions, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { TaskProcess } from '../../containerd/task-service.ts';
import type { FoundTask, KernelState } from '../contract/runtime.ts';
import { ContainerdPulse } from './containerd-pulse.ts';
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
/** For a look at what is about to be paused. containerd itself gives a shim 2 s to tell its state. */
const LOOK_DEADLINE_MS = 3_000;
/** From SIGKILL to the end of the process; longer only when it is stuck in the kernel. */
const KILL_DEADLINE_MS = 15_000;
/** A shim kills, unmounts and ends itself in well under a second; the machine may be busy. */
const DELETE_DEADLINE_MS = 30_000;
/** How long a shim may fail to tell its state until it counts as broken. */
const UNKNOWN_DEADLINE_MS = 1000;
const UNKNOWN_EVERY_MS = 100;
const SETTLE_DEADLINE_MS = 3000;
const SETTLE_EVERY_MS = 5;

/**
 * Freezes, thaws and ends tasks. containerd answers a wrong state with a text only, so after every failure the state is
 * read, and it decides. Whether a task is frozen is the kernel's to say, since a wake thaws below containerd
 * (`docs/adr/0008-thaw-below-containerd.md`).
 */
export class TaskControl {
  readonly #options: TaskControlOptions;
  readonly #pulse: ContainerdPulse;

  constructor(options: TaskControlOptions) {
    this.#options = options;
    this.#pulse = new ContainerdPulse(options.client);
  }

  /**
   * The task as it is, or undefined. `UNKNOWN` only when that is not a matter of a moment.
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

  /** What the kernel alone says of it. */
  kernelState(containerId: string): KernelState {
    return this.#options.freezer.kernelState(containerId);
  }

  /** What containerd says of a task, put right by the kernel. A few microseconds, synchronously. */
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
   * Freezes a task. One that containerd calls paused already, since it was thawed below it, is frozen below it again.
   * When it fails the task is thawed again, on both levels: a request to freeze outlives the call that made it.
   *
   * @param signal says that nobody waits for it any more: it is not begun then, since a call may come at any time
   * @throws {EsbError} `NotFound` when there is no task; whatever the pause failed with otherwise
   */
  async pause(containerId: string, signal?: AbortSignal): Promise<void> {
    const { client, freezer } = this.#options;
    // A short look, so that whoever asked still waits when the pause itself is over, one way or the other.
    const found = await this.find(containerId, { deadlineMs: LOOK_DEADLINE_MS });
    if (signal?.aborted === true) {
      throw new AbortedError(`pausing ${containerId}`, signal.reason);
    }
    if (found?.told === 'PAUSED') {
      // Also one that was frozen but a moment ago, by an agent that did not live to see the end of it.
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
   * Thaws the task's own cgroup, below containerd, which goes on calling it paused until {@link TaskControl.settle} or
   * the next pause. Synchronous, since it is all that a call to a frozen worker waits for.
   *
   * @returns whether it was frozen and is not any more; otherwise {@link TaskControl.resume} finds out why
   */
  thawDirectly(containerId: string): boolean {
    return this.#options.freezer.thaw(containerId) === 'Thawed';
  }

  /**
   * Thaws a task, by way of containerd where the direct way does not work.
   *
   * @throws {EsbError} `NotFound` when there is no task; whatever the resume failed with otherwise
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
    // containerd calls it running; the kernel must agree.
    if (freezer.state(containerId) === 'Frozen') {
      await this.#thaw(containerId);
    }
  }

  /**
   * Lets containerd know that a task which was thawed below it runs. It takes that from runc, and runc resumes only what
   * is frozen: so the task is frozen for the few milliseconds of a resume, or until `signal` fires, whichever comes
   * first. `signal` thaws in the very step that it fires in, however long containerd takes.
   *
   * @returns whether containerd's word is true now. The task runs in either case.
   * @throws {EsbError} `TaskStuck` when it stays frozen
   */
  async settle(containerId: string, signal: AbortSignal): Promise<boolean> {
    const { client, freezer, logger } = this.#options;
    let found: FoundTask | undefined;
    try {
      found = await this.find(containerId, { deadlineMs: SETTLE_DEADLINE_MS });
    } catch (error) {
      // Nothing was asked of the kernel: it runs as it did.
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
   * Ends the process of a task whatever its state. A paused one is killed frozen, so that it runs no more; one that was
   * never started is killed as well.
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

  /** Asks the process to end. Returns whether it did within its grace. */
  async #terminate(containerId: string, graceMs: number): Promise<boolean> {
    const exited = this.#waitForExit(containerId, graceMs);
    await this.#signal(containerId, SIGTERM);
    return await exited;
  }

  async #kill(containerId: string): Promise<void> {
    const { client, logger } = this.#options;
    const exited = this.#waitForExit(containerId, KILL_DEADLINE_MS);
    await this.#signal(containerId, SIGKILL);
    // On cgroup v1 a frozen process takes the signal only when it is thawed (runc issues 3134, 2105).
    await client.tasks.resume(containerId, { deadlineMs: CALL_DEADLINE_MS }).catch(() => undefined);
    this.#options.freezer.thaw(containerId);
    if (!(await exited)) {
      // containerd may never hear of the end of a process (its issue 11133): deleting the task tells.
      logger.warn({ containerId }, 'a killed task does not end');
    }
  }

  async #signal(containerId: string, signal: number): Promise<void> {
    try {
      await this.#options.client.tasks.kill(containerId, signal, { deadlineMs: CALL_DEADLINE_MS });
    } catch (error) {
      // Not found also says that the process has ended.
      if (hasCode(error, 'RuntimeUnavailable') || hasCode(error, 'DeadlineExceeded')) {
        throw await this.#blame(containerId, error);
      }
      this.#options.logger.debug({ containerId, signal, err: error }, 'a signal was not delivered');
    }
  }

  /** Whether the process ended in time, or there is none. Never throws: the caller looks again. */
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

  /** Takes back a freeze on both levels and sees to it that it worked. */
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

  /** Whose fault it is that containerd did not answer in time. Any other error is returned as it is. */
  async #blame(containerId: string, error: unknown): Promise<unknown> {
    if (!hasCode(error, 'DeadlineExceeded')) {
      return error;
    }
    return (await this.#pulse.answers())
      ? new EsbError(`the shim of ${containerId} does not answer`, { code: 'TaskUnanswering', cause: error })
      : new EsbError('containerd does not answer', { code: 'RuntimeUnavailable', cause: error });
  }

  /** The state after a failed call, when it is one that stays. */
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
