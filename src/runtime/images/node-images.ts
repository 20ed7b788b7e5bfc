import { statfs } from 'node:fs/promises';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import type { Plugin } from '../../containerd/introspection-service.ts';
import { imageNameOf } from '../../oci/image-reference.ts';
import type { ImageRoom, NodeImages } from '../contract/images.ts';
import type { ImageStore } from './image-store.ts';

/** Label that `ctr images label` or an installer sets; `crictl` shows it, and the kubelet honours it as well. */
const PIN_LABEL = 'io.cri-containerd.pinned';
const PINNED = 'pinned';
/** Time to read a thousand containers. */
const LIST_DEADLINE_MS = 60_000;
/** containerd collects unreferenced content before it answers. */
const REMOVE_DEADLINE_MS = 120_000;
const READ_DEADLINE_MS = 10_000;

/** The plugin of containerd that is the snapshotter. */
export async function snapshotterPlugin(
  { client, snapshotter }: { readonly client: ContainerdClient; readonly snapshotter: string },
  options: CallOptions,
): Promise<Plugin | undefined> {
  const filter = `type==io.containerd.snapshotter.v1,id==${snapshotter}`;
  return (await client.introspection.plugins([filter], options))[0];
}

export function createNodeImages(parts: {
  readonly client: ContainerdClient;
  readonly images: ImageStore;
  readonly snapshotter: string;
}): NodeImages {
  const { client, images: store, snapshotter } = parts;
  let folder: string | undefined;

  async function layersFolder(call: CallOptions): Promise<string> {
    const root = (await snapshotterPlugin(parts, call))?.exports.root;
    if (root === undefined || root === '') {
      throw new EsbError(`containerd does not say where the ${snapshotter} snapshotter keeps its layers`, {
        code: 'ImageFileSystemUnknown',
      });
    }
    return root;
  }

  return {
    async list(call = {}) {
      const deadlined = { deadlineMs: LIST_DEADLINE_MS, ...call };
      const images = await client.images.list(deadlined);
      // Before the containers: the mark reveals a hold that begins and ends meanwhile.
      const holds = images.map(({ name }) => store.holdsOf(name));
      const containers = await client.containers.list(deadlined);
      const used = new Set(containers.map(({ image }) => image));
      return images.map(({ name, target, labels, updatedAt }, index) => ({
        name,
        digest: target.digest,
        pulledAt: updatedAt,
        inUse: used.has(name) || holds[index]?.held === true,
        pinned: labels[PIN_LABEL] === PINNED,
        mark: holds[index]?.mark ?? 0,
      }));
    },
    async remove(image, call = {}) {
      return await store.remove(image.name, image.mark, { deadlineMs: REMOVE_DEADLINE_MS, ...call });
    },
    async room(call = {}) {
      folder ??= await layersFolder({ deadlineMs: READ_DEADLINE_MS, ...call });
      try {
        return await roomOf(folder);
      } catch (error) {
        throw new EsbError(`the folder of the layers, ${folder}, cannot be seen by the agent`, {
          code: 'ImageFileSystemUnknown',
          cause: error,
        });
      }
    },
    nameOf: imageNameOf,
  };
}

/** Room on the file system of a folder. */
export async function roomOf(folder: string): Promise<ImageRoom> {
  const { bsize, blocks, bavail, files, ffree } = await statfs(folder);
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize, totalFiles: files, freeFiles: ffree };
}
