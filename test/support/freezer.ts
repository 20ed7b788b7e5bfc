import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const ROOT = '/sys/fs/cgroup';

/** Freezes a worker's cgroup behind containerd's back. */
export async function freeze(cgroupParent: string, containerId: string): Promise<void> {
  const v1 = join(ROOT, 'freezer', cgroupParent, containerId, 'freezer.state');
  const isV1 = await access(v1).then(
    () => true,
    () => false,
  );
  if (isV1) {
    await writeFile(v1, 'FROZEN', { flag: 'r+' });
  } else {
    await writeFile(join(ROOT, cgroupParent, containerId, 'cgroup.freeze'), '1', { flag: 'r+' });
  }
}

/**
 * The state of a task: what containerd says of it, put right by the kernel. A worker that was woken is PAUSED to
 * containerd until it is paused again or has been awake for a while (`docs/adr/0008-thaw-below-containerd.md`).
 *
 * @param pid the task's first process
 */
export async function stateOfTask(told: string, pid: number): Promise<string> {
  if (told !== 'PAUSED' && told !== 'RUNNING') {
    return told;
  }
  const frozen = await isFrozen(pid);
  return frozen === undefined ? told : frozen ? 'PAUSED' : 'RUNNING';
}

/** File of a cgroup's freezer, and a text that it has while the cgroup is thawed. */
export interface FreezerFile {
  readonly path: string;
  readonly thawed: string;
}

/** The file that tells of the freezer of a process; undefined when there is no such process. */
export async function freezerFile(pid: number): Promise<FreezerFile | undefined> {
  const text = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => undefined);
  if (text === undefined) {
    return undefined;
  }
  const pathOf = (pattern: RegExp): string | undefined =>
    text
      .split('\n')
      .map((line) => pattern.exec(line)?.[1])
      .find((path) => path !== undefined);
  const v1 = pathOf(/^\d+:(?:[^:]*,)?freezer(?:,[^:]*)?:(.*)$/);
  return v1 === undefined
    ? { path: join(ROOT, pathOf(/^0::(.*)$/) ?? '', 'cgroup.events'), thawed: 'frozen 0' }
    : { path: join(ROOT, 'freezer', v1, 'freezer.state'), thawed: 'THAWED' };
}

/** Whether the kernel holds the cgroup of a process frozen; undefined when there is no such process. */
async function isFrozen(pid: number): Promise<boolean | undefined> {
  const file = await freezerFile(pid);
  const state = file === undefined ? undefined : await readFile(file.path, 'utf8').catch(() => undefined);
  return file === undefined || state === undefined ? undefined : !state.includes(file.thawed);
}
