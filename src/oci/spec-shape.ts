import type { WorkerResources } from '../api/worker-resources.ts';

/** Levels are of meaning for JSON alone. */
export interface Logging {
  readonly format: 'Text' | 'JSON';
  readonly applicationLevel: 'TRACE' | 'DEBUG' | 'INFO' | 'WARN' | 'ERROR' | 'FATAL';
  readonly systemLevel: 'DEBUG' | 'INFO' | 'WARN';
}

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
  /** Default: the image's and the user's variables decide. */
  readonly logging?: Logging | undefined;
  /** Number of the version of the function; absent for $LATEST. */
  readonly version?: number | undefined;
  /** Calls that the runtime takes at once; absent for one. */
  readonly perWorker?: number | undefined;
}
