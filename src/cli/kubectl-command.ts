import { type CallOptions, withDeadline } from '../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../common/errors.ts';
import { systemCommandRunner } from '../common/exec/command-runner.ts';
import type { CommandContext, LocalInstance } from './command-context.ts';

const DEADLINE_MS = 60_000;

/** The way of a command to the API server. */
export interface ClusterOptions {
  /** Default: that of the local instance, else the one that kubectl finds. */
  readonly kubeconfig?: string;
}

/** The cluster of a command. */
export interface Cluster {
  readonly kubeconfig?: string | undefined;
  readonly instance?: LocalInstance | undefined;
}

export async function clusterOf({ kubeconfig }: ClusterOptions, { openInstance }: CommandContext): Promise<Cluster> {
  return { kubeconfig, instance: await openInstance?.() };
}

/**
 * Runs kubectl, that of the local instance where there is one, and returns its output.
 *
 * @throws {EsbError} `ProgramMissing` without kubectl, `CommandFailed` with its message when it fails or cannot be run
 */
export async function kubectlText(
  args: readonly string[],
  { kubeconfig, instance }: Cluster,
  { deadlineMs = DEADLINE_MS, input, signal }: CallOptions & { readonly input?: string },
): Promise<string> {
  const file = kubeconfig ?? (await instance?.kubeconfig());
  const program = (await instance?.kubectl()) ?? 'kubectl';
  const request = {
    program,
    args: [...(file === undefined ? [] : ['--kubeconfig', file]), ...args],
    ...(input === undefined ? {} : { input }),
    // A list of workers takes some KiB for each.
    maxOutputBytes: Number.POSITIVE_INFINITY,
  };
  const what = `${program} ${args[0] ?? ''}`;
  try {
    const { code, stderr, stdout } = await withDeadline(what, deadlineMs, signal, (ended) =>
      systemCommandRunner.run({ ...request, signal: ended }),
    );
    if (code === 0) {
      return stdout;
    }
    throw new EsbError(`${what} failed:\n${stderr.trimEnd()}`, { code: 'CommandFailed' });
  } catch (error) {
    if (error instanceof EsbError) {
      throw error;
    }
    throw errnoOf(error) === 'ENOENT'
      ? new EsbError(`there is no program ${program}`, { code: 'ProgramMissing', cause: error })
      : new EsbError(`${program} cannot be run: ${messageOf(error)}`, { code: 'CommandFailed', cause: error });
  }
}

/**
 * Reads objects by `kubectl get`.
 *
 * @throws {EsbError} as {@link kubectlText}
 */
export async function kubectlObject<T>(args: readonly string[], cluster: Cluster, options: CallOptions): Promise<T> {
  return JSON.parse(await kubectlText(['get', ...args, '-o', 'json'], cluster, options)) as T;
}
