import type { WorkerResources } from '../api/worker-resources.ts';

/** The part of a worker's shape that forms its runtime spec, secrets resolved. */
export interface SpecShape extends WorkerResources {
  /** Replaces the image's Entrypoint, and with it the image's Cmd, when not empty. */
  readonly command: readonly string[];
  /** Replaces the image's Cmd when not empty. */
  readonly args: readonly string[];
  readonly handler?: string;
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly readOnlyRootFilesystem: boolean;
  readonly timeoutSeconds: number;
}
