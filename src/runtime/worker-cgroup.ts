import { readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { errnoOf } from '../common/errors.ts';

export interface WorkerCgroupsOptions {
  /** Where the hierarchies are mounted. Default `/sys/fs/cgroup`. */
  readonly root?: string;
  /** Cgroup above the workers' own, such as `/esb`. */
  readonly parent: string;
  readonly clock?: Clock;
}

const EMPTY_DEADLINE_MS = 3000;
const EMPTY_EVERY_MS = 5;

/** Hierarchies of cgroup v1 that runc puts a container in, and v2 alone or beside them. */
const HIERARCHIES: readonly string[] = [
  '',
  'unified',
  'memory',
  'freezer',
  'pids',
  'cpu',
  'cpuacct',
  'cpu,cpuacct',
  'cpuset',
  'devices',
  'blkio',
  'hugetlb',
  'net_cls',
  'net_prio',
  'net_cls,net_prio',
  'perf_event',
  'rdma',
  'misc',
  'systemd',
];

/** The kernel's own view of a worker, for what containerd does not tell. Version 1 and 2 of cgroups. */
export class WorkerCgroups {
  readonly #root: string;
  readonly #parent: string;
  readonly #clock: Clock;

  constructor(options: WorkerCgroupsOptions) {
    this.#root = options.root ?? '/sys/fs/cgroup';
    this.#parent = options.parent;
    this.#clock = options.clock ?? systemClock;
  }

  /** Path of a worker's cgroup for its runtime spec. */
  path(containerId: string): string {
    return join(this.#parent, containerId);
  }

  /** How many of its processes the kernel killed for want of memory. 0 once the cgroup is gone. */
  async oomKills(containerId: string): Promise<number> {
    const text =
      (await this.#read('memory', containerId, 'memory.oom_control')) ??
      (await this.#read('', containerId, 'memory.events')) ??
      '';
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  }

  /** Whether the kernel holds it frozen or is about to; false once the cgroup is gone. */
  async frozen(containerId: string): Promise<boolean> {
    const state = await this.#read('freezer', containerId, 'freezer.state');
    if (state !== undefined) {
      return state.trim() !== 'THAWED';
    }
    const wanted = await this.#read('', containerId, 'cgroup.freeze');
    return wanted?.trim() === '1';
  }

  /** Takes back a request to freeze it, which outlives the call that made it (runc issue 5325). */
  async thaw(containerId: string): Promise<void> {
    const v1 = await this.#write('freezer', containerId, 'freezer.state', 'THAWED');
    if (!v1) {
      await this.#write('', containerId, 'cgroup.freeze', '0');
    }
  }

  /** Kills what a removed container left running and removes its cgroups. Nothing there is success. */
  async clear(containerId: string): Promise<void> {
    for (const hierarchy of HIERARCHIES) {
      const processes = await this.#read(hierarchy, containerId, 'cgroup.procs');
      if (processes === undefined) {
        continue;
      }
      const pids = processes.split('\n').filter((line) => line !== '');
      if (pids.length > 0) {
        // A frozen process does not take the signal.
        await this.thaw(containerId);
        for (const pid of pids) {
          kill(Number(pid));
        }
      }
      await this.#removeFolder(this.#folder(hierarchy, containerId));
    }
  }

  /** Processes that were killed leave their cgroup a moment later. */
  async #removeFolder(folder: string): Promise<void> {
    const end = this.#clock.monotonic() + EMPTY_DEADLINE_MS;
    for (;;) {
      try {
        await rmdir(folder);
        return;
      } catch (error) {
        if (isGone(error)) {
          return;
        }
        if (errnoOf(error) !== 'EBUSY' || this.#clock.monotonic() > end) {
          throw error;
        }
        await sleep(this.#clock, EMPTY_EVERY_MS);
      }
    }
  }

  #folder(hierarchy: string, containerId: string): string {
    return join(this.#root, hierarchy, this.#parent, containerId);
  }

  async #read(hierarchy: string, containerId: string, file: string): Promise<string | undefined> {
    try {
      return await readFile(join(this.#folder(hierarchy, containerId), file), 'utf8');
    } catch (error) {
      if (isGone(error)) {
        return undefined;
      }
      throw error;
    }
  }

  /** Whether the file was there. */
  async #write(hierarchy: string, containerId: string, file: string, text: string): Promise<boolean> {
    try {
      await writeFile(join(this.#folder(hierarchy, containerId), file), text, { flag: 'r+' });
      return true;
    } catch (error) {
      if (isGone(error)) {
        return false;
      }
      throw error;
    }
  }
}

function isGone(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENODEV' || code === 'ENOTDIR';
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') {
      throw error;
    }
  }
}
