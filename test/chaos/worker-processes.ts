import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isRunning, type ProcessIdentity } from '../../local/common/process-table.ts';

/** A hierarchy that every worker is a member of, on both versions of control groups. */
const hierarchies = ['/sys/fs/cgroup/pids', '/sys/fs/cgroup'];

/** The first process of a container, by its control group below `group`; undefined when there is none. */
export async function processOfContainer(group: string, containerId: string): Promise<number | undefined> {
  for (const hierarchy of hierarchies) {
    const folders = await readdir(join(hierarchy, group), { recursive: true }).catch(() => []);
    const folder = folders.find((path) => path === containerId || path.endsWith(`/${containerId}`));
    if (folder === undefined) {
      continue;
    }
    const text = await readFile(join(hierarchy, group, folder, 'cgroup.procs'), 'utf8').catch(() => '');
    const pids = text
      .split('\n')
      .filter((each) => each !== '')
      .map(Number);
    if (pids.length > 0) {
      return Math.min(...pids);
    }
  }
  return undefined;
}

/** The shim that looks after a worker's first process: its parent. */
export async function shimOf(pid: number): Promise<number | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  const command = await readFile(`/proc/${parent}/cmdline`, 'latin1').catch(() => '');
  return command.includes('containerd-shim') ? parent : undefined;
}

/** The other processes of the container of that init, the oldest first. */
export async function processesBeside(init: number): Promise<readonly number[]> {
  const children = await readFile(`/proc/${init}/task/${init}/children`, 'latin1').catch(() => '');
  return children
    .split(' ')
    .filter((each) => each !== '')
    .map(Number);
}

/** Whether that very process is stopped by a signal. */
export async function isStopped(process: ProcessIdentity): Promise<boolean> {
  const stat = await readFile(`/proc/${process.pid}/stat`, 'latin1').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T') && (await isRunning(process));
}
