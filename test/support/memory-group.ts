import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { labName } from './lab.ts';

const ROOT = '/sys/fs/cgroup';

/** A control group whose processes have so much memory together, as a container with that limit. */
export interface MemoryGroup {
  /** File by which a process enters the group: one that writes `0` does. */
  readonly entrance: string;
  /** Bytes that the group has had at most, files that it has read included. */
  most(): Promise<number>;
  /** Processes that the kernel has ended for want of memory. */
  kills(): Promise<number>;
  /** Removes the group, which has to be empty. */
  close(): Promise<void>;
}

/** Makes a group in the hierarchy of the machine, of version 1 or 2. */
export async function memoryGroup(bytes: number): Promise<MemoryGroup> {
  const name = labName('memory');
  const isV1 = (await readFile('/proc/self/cgroup', 'utf8')).includes(':memory:');
  const folder = isV1 ? join(ROOT, 'memory', name) : join(ROOT, name);
  const [limit, swap, events, peak] = isV1
    ? ['memory.limit_in_bytes', 'memory.swappiness', 'memory.oom_control', 'memory.max_usage_in_bytes']
    : ['memory.max', 'memory.swap.max', 'memory.events', 'memory.peak'];
  if (!isV1) {
    await writeFile(join(ROOT, 'cgroup.subtree_control'), '+memory');
  }
  await mkdir(folder);
  await writeFile(join(folder, limit), String(bytes));
  await writeFile(join(folder, swap), '0');
  return {
    entrance: join(folder, 'cgroup.procs'),
    most: async () => Number(await readFile(join(folder, peak), 'utf8')),
    async kills() {
      return Number(/^oom_kill (\d+)$/m.exec(await readFile(join(folder, events), 'utf8'))?.[1]);
    },
    close: () => rmdir(folder),
  };
}
