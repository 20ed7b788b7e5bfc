import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { lockProgram } from '../../local/common/program-lock.ts';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from '../../local/image/debian-root.ts';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import type { Progress } from '../../src/cli/progress.ts';

const LIBRARIES: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** Packages of Debian in a folder of the user cache. They are never installed. */
export interface UnpackedPackages {
  /** Name of their folder. */
  readonly name: string;
  /** Their description, for progress and errors. */
  readonly what: string;
  readonly debianPackage: string;
  /** Packages of the closure that are unpacked. The C library is the machine's own. */
  readonly wanted: RegExp;
  /** Does in the folder what an installation would do. */
  readonly finish?: (root: string) => Promise<void>;
}

/**
 * Unpacks them into the user cache, once.
 *
 * @throws {EsbError} `PackagesMissing`
 */
export async function ensureUnpacked(packages: UnpackedPackages, progress: Progress): Promise<void> {
  const { debianPackage, finish, name, wanted, what } = packages;
  const folder = folderOf(packages);
  if (existsSync(folder)) {
    return;
  }
  await progress.step(`unpacking ${what} of Debian`, async (step) => {
    await mkdir(join(cacheFolder(), name), { recursive: true });
    const lock = await lockProgram(join(cacheFolder(), name, 'lock'), {
      onWait: () => step.note('waiting for another process that unpacks it'),
    });
    try {
      if (existsSync(folder)) {
        return;
      }
      const staging = `${folder}.unfinished`;
      await rm(staging, { recursive: true, force: true });
      await ensurePackageLists(debianPackage, step);
      await unpackDebianPackages(await debianClosure([debianPackage], wanted), staging, step);
      await finish?.(staging);
      await rename(staging, folder);
    } finally {
      await lock.release();
    }
  });
}

/**
 * The folder, and the libraries in it.
 *
 * @throws {Error} when they have not been unpacked yet; `npm test` does
 */
export function unpacked(packages: UnpackedPackages): { readonly root: string; readonly libraries: string } {
  const root = folderOf(packages);
  if (!existsSync(root)) {
    throw new Error(`${packages.what} has not been unpacked; run: npm test -- programs`);
  }
  return { root, libraries: join(root, 'usr/lib', LIBRARIES[process.arch] ?? '') };
}

function folderOf({ name, wanted }: UnpackedPackages): string {
  const key = createHash('sha256').update(`${wanted} ${process.arch}`).digest('hex').slice(0, 16);
  return join(cacheFolder(), name, `root-${key}`);
}
