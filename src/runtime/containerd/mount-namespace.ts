import { statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../common/errors.ts';

/**
 * Whether another process finds at a path the folder that this one finds there. On a machine that has other machines in
 * containers (kind, k3d), their processes are in its process table, too, and have a containerd of their own by the same
 * name: their mounts tell them apart. True where it cannot be told.
 *
 * Synchronous: it costs two looks into memory.
 *
 * @param proc where `/proc` is
 */
export function seesSameFolder(proc: string, pid: number | string, folder: string): boolean {
  const root = join(proc, String(pid), 'root');
  try {
    const own = statSync(folder);
    statSync(root);
    const other = statSync(join(root, folder), { throwIfNoEntry: false });
    return other !== undefined && other.dev === own.dev && other.ino === own.ino;
  } catch (error) {
    // The folder, or the process, is gone; or it may not be looked at.
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EPERM' || code === 'ESRCH') {
      return true;
    }
    throw error;
  }
}
