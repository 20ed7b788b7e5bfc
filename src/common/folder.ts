import { mkdir } from 'node:fs/promises';
import { errnoOf } from './errors.ts';

/** Writes into a folder, which is made where there is none: most writes find the folder. */
export async function intoFolder(
  { folder, mode }: { readonly folder: string; readonly mode: number },
  write: () => Promise<void>,
): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') {
      throw error;
    }
    await mkdir(folder, { recursive: true, mode });
    await write();
  }
}
