import { type CommandOptions, runCommand } from './command.ts';
import type { CommandContext, LocalInstance } from './command-context.ts';

/** How a command for people reaches the API server. */
export interface ClusterOptions {
  /** Default: that of the local instance, else what kubectl finds by itself. */
  readonly kubeconfig?: string;
}

/** The cluster that a command is about. */
export interface Cluster {
  readonly kubeconfig?: string | undefined;
  readonly instance?: LocalInstance | undefined;
}

export async function clusterOf(
  { kubeconfig }: ClusterOptions,
  { openInstance }: CommandContext,
): Promise<Cluster> {
  return { kubeconfig, instance: await openInstance?.() };
}

/** Runs kubectl, that of the local instance where there is one, and gives what it writes. */
export async function kubectlText(
  args: readonly string[],
  { kubeconfig, instance }: Cluster,
  options: CommandOptions,
): Promise<string> {
  const file = kubeconfig ?? (await instance?.kubeconfig());
  const program = (await instance?.kubectl()) ?? 'kubectl';
  const { stdout } = await runCommand(
    program,
    [...(file === undefined ? [] : ['--kubeconfig', file]), ...args],
    options,
  );
  return stdout;
}
