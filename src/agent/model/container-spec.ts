/** What a container is made of, as far as it has to be known once its resource asks for something else. */
export interface ContainerMake {
  readonly id: string;
  readonly shapeHash: string;
  readonly memoryMiB: number;
  readonly ephemeralStorageMiB: number;
  readonly timeoutSeconds: number;
}
