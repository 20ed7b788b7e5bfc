import { statfs } from 'node:fs/promises';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import { parseImageReference } from '../../oci/image-reference.ts';
import type { ImageStore } from './image-store.ts';

/** An image in the node's store, as whoever makes room looks at it. */
export interface NodeImage {
  /** Full reference, as the store has it. */
  readonly name: string;
  readonly digest: string;
  /** When its name was given its present digest. */
  readonly pulledAt: Date;
  /** Whether a container has it, or one is being made of it, or it is being pulled. */
  readonly inUse: boolean;
  /** Whether somebody asked that it be kept, by the label that containerd's CRI knows for it. */
  readonly pinned: boolean;
  /** Tells {@link NodeImages.remove} what this look at it knew. */
  readonly mark: number;
}

/** Room on a file system. */
export interface ImageRoom {
  readonly totalBytes: number;
  /** For anybody but root. */
  readonly freeBytes: number;
  /** 0 on file systems that count no files. */
  readonly totalFiles: number;
  readonly freeFiles: number;
}

/** The images of a node, for whoever keeps its disk from filling up. */
export interface NodeImages {
  list(options?: CallOptions): Promise<readonly NodeImage[]>;
  /**
   * Removes an image and waits until its room is free. Layers that another image or a snapshot has stay.
   *
   * @returns false when it has been in use since it was listed, or is gone already
   */
  remove(image: NodeImage, options?: CallOptions): Promise<boolean>;
  /**
   * Room on the file system of the layers.
   *
   * @throws {EsbError} `ImageFileSystemUnknown` when containerd does not say where it is, or it cannot be seen
   */
  room(options?: CallOptions): Promise<ImageRoom>;
  /** The name under which the store has what a user wrote; undefined for what cannot be a reference. */
  nameOf(reference: string): string | undefined;
}

export interface NodeImagesOptions {
  readonly client: ContainerdClient;
  readonly store: ImageStore;
  readonly snapshotter: string;
}

/** As `ctr images label` or an installer sets it; `crictl` shows it, and the kubelet honours it likewise. */
const PIN_LABEL = 'io.cri-containerd.pinned';
const PINNED = 'pinned';
/** A thousand containers are read. */
const LIST_DEADLINE_MS = 60_000;
/** containerd collects what nothing refers to any more before it answers. */
const REMOVE_DEADLINE_MS = 120_000;
const READ_DEADLINE_MS = 10_000;

export function createNodeImages(options: NodeImagesOptions): NodeImages {
  const { client, store, snapshotter } = options;
  let folder: string | undefined;

  async function layersFolder(call: CallOptions): Promise<string> {
    const filter = `type==io.containerd.snapshotter.v1,id==${snapshotter}`;
    const [plugin] = await client.introspection.plugins([filter], call);
    const root = plugin?.exports.root;
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
      // Before the containers are read: what is held and let go of meanwhile is told by the mark.
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
        const { bsize, blocks, bavail, files, ffree } = await statfs(folder);
        return {
          totalBytes: blocks * bsize,
          freeBytes: bavail * bsize,
          totalFiles: files,
          freeFiles: ffree,
        };
      } catch (error) {
        throw new EsbError(`the folder of the layers, ${folder}, cannot be seen by the agent`, {
          code: 'ImageFileSystemUnknown',
          cause: error,
        });
      }
    },
    nameOf(reference) {
      try {
        return parseImageReference(reference).name;
      } catch {
        return undefined;
      }
    },
  };
}
