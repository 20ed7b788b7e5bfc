import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../common/errors.ts';
import type { Mount } from '../../containerd/snapshot-service.ts';
import { layersOf } from '../images/user-files.ts';
import type { TmpFile } from './tmp-files.ts';

const LOWER = 'lowerdir=';

/**
 * The root file system of a worker with its file at `/tmp`. The shim mounts over folders that are there, and follows links
 * within the root file system alone; an image without the folder, or with one that a later layer has removed, gets an
 * uppermost layer that has nothing else.
 */
export async function withTmp(mounts: readonly Mount[], { mount, skeleton }: TmpFile): Promise<readonly Mount[]> {
  const rootfs = (await hasTmp(layersOf(mounts))) ? mounts : mounts.map((each) => onTop(skeleton, each));
  return [...rootfs, { ...mount, target: '/tmp' }];
}

async function hasTmp(layers: readonly string[]): Promise<boolean> {
  for (const layer of layers) {
    try {
      return !isWhiteout(await lstat(join(layer, 'tmp')));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        // Layers that the agent does not see are mounted as they are.
        return true;
      }
    }
  }
  return layers.length === 0;
}

/** Whether a layer removes what the layers below it have there: a device of no kind, to overlayfs. */
function isWhiteout(found: Stats): boolean {
  return found.isCharacterDevice() && found.rdev === 0;
}

function onTop(skeleton: string, mount: Mount): Mount {
  return {
    ...mount,
    options: mount.options.map((option) =>
      option.startsWith(LOWER) ? `${LOWER}${skeleton}:${option.slice(LOWER.length)}` : option,
    ),
  };
}
