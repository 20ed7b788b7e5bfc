import { type CommandOptions, runCommand } from './command.ts';
import type { CommandContext, LocalInstance } from './command-context.ts';

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

export async function clusterOf(
  { kubeconfig }: ClusterOptions,
  { openInstance }: CommandContext,
): Promise<Cluster> {
  return { kubeconfig, instance: await openInstance?.() };
}

/** Runs kubectl, that of the local instance where there is one, and returns its output. */
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
