import { statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../common/errors.ts';

/**
 * Whether a path leads another process to the same folder as this one. Where machines run in containers (kind, k3d),
 * their processes show in our process table and have a containerd of the same name; only their mounts differ. True
 * where unknown.
 *
 * Synchronous: two reads of memory.
 *
 * @param proc folder of `/proc`
 */
export function seesSameFolder(proc: string, pid: number | string, folder: string): boolean {
  const root = join(proc, String(pid), 'root');
  try {
    const own = statSync(folder);
    statSync(root);
    const other = statSync(join(root, folder), { throwIfNoEntry: false });
    return other !== undefined && other.dev === own.dev && other.ino === own.ino;
  } catch (error) {
    // Folder or process are gone, or may not be read.
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EPERM' || code === 'ESRCH') {
      return true;
    }
    throw error;
  }
}
