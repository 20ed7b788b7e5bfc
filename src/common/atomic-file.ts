import { open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface AtomicWriteOptions {
  /** Permissions of the file. Default 0o600. */
  readonly mode?: number;
  /**
   * Whether the new one is there from now on, also after a loss of power. Otherwise the old one may be back; a crash of the
   * process alone brings back neither. Default true.
   */
  readonly durable?: boolean;
}

/**
 * Replaces a file so that after a crash, of the process or of the machine, it is either the old or the new one.
 * Errors are those of the file system.
 */
export async function writeFileAtomically(
  path: string,
  content: string | Buffer,
  options: AtomicWriteOptions = {},
): Promise<void> {
  const temporary = `${path}.${process.pid}.${performance.now().toString(36)}.tmp`;
  try {
    const file = await open(temporary, 'wx', options.mode ?? 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (options.durable === false) {
    return;
  }
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** What a write is called until it is done. */
const unfinished = /\.\d+\.[0-9a-z.]+\.tmp$/;

/** Removes what writes left in a folder that a crash cut off. Nobody may be writing there. */
export async function removeUnfinishedFiles(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (unfinished.test(name)) {
      await rm(join(folder, name), { force: true });
    }
  }
}
