import { open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface AtomicWriteOptions {
  /** Permissions of the file. Default 0o600. */
  readonly mode?: number;
  /**
   * Whether the new file outlives a loss of power from now on. Otherwise the old file may be back; a crash of the
   * process alone never brings it back. Default true.
   */
  readonly durable?: boolean;
}

/**
 * Replaces a file so that after a crash, of the process or of the machine, it is either the old or the new one. Errors
 * are those of the file system.
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
  if (options.durable !== false) {
    await syncFolder(dirname(path));
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Makes the names in a folder durable. Many that ask at the same time share the writes to the disk. */
export class FolderSync {
  readonly #path: string;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Resolves once the names that the folder has now outlive a loss of power. */
  sync(): Promise<void> {
    if (this.#running === undefined) {
      return this.#begin();
    }
    // One that runs may have begun before the last name was there.
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.#begin();
      });
    return this.#next;
  }

  #begin(): Promise<void> {
    const running = syncFolder(this.#path).finally(() => {
      if (this.#running === running) {
        this.#running = undefined;
      }
    });
    this.#running = running;
    return running;
  }
}

/** Name of a file that is being written. */
const unfinished = /\.\d+\.[0-9a-z.]+\.tmp$/;

/** Removes the files of writes that a crash cut off. No write may be under way in the folder. */
export async function removeUnfinishedFiles(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (unfinished.test(name)) {
      await rm(join(folder, name), { force: true });
    }
  }
}
