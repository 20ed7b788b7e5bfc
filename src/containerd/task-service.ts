import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import { dateOf, type Timestamp } from './containerd-proto.ts';
import type { Mount } from './snapshot-service.ts';

const SERVICE = 'containerd.services.tasks.v1.Tasks';

export type TaskStatus = 'UNKNOWN' | 'CREATED' | 'RUNNING' | 'STOPPED' | 'PAUSED' | 'PAUSING';

export interface TaskExitStatus {
  readonly exitCode: number;
  readonly exitedAt?: Date;
}

/** The first process of a container, by its shim. */
export interface TaskProcess extends TaskExitStatus {
  readonly containerId: string;
  readonly pid: number;
  readonly status: TaskStatus;
}

export interface NewTask {
  readonly containerId: string;
  readonly rootfs: readonly Mount[];
  /** `file://` URI that takes both output streams; the shim writes it, appending. */
  readonly logUri: string;
}

interface WireExit {
  readonly exitStatus: number;
  readonly exitedAt: Timestamp | null;
}

interface WireProcess extends WireExit {
  readonly containerId: string;
  readonly id: string;
  readonly pid: number;
  readonly status: TaskStatus;
}

export function createTaskService(channel: ContainerdChannel) {
  return {
    /** Starts the shim and sets the container up; nothing of the image runs yet. */
    async create({ containerId, rootfs, logUri }: NewTask, options?: CallOptions): Promise<{ readonly pid: number }> {
      const request = { containerId, rootfs, stdout: logUri, stderr: logUri };
      return await channel.unary(SERVICE, 'Create', request, options);
    },
    async start(containerId: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Start', { containerId }, options);
    },
    async get(containerId: string, options?: CallOptions): Promise<TaskProcess> {
      const answer = await channel.unary<{ process: WireProcess }>(SERVICE, 'Get', { containerId }, options);
      return processOf(answer.process, containerId);
    },
    /** Includes tasks whose container record is gone. */
    async list(options?: CallOptions): Promise<readonly TaskProcess[]> {
      const answer = await channel.unary<{ tasks: WireProcess[] }>(SERVICE, 'List', {}, options);
      return answer.tasks.map((task) => processOf(task, task.id));
    },
    async kill(containerId: string, signal: number, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Kill', { containerId, signal, all: false }, options);
    },
    async pause(containerId: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Pause', { containerId }, options);
    },
    async resume(containerId: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Resume', { containerId }, options);
    },
    /** Waits for the end of the process; no deadline by default. */
    async wait(containerId: string, options?: CallOptions): Promise<TaskExitStatus> {
      const request = { deadlineMs: Number.POSITIVE_INFINITY, ...options };
      return exitOf(await channel.unary<WireExit>(SERVICE, 'Wait', { containerId }, request));
    },
    /** Removes a task that has stopped or was never started, and ends its shim. */
    async delete(containerId: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Delete', { containerId }, options);
    },
  };
}

function processOf(process: WireProcess, id: string): TaskProcess {
  // containerd sets the container's id only in its own list of processes.
  return { containerId: process.containerId || id, pid: process.pid, status: process.status, ...exitOf(process) };
}

function exitOf({ exitStatus, exitedAt }: WireExit): TaskExitStatus {
  const date = dateOf(exitedAt);
  return { exitCode: exitStatus, ...(date === undefined ? {} : { exitedAt: date }) };
}
