import { readFileSync } from 'node:fs';
import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { errnoOf, undefinedIf } from '../../common/errors.ts';
import type { LimitHits } from '../contract/limits.ts';
import type { WorkerUsage } from '../contract/usage.ts';
import { CGROUP_ROOT, type CgroupDriver, type CgroupParent, cgroupParent, isCgroupGone } from './cgroup-parent.ts';
import { killProcess } from './shim-process.ts';

export interface WorkerCgroupsOptions {
  /** Where the hierarchies are mounted. Default `/sys/fs/cgroup`. */
  readonly root?: string;
  /** Maker of the cgroups. Default `cgroupfs`. */
  readonly driver?: CgroupDriver | undefined;
  /** Cgroup above the workers' own. Default `/esb`, with systemd `esb.slice`. */
  readonly parent?: string | undefined;
  readonly clock?: Clock;
}

const EMPTY_DEADLINE_MS = 3000;
const EMPTY_EVERY_MS = 5;

/** Hierarchies of cgroup v1 in which runc puts a container, and v2 alone or beside them. */
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

/** The kernel's own view of a worker, beyond containerd's. Version 1 and 2 of cgroups. */
export class WorkerCgroups {
  readonly #root: string;
  readonly #parent: CgroupParent;
  readonly #clock: Clock;

  constructor(options: WorkerCgroupsOptions) {
    this.#root = options.root ?? CGROUP_ROOT;
    this.#parent = cgroupParent(options.driver ?? 'cgroupfs', options.parent);
    this.#clock = options.clock ?? systemClock;
  }

