import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { EsbError } from '../common/errors.ts';
import type { CommandContext } from './command-context.ts';

/**
 * The kubeconfig of a user who names none: that of the local instance, else that of kubectl; undefined in a Pod, which
 * has a service account.
 *
 * @throws {EsbError} `InvalidArgument` where `KUBECONFIG` names several files
 */
export async function usualKubeconfig(
  env: NodeJS.ProcessEnv,
  { openInstance }: Pick<CommandContext, 'openInstance'>,
): Promise<string | undefined> {
  if ((env.KUBERNETES_SERVICE_HOST ?? '') !== '') {
    return undefined;
  }
  const instance = await openInstance?.();
  const local = await instance?.kubeconfig();
  if (local !== undefined) {
    return local;
  }
  const [file = '', ...others] = (env.KUBECONFIG ?? '').split(delimiter).filter((each) => each !== '');
  if (others.length > 0) {
    throw new EsbError('KUBECONFIG names several files; name one with --kubeconfig', { code: 'InvalidArgument' });
  }
  return file === '' ? join(homedir(), '.kube', 'config') : file;
}
