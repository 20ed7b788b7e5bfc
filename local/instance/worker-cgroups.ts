import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf } from '../../src/common/errors.ts';

/** Mount points of control groups: one hierarchy, or one folder for each controller. */
const CGROUP_ROOT = '/sys/fs/cgroup';
const EMPTY_DEADLINE_MS = 5_000;

/**
 * Ends every process in the control groups below `group` (`/esb/…`), frozen ones included, and removes the groups.
 * Parent groups that are empty then are removed, too. Returns the paths that could not be removed.
 */
export async function removeWorkerCgroups(group: string, root = CGROUP_ROOT): Promise<string[]> {
  const folders: string[] = [];
  for (const hierarchy of await hierarchies(root)) {
    folders.push(...(await foldersBelow(join(hierarchy, group))));
  }
  for (const folder of folders) {
    await killProcesses(folder);
  }
  // A frozen process takes its SIGKILL only once it is thawed; thawed first, it could still act.
  for (const folder of folders) {
    await thaw(folder);
  }
  const left: string[] = [];
  for (const folder of folders) {
    if (!(await removeEmpty(folder))) {
      left.push(folder);
    }
  }
  const parent = group.slice(0, group.lastIndexOf('/'));
  if (parent !== '') {
    for (const hierarchy of await hierarchies(root)) {
      await rmdir(join(hierarchy, parent)).catch(() => undefined);
    }
  }
  return left;
}

async function hierarchies(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  return [root, ...entries.filter((entry) => entry.isDirectory()).map((entry) => join(root, entry.name))];
}

/** The folder and all below it, the deepest first; empty when it is not there. */
async function foldersBelow(folder: string): Promise<string[]> {
  let entries: readonly { readonly name: string; isDirectory(): boolean }[];
  try {
    entries = await readdir(folder, { withFileTypes: true });
  } catch {
    return [];
  }
  const below: string[] = [];
  for (const entry of entries.filter((one) => one.isDirectory())) {
    below.push(...(await foldersBelow(join(folder, entry.name))));
  }
  return [...below, folder];
}

async function killProcesses(folder: string): Promise<void> {
  const text = await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '');
  for (const pid of text.split('\n').filter((line) => line !== '')) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch (error) {
      if (errnoOf(error) !== 'ESRCH') {
        throw error;
      }
    }
  }
}

/** By the file of version 1 or that of version 2; a group has at most one of them. */
async function thaw(folder: string): Promise<void> {
  await writeFile(join(folder, 'freezer.state'), 'THAWED', { flag: 'r+' }).catch(() => undefined);
  await writeFile(join(folder, 'cgroup.freeze'), '0', { flag: 'r+' }).catch(() => undefined);
}

async function removeEmpty(folder: string): Promise<boolean> {
  const end = performance.now() + EMPTY_DEADLINE_MS;
  for (;;) {
    try {
      await rmdir(folder);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        return true;
      }
      if (errnoOf(error) !== 'EBUSY' || performance.now() > end) {
        return false;
      }
    }
    await killProcesses(folder);
    await delay(20);
  }
}
