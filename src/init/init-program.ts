import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../common/atomic-file.ts';
import { undefinedIfNoFile } from '../common/errors.ts';

/**
 * Copies the program of the init to a path that stands for its content, and removes those of other versions: the mount
 * of a container keeps the version that the container was made with. Errors are those of the file system.
 *
 * @returns the path
 */
export async function installInitProgram(program: string, folder: string): Promise<string> {
  const content = await readFile(program);
  const digest = createHash('sha256').update(content).digest('hex');
  const home = join(folder, digest);
  const path = join(home, 'esb-init');
  if ((await undefinedIfNoFile(stat(path)))?.size !== content.length) {
    await mkdir(home, { recursive: true });
    await writeFileAtomically(path, content);
  }
  // A worker may have users of its own.
  for (const each of [folder, home, path]) {
    await chmod(each, 0o755);
  }
  for (const name of await readdir(folder)) {
    if (name !== digest) {
      await rm(join(folder, name), { recursive: true, force: true, maxRetries: 3 });
    }
  }
  return path;
}
