/** Where `/tmp` of workers is, and how much of it there may be. */
export type TmpStorage =
  /** A file on the disk of the state folder for each worker. */
  | { readonly medium: 'LoopFile'; readonly capacityMiB: number; readonly allocatedMiB: number }
  /** Part of the memory of a worker. `message` says why no disk is used. */
  | { readonly medium: 'Tmpfs'; readonly message: string };

/** The medium of `/tmp` on a node. */
export interface TmpOfNode {
  /** Whether `/tmp` of the next container is on disk. False until that was tried. */
  readonly isOnDisk: boolean;
  /** Undefined until the medium was tried. */
  storage(): Promise<TmpStorage | undefined>;
}
