import type { Dirent } from 'node:fs';
import { chmod, lutimes, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Shows `visit` everything below `folder`, folders before what is in them; links are not followed. */
export async function walkTree(
  folder: string,
  visit: (path: string, entry: Dirent) => Promise<'skip' | undefined>,
): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if ((await visit(path, entry)) !== 'skip' && entry.isDirectory()) {
      await walkTree(path, visit);
    }
  }
}

/** Takes away what depends on the mask of the user who builds, and every bit that lends another user's rights. */
export async function normaliseModes(root: string): Promise<void> {
  await walkTree(root, async (path, entry) => {
    if (entry.isDirectory()) {
      await chmod(path, 0o755);
    } else if (entry.isFile()) {
      const { mode } = await stat(path);
      await chmod(path, (mode & 0o100) === 0 ? 0o644 : 0o755);
    }
    return undefined;
  });
}

/** Gives everything below `root` one time of change. */
export async function setTimes(root: string, time: Date): Promise<void> {
  await walkTree(root, async (path) => {
    await lutimes(path, time, time);
    return undefined;
  });
}
