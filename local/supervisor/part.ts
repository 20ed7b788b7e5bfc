import { createHash } from 'node:crypto';

/** The way to find out whether a part serves. */
export type HealthProbe =
  /** 200 to a GET is healthy. The certificate is checked against `authorityFile` where there is one. */
  | { readonly kind: 'http'; readonly url: string; readonly authorityFile?: string }
  /** A process that takes connections on the Unix socket is healthy. */
  | { readonly kind: 'socket'; readonly path: string };

/** One supervised background process. Plain JSON: the supervisor keeps it on disk. */
export interface PartSpec {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Added to the environment that all parts share. */
  readonly env: Readonly<Record<string, string>>;
  /** Name of its network namespace; the host's own when absent. */
  readonly namespace?: string;
  readonly logFile: string;
  readonly health: HealthProbe;
  /** Milliseconds between SIGTERM and SIGKILL. */
  readonly stopGraceMs: number;
}

/** The supervisor's report on a part. */
export interface PartStatus {
  readonly name: string;
  /** 0 when no process runs. */
  readonly pid: number;
  /** `healthy`, `starting`, `stopped`, `restarting (…)` or `failing: …`. */
  readonly health: string;
  /** Number of unasked ends. */
  readonly restarts: number;
}

/** Equal for two specs that would start the same process. */
export function partFingerprint(spec: PartSpec): string {
  return createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 16);
}
