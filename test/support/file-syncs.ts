import { readlinkSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { vi } from 'vitest';

/** Paths that are written through to the disk (fsync) from now on, in order. */
export async function watchFileSyncs(
  before: (path: string) => Promise<void> = () => Promise.resolve(),
): Promise<string[]> {
  const paths: string[] = [];
  const any = await open('/dev/null');
  const prototype = Object.getPrototypeOf(any) as FileHandle;
  await any.close();
  const sync = Reflect.get(prototype, 'sync') as () => Promise<void>;
  vi.spyOn(prototype, 'sync').mockImplementation(async function (this: FileHandle) {
    const path = readlinkSync(`/proc/self/fd/${this.fd}`);
    paths.push(path);
    await before(path);
    await sync.call(this);
  });
  return paths;
}