  /** Every worker with a cgroup in any hierarchy, even an empty one. */
  async list(): Promise<readonly string[]> {
    const found = new Set<string>();
    for (const hierarchy of HIERARCHIES) {
      const folder = join(this.#root, hierarchy, this.#parent.folder);
      const children = (await undefinedIf(readdir(folder, { withFileTypes: true }), isCgroupGone)) ?? [];
      // The mount folder of the hierarchies of version 1 is no hierarchy.
      const isHierarchy = children.some(({ name }) => name === 'cgroup.procs');
      for (const child of children.filter((one) => isHierarchy && one.isDirectory())) {
        const containerId = this.#parent.containerId(child.name);
        if (containerId !== undefined) {
          found.add(containerId);
        }
      }
    }
    return [...found];
  }

  /** Processes of a worker by the kernel. */
  async processes(containerId: string): Promise<readonly number[]> {
    const text =
      (await this.#read('freezer', containerId, 'cgroup.procs')) ??
      (await this.#read('', containerId, 'cgroup.procs')) ??
      '';
    return pidsOf(text);
  }

  /** Processes that the kernel killed for want of memory. 0 once the cgroup is gone. */
  oomKills(containerId: string): number {
    return this.limitHits(containerId)?.memory ?? 0;
  }

  /** Limits that a worker reached, with counts; undefined once the cgroup is gone. */
  limitHits(containerId: string): LimitHits | undefined {
    const first = (hierarchy: string, file: string, older: string): string | undefined =>
      this.#readNow(hierarchy, containerId, older) ?? this.#readNow('', containerId, file);
    const processes = first('pids', 'pids.events', 'pids.events');
    const memory = first('memory', 'memory.events', 'memory.oom_control');
    if (processes === undefined && memory === undefined) {
      return undefined;
    }
    return {
      processes: Number(/^max (\d+)$/m.exec(processes ?? '')?.[1] ?? 0),
      memory: Number(/^oom_kill (\d+)$/m.exec(memory ?? '')?.[1] ?? 0),
    };
  }

  /** Processor time and memory of a worker; undefined once its cgroup is gone. Five small files at most. */
  async usage(containerId: string): Promise<WorkerUsage | undefined> {
    const takenAt = this.#clock.now();
    const cpu = await this.#firstOf(containerId, [
      ['cpuacct', 'cpuacct.usage'],
      ['cpu,cpuacct', 'cpuacct.usage'],
      ['', 'cpu.stat'],
    ]);
    const held = await this.#firstOf(containerId, [
      ['memory', 'memory.usage_in_bytes'],
      ['', 'memory.current'],
    ]);
    const memory = await this.#firstOf(containerId, [
      ['memory', 'memory.stat'],
      ['', 'memory.stat'],
    ]);
    if (cpu === undefined || held === undefined || memory === undefined) {
      return undefined;
    }
    // Version 1 tells nanoseconds alone in their file; its totals are those with the cgroups below.
    const cpuUs = Number(/^usage_usec (\d+)$/m.exec(cpu)?.[1] ?? Number(cpu) / 1_000);
    const inactive = /^total_inactive_file (\d+)$/m.exec(memory) ?? /^inactive_file (\d+)$/m.exec(memory);
    return { cpuUs, memoryBytes: Math.max(0, Number(held) - Number(inactive?.[1] ?? 0)), takenAt };
  }

  /** Folders of a worker's freezer, by version. */
  freezerFolders(containerId: string): { readonly v1: string; readonly v2: string } {
    return { v1: this.#folder('freezer', containerId), v2: this.#folder('', containerId) };
  }

  /** Takes back a request to freeze, which outlives the call that made it (runc issue 5325). */
  async thaw(containerId: string): Promise<void> {
    const v1 = await this.#write('freezer', containerId, 'freezer.state', 'THAWED');
    if (!v1) {
      await this.#write('', containerId, 'cgroup.freeze', '0');
    }
  }

  /** Kills the processes of a removed container and removes its cgroups. Nothing there is success. */
  async clear(containerId: string): Promise<void> {
    for (const hierarchy of HIERARCHIES) {
      const processes = await this.#read(hierarchy, containerId, 'cgroup.procs');
      if (processes === undefined) {
        continue;
      }
      const pids = pidsOf(processes);
      if (pids.length > 0) {
        // A frozen process does not take the signal.
        await this.thaw(containerId);
        for (const pid of pids) {
          killProcess(pid);
        }
      }
      await this.#removeFolder(this.#folder(hierarchy, containerId));
    }
  }

  /** Removes the parent of the workers' cgroups from every hierarchy; missing is success. systemd removes slices itself. */
  async removeParent(): Promise<void> {
    if (this.#parent.driver === 'systemd') {
      return;
    }
    for (const hierarchy of HIERARCHIES) {
      await this.#removeFolder(join(this.#root, hierarchy, this.#parent.folder));
    }
  }

  /** Removes an empty cgroup; killed processes leave theirs a moment later. */
  async #removeFolder(folder: string): Promise<void> {
    const end = this.#clock.monotonic() + EMPTY_DEADLINE_MS;
    for (;;) {
      try {
        await rmdir(folder);
        return;
      } catch (error) {
        if (isCgroupGone(error)) {
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
    return join(this.#root, hierarchy, this.#parent.folder, this.#parent.folderName(containerId));
  }

  async #read(hierarchy: string, containerId: string, file: string): Promise<string | undefined> {
    return await undefinedIf(readFile(join(this.#folder(hierarchy, containerId), file), 'utf8'), isCgroupGone);
  }

  /** The first of these files that is there. */
  async #firstOf(
    containerId: string,
    files: readonly (readonly [hierarchy: string, file: string])[],
  ): Promise<string | undefined> {
    for (const [hierarchy, file] of files) {
      const text = await this.#read(hierarchy, containerId, file);
      if (text !== undefined) {
        return text;
      }
    }
    return undefined;
  }

  #readNow(hierarchy: string, containerId: string, file: string): string | undefined {
    try {
      return readFileSync(join(this.#folder(hierarchy, containerId), file), 'utf8');
    } catch (error) {
      if (isCgroupGone(error)) {
        return undefined;
      }
      throw error;
    }
  }

  /** Returns whether the file was there. */
  async #write(hierarchy: string, containerId: string, file: string, text: string): Promise<boolean> {
    const path = join(this.#folder(hierarchy, containerId), file);
    const written = writeFile(path, text, { flag: 'r+' }).then(() => true);
    return (await undefinedIf(written, isCgroupGone)) ?? false;
  }
}

/** The processes of a `cgroup.procs`. A process outside of our pid namespace shows as 0, which `kill` takes for our group. */
function pidsOf(text: string): readonly number[] {
  return text
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0);
}
