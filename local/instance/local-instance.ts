import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { LocalInstance } from '../../src/cli/command-context.ts';
import type { Home } from '../common/home.ts';
import { openInstance, requireInstance } from './instance.ts';
import { showPartLog } from './part-log.ts';

/** The instance in `home` for the commands of operators. */
export function localInstance(home: Home): LocalInstance {
  return {
    kubeconfig: () => present(home.kubeconfig),
    kubectl: () => present(join(home.bin, 'kubectl')),
    async gateway() {
      const { gateways } = await requireInstance(home);
      return { url: gateways[0] ?? '', keyFile: home.accessKey };
    },
    async registry() {
      return (await requireInstance(home)).registry;
    },
    async workerLogs(nodeName, kubeconfig) {
      return kubeconfig === undefined || kubeconfig === home.kubeconfig
        ? await present(join(home.node(nodeName).agent, 'logs'))
        : undefined;
    },
    async showLog(name, options, write, signal) {
      const file = await logOf(home, name, signal);
      if (file === undefined) {
        return false;
      }
      await showPartLog(file, options, write, signal);
      return true;
    },
  };
}

/** The log of the supervisor or of a part of it; undefined when there is no such part. */
async function logOf(home: Home, name: string, signal: AbortSignal): Promise<string | undefined> {
  const instance = await openInstance(home);
  if (instance === undefined) {
    return undefined;
  }
  if (name === 'supervisor') {
    return join(home.logs, 'supervisor.log');
  }
  const status = await instance.supervisor.status({ signal }).catch(() => undefined);
  return status?.parts.some((part) => part.name === name) === true ? join(home.logs, `${name}.log`) : undefined;
}

async function present(path: string): Promise<string | undefined> {
  return await access(path).then(
    () => path,
    () => undefined,
  );
}
