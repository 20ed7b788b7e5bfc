import { messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { ImageRoom } from '../../runtime/contract/images.ts';
import { roomOf } from '../../runtime/images/node-images.ts';

const mebibyte = 2 ** 20;

/** Whether there is room to write records, logs and network results. */
export function judgeRoom(folder: string, room: ImageRoom): Health {
  const leastBytes = Math.min(64 * mebibyte, room.totalBytes * 0.05);
  if (room.freeBytes < leastBytes) {
    return {
      ok: false,
      reason: 'DiskFull',
      message:
        `${folder} has ${(room.freeBytes / mebibyte).toFixed(1)} MiB left and needs ` +
        `${(leastBytes / mebibyte).toFixed(1)} MiB: make room on its file system`,
    };
  }
  // Some file systems have no count of files.
  const leastFiles = Math.min(1_000, room.totalFiles * 0.01);
  if (room.totalFiles > 0 && room.freeFiles < leastFiles) {
    return {
      ok: false,
      reason: 'DiskFull',
      message: `${folder} has room for ${room.freeFiles} more files only: remove files from its file system`,
    };
  }
  return { ok: true };
}

/** Whether the folder's file system has room left. */
export async function diskHealth(folder: string): Promise<Health> {
  try {
    return judgeRoom(folder, await roomOf(folder));
  } catch (error) {
    return { ok: false, reason: 'StateFolderMissing', message: `${folder}: ${messageOf(error)}` };
  }
}
