import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { openHome } from '../../local/common/home.ts';
import { type CommandOptions, runCommand } from './command.ts';

/** How a command for people reaches the API server. */
export interface ClusterOptions {
  /** Default: that of the local instance, else what kubectl finds by itself. */
  readonly kubeconfig?: string;
}

/** Runs kubectl, that of the local instance where there is one, and gives what it writes. */
export async function kubectlText(
  args: readonly string[],
  { kubeconfig }: ClusterOptions,
  options: CommandOptions,
): Promise<string> {
  const home = openHome();
  const hasInstance = await exists(home.kubeconfig);
  const file = kubeconfig ?? (hasInstance ? home.kubeconfig : undefined);
  const program = (await exists(join(home.bin, 'kubectl'))) ? join(home.bin, 'kubectl') : 'kubectl';
  const { stdout } = await runCommand(
    program,
    [...(file === undefined ? [] : ['--kubeconfig', file]), ...args],
    options,
  );
  return stdout;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
