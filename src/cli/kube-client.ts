import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { EsbError } from '../common/errors.ts';
import type { KubeClient } from '../kube/api/types.ts';
import { createKubeClient } from '../kube/client/client.ts';
import { createKubeConnectionSource } from '../kube/client/kube-config.ts';
import type { CommandContext } from './command-context.ts';

/**
 * Does something with a client of the API server, which is closed at the end.
 *
 * @throws {EsbError} `InvalidArgument` where `KUBECONFIG` names several files
 */
export async function withKubeClient<T>(
  userAgent: string,
  { kubeconfig }: { readonly kubeconfig?: string },
  context: CommandContext,
  work: (client: KubeClient) => Promise<T>,
): Promise<T> {
  const file = kubeconfig ?? (await usualKubeconfig(process.env, context));
  const client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: file }), userAgent });
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/**
 * The kubeconfig of a user who names none: that of the local instance, else that of kubectl; undefined in a Pod, which
 * has a service account.
 *
 * @throws {EsbError} `InvalidArgument` where `KUBECONFIG` names several files
 */
async function usualKubeconfig(
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
