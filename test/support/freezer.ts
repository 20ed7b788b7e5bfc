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

/** Whether the kernel holds the cgroup of a process frozen; undefined when there is no such process. */
async function isFrozen(pid: number): Promise<boolean | undefined> {
  const lines = (await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '')).split('\n');
  const pathOf = (pattern: RegExp): string | undefined =>
    lines.map((line) => pattern.exec(line)?.[1]).find((path) => path !== undefined);
  const v1 = pathOf(/^\d+:(?:[^:]*,)?freezer(?:,[^:]*)?:(.*)$/);
  if (v1 !== undefined) {
    const state = await readFile(join(ROOT, 'freezer', v1, 'freezer.state'), 'utf8').catch(() => undefined);
    return state === undefined ? undefined : !state.startsWith('THAWED');
  }
  const v2 = pathOf(/^0::(.*)$/);
  const events = await readFile(join(ROOT, v2 ?? '', 'cgroup.events'), 'utf8').catch(() => undefined);
  return events?.includes('frozen 1');
}
