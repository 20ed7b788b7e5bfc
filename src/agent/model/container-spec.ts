import type { RuntimeInterface } from '../../runtime/contract/runtime.ts';

/** Facts about a container that are still needed once its resource asks for another shape. */
export interface ContainerMake {
  readonly id: string;
  readonly shapeHash: string;
  readonly memoryMiB: number;
  readonly ephemeralStorageMiB: number;
  readonly timeoutSeconds: number;
  readonly runtimeInterface: RuntimeInterface;
  /** Whether its `/tmp` is on disk; absent for a tmpfs, as of containers that an earlier agent made. */
  readonly tmpOnDisk?: boolean | undefined;
  /** Calls that it takes at once; absent for one. */
  readonly perWorker?: number | undefined;
}
