import { randomUUID } from 'node:crypto';
import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { errnoOf } from '../../common/errors.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { Mount } from '../../containerd/snapshot-service.ts';

/** An image's own lists of users and groups. */
export interface UserFiles {
  readonly passwd: string;
  readonly group: string;
}

/** Prefix of the leases and snapshots of this module, which live for moments. */
export const FILES_KEY_PREFIX = 'esb-files-';
/** Life of the lease of an agent that died. */
const LEASE_MS = 5 * 60_000;
const MAX_BYTES = 1024 * 1024;

/** Reads `/etc/passwd` and `/etc/group` of an image from its unpacked layers, without mounting anything. */
export async function readUserFiles(
  client: ContainerdClient,
  clock: Clock,
  chainId: string,
  options: CallOptions,
): Promise<UserFiles> {
  const key = `${FILES_KEY_PREFIX}${randomUUID()}`;
  await client.leases.create(key, new Date(clock.now() + LEASE_MS), options);
  try {
    const layers = layersOf(await client.snapshots.view(key, chainId, { ...options, lease: key }));
    return {
      passwd: await readFromLayers(layers, 'etc', 'passwd'),
      group: await readFromLayers(layers, 'etc', 'group'),
    };
  } finally {
    await client.snapshots.remove(key).catch(() => undefined);
    await client.leases.delete(key).catch(() => undefined);
  }
}

/** Folders of the layers, uppermost first. */
export function layersOf(mounts: readonly Mount[]): readonly string[] {
  return mounts.flatMap((mount) => {
    if (mount.type === 'bind') {
      return [mount.source];
    }
    const lower = mount.options.find((option) => option.startsWith('lowerdir='));
    return lower === undefined ? [] : lower.slice('lowerdir='.length).split(':');
  });
}

async function readFromLayers(layers: readonly string[], folder: string, name: string): Promise<string> {
  for (const layer of layers) {
    const parent = join(layer, folder);
    const file = join(parent, name);
    try {
      if (!(await lstat(parent)).isDirectory()) {
        // A whiteout, or a link that may lead out of the image, as below.
        return '';
      }
      const found = await lstat(file);
      // Anything but a plain file is a whiteout, or a link that may lead out of the image.
      return found.isFile() && found.size <= MAX_BYTES ? await readFile(file, 'utf8') : '';
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') {
        throw error;
      }
    }
  }
  return '';
}
