import type { CallOptions } from '../../common/deadline.ts';

/** An image in the node's store, for the collector. */
export interface NodeImage {
  /** Full reference in the store. */
  readonly name: string;
  readonly digest: string;
  /** Time at which the name got its present digest. */
  readonly pulledAt: Date;
  /** Whether a container, a creation or a pull uses the image. */
  readonly inUse: boolean;
  /** Whether the image is pinned, by the label of containerd's CRI. */
  readonly pinned: boolean;
  /** Version of the image's holds, for {@link NodeImages.remove}. */
  readonly mark: number;
}

export interface ImageRoom {
  readonly totalBytes: number;
  /** Free for users other than root. */
  readonly freeBytes: number;
  /** 0 on file systems that count no files. */
  readonly totalFiles: number;
  readonly freeFiles: number;
}

/** The images of a node, for the collector that keeps the disk from filling up. */
export interface NodeImages {
  list(options?: CallOptions): Promise<readonly NodeImage[]>;
  /**
   * Removes an image and waits until its room is free. Layers of other images and of snapshots stay.
   *
   * @returns false when the image was used since it was listed, or is gone
   */
  remove(image: NodeImage, options?: CallOptions): Promise<boolean>;
  /**
   * Room on the file system of the layers.
   *
   * @throws {EsbError} `ImageFileSystemUnknown` when containerd does not name the folder, or the agent cannot read it
   */
  room(options?: CallOptions): Promise<ImageRoom>;
  /** The store's name of a reference as users write it; undefined for a malformed reference. */
  nameOf(reference: string): string | undefined;
}
