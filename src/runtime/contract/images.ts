import type { CallOptions } from '../../common/deadline.ts';

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
