/** Facts about a container that are still needed once its resource asks for another shape. */
export interface ContainerMake {
  readonly id: string;
  readonly shapeHash: string;
  readonly memoryMiB: number;
  readonly ephemeralStorageMiB: number;
  readonly timeoutSeconds: number;
}
