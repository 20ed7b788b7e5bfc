import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import { dateOf, type Timestamp } from './containerd-proto.ts';
import type { Mount } from './snapshot-service.ts';

const SERVICE = 'containerd.services.tasks.v1.Tasks';

export type TaskStatus = 'UNKNOWN' | 'CREATED' | 'RUNNING' | 'STOPPED' | 'PAUSED' | 'PAUSING';

/** The first process of a container, by its shim. */
export interface TaskProcess {
  readonly containerId: string;
  readonly pid: number;
  readonly status: TaskStatus;
  readonly exitCode: number;
  readonly exitedAt?: Date;
}

export interface TaskExitStatus {
  readonly exitCode: number;
  readonly exitedAt?: Date;
}

export interface NewTask {
  readonly containerId: string;
  readonly rootfs: readonly Mount[];
  /** `file://` URI that takes both output streams; the shim writes it, appending. */
  readonly logUri: string;
}

export interface TaskService {
  /** Starts the shim and sets the container up; nothing of the image runs yet. */
  create(task: NewTask, options?: CallOptions): Promise<{ readonly pid: number }>;
  start(containerId: string, options?: CallOptions): Promise<void>;
  get(containerId: string, options?: CallOptions): Promise<TaskProcess>;
  /** Includes tasks whose container record is gone. */
  list(options?: CallOptions): Promise<readonly TaskProcess[]>;
  kill(containerId: string, signal: number, options?: CallOptions): Promise<void>;
  pause(containerId: string, options?: CallOptions): Promise<void>;
  resume(containerId: string, options?: CallOptions): Promise<void>;
  /** Waits for the end of the process; no deadline by default. */
  wait(containerId: string, options?: CallOptions): Promise<TaskExitStatus>;
  /** Removes a task that has stopped or was never started, and ends its shim. */
  delete(containerId: string, options?: CallOptions): Promise<TaskExitStatus>;
}

interface WireProcess {
  readonly containerId: string;
  readonly id: string;
  readonly pid: number;
  readonly status: TaskStatus;
  readonly exitStatus: number;
  readonly exitedAt: Timestamp | null;
}

interface WireExit {
  readonly exitStatus: number;
  readonly exitedAt: Timestamp | null;
}

export function createTaskService(channel: ContainerdChannel): TaskService {
  return {
    async create({ containerId, rootfs, logUri }, options) {
      const request = { containerId, rootfs, stdout: logUri, stderr: logUri };
      return await channel.unary<{ pid: number }>(SERVICE, 'Create', request, options);
    },
    async start(containerId, options) {
      await channel.unary(SERVICE, 'Start', { containerId }, options);
    },
    async get(containerId, options) {
      const answer = await channel.unary<{ process: WireProcess }>(SERVICE, 'Get', { containerId }, options);
      return processOf(answer.process, containerId);
    },
    async list(options) {
      const answer = await channel.unary<{ tasks: WireProcess[] }>(SERVICE, 'List', {}, options);
      return answer.tasks.map((task) => processOf(task, task.id));
    },
    async kill(containerId, signal, options) {
      await channel.unary(SERVICE, 'Kill', { containerId, signal, all: false }, options);
    },
    async pause(containerId, options) {
      await channel.unary(SERVICE, 'Pause', { containerId }, options);
    },
    async resume(containerId, options) {
      await channel.unary(SERVICE, 'Resume', { containerId }, options);
    },
    async wait(containerId, options) {
      const request = { deadlineMs: Number.POSITIVE_INFINITY, ...options };
      return exitOf(await channel.unary<WireExit>(SERVICE, 'Wait', { containerId }, request));
    },
    async delete(containerId, options) {
      return exitOf(await channel.unary<WireExit>(SERVICE, 'Delete', { containerId }, options));
    },
  };
}

function processOf(process: WireProcess, id: string): TaskProcess {
  return {
    // containerd sets the container's id only in its own list of processes.
    containerId: process.containerId || id,
    pid: process.pid,
    status: process.status,
    ...exitOf(process),
  };
}

function exitOf({ exitStatus, exitedAt }: WireExit): TaskExitStatus {
  const date = dateOf(exitedAt);
  return { exitCode: exitStatus, ...(date === undefined ? {} : { exitedAt: date }) };
}
