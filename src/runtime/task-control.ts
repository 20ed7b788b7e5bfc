import type { Clock } from '../common/clock.ts';
import { type CallOptions, sleep } from '../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import type { ContainerdClient } from '../containerd/containerd-client.ts';
import type { TaskProcess } from '../containerd/task-service.ts';
import type { WorkerCgroups } from './worker-cgroup.ts';

export interface TaskControlOptions {
  readonly client: ContainerdClient;
  readonly cgroups: WorkerCgroups;
  readonly clock: Clock;
  readonly logger: Logger;
}

const SIGTERM = 15;
const SIGKILL = 9;
const CALL_DEADLINE_MS = 10_000;
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
 * read, and it decides.
 */
export class TaskControl {
  readonly #options: TaskControlOptions;

  constructor(options: TaskControlOptions) {
    this.#options = options;
  }

  /** The task as it is, or undefined. `UNKNOWN` only when that is not a matter of a moment. */
  async find(containerId: string, options: CallOptions = {}): Promise<TaskProcess | undefined> {
    const { client, clock } = this.#options;
    const call = { deadlineMs: CALL_DEADLINE_MS, ...options };
    try {
      const end = clock.monotonic() + UNKNOWN_DEADLINE_MS;
      for (;;) {
        const task = await client.tasks.get(containerId, call);
        if (task.status !== 'UNKNOWN' || clock.monotonic() > end) {
          return task;
        }
        await sleep(clock, UNKNOWN_EVERY_MS, options.signal);
      }
    } catch (error) {
      if (hasCode(error, 'NotFound')) {
        return undefined;
      }
      throw error;
    }
  }

  /**
   * Freezes a task. When that fails the task is thawed again, below containerd too: a request to freeze outlives the
   * call that made it.
   *
   * @throws {EsbError} `NotFound` when there is no task; whatever the pause failed with otherwise
   */
  async pause(containerId: string): Promise<void> {
    const { tasks } = this.#options.client;
    try {
      await tasks.pause(containerId, { deadlineMs: CALL_DEADLINE_MS });
    } catch (error) {
      const task = await this.#settled(containerId, error);
      if (task?.status === 'PAUSED') {
        return;
      }
      if (task === undefined || task.status !== 'RUNNING') {
        throw notRunning(containerId, task, error);
      }
      this.#options.logger.warn({ containerId, err: error }, 'a pause failed and is taken back');
      await this.#thaw(containerId);
      throw error;
    }
  }

  /**
   * Thaws a task.
   *
   * @throws {EsbError} `NotFound` when there is no task; whatever the resume failed with otherwise
   */
  async resume(containerId: string): Promise<void> {
    const { cgroups, client } = this.#options;
    try {
      await client.tasks.resume(containerId, { deadlineMs: CALL_DEADLINE_MS });
    } catch (error) {
      const task = await this.#settled(containerId, error);
      if (task?.status !== 'RUNNING') {
        throw task?.status === 'PAUSED' ? error : notRunning(containerId, task, error);
      }
      // containerd calls it running; the kernel must agree.
      if (await cgroups.frozen(containerId)) {
        await this.#thaw(containerId);
      }
    }
  }

  /**
   * Ends a task whatever its state and removes it. A paused one is killed frozen, so that it runs no more; one that was
   * never started is killed as well.
   */
  async end(containerId: string, found: TaskProcess, graceMs: number): Promise<void> {
    const { client } = this.#options;
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
    try {
      await client.tasks.delete(containerId, { deadlineMs: DELETE_DEADLINE_MS });
    } catch (error) {
      if (!hasCode(error, 'NotFound')) {
        throw error;
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
    await this.#options.cgroups.thaw(containerId);
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
        throw error;
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
    const { cgroups, client, clock } = this.#options;
    await client.tasks.resume(containerId, { deadlineMs: CALL_DEADLINE_MS }).catch(() => undefined);
    await cgroups.thaw(containerId);
    const end = clock.monotonic() + SETTLE_DEADLINE_MS;
    while (await cgroups.frozen(containerId)) {
      if (clock.monotonic() > end) {
        throw new EsbError(`${containerId} stays frozen after a pause that failed`, {
          code: 'RuntimeUnavailable',
          retryable: true,
        });
      }
      await sleep(clock, SETTLE_EVERY_MS);
    }
  }

  /** The state after a failed call, when it is one that stays. */
  async #settled(containerId: string, cause: unknown): Promise<TaskProcess | undefined> {
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

function notRunning(containerId: string, task: TaskProcess | undefined, cause: unknown): EsbError {
  const what = task === undefined ? 'has no task' : `is ${task.status.toLowerCase()}`;
  return new EsbError(`${containerId} ${what}`, { code: 'NotFound', cause });
}
