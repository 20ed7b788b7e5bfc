import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EsbError, errnoOf, messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { IpFamily } from '../../common/net/ip-range.ts';
import { runNodeCommand } from './node-command.ts';

/** Whether the node passes packets of one family on between its interfaces; belongs to one network namespace. */
export interface IpForward {
  read(): Promise<string>;
  write(value: string): Promise<void>;
}

/** Gives the setting for a family. */
export type IpForwardOf = (family: IpFamily) => IpForward;

const SETTING = { 4: 'net.ipv4.ip_forward', 6: 'net.ipv6.conf.all.forwarding' } as const;
const IPV6_INTERFACES = '/proc/sys/net/ipv6/conf';

/** The settings of the network namespace of this process. */
export const localIpForward: IpForwardOf = (family) => ({
  read: async () => (await readFile(pathOf(family), 'utf8')).trim(),
  async write(value) {
    if (family === 6 && value === '1') {
      await keepRouterAdvertisements();
    }
    await writeFile(pathOf(family), value);
  },
});

/** The settings of another network namespace, in which `runner` runs its programs. */
export function remoteIpForward(runner: CommandRunner): IpForwardOf {
  const shell = (script: string, input = ''): Promise<string> =>
    runNodeCommand(runner, 'sh', ['-c', script], { input, errorCode: 'ForwardingFailed' });
  return (family) => ({
    read: async () => (await shell(`cat ${pathOf(family)}`)).trim(),
    write: async (value) => {
      await shell(`cat > ${pathOf(family)}`, value);
    },
  });
}

/** Where the value from before us is kept, in the `cni` folder of the agent's state. */
function beforePath(cniFolder: string, family: IpFamily): string {
  return join(cniFolder, family === 4 ? 'ip-forward-before' : 'ipv6-forward-before');
}

/** Switches forwarding on. The value from before is kept, once, so that {@link restoreIpForward} can put it back. */
export async function enableIpForward(ipForward: IpForward, cniFolder: string, family: IpFamily): Promise<void> {
  try {
    const before = await ipForward.read();
    await mkdir(cniFolder, { recursive: true, mode: 0o700 });
    await writeFile(beforePath(cniFolder, family), before, { flag: 'wx', mode: 0o600 }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') {
        throw error;
      }
    });
    if (before !== '1') {
      await ipForward.write('1');
    }
  } catch (error) {
    throw new EsbError(`cannot switch ${SETTING[family]} on: ${messageOf(error)}`, {
      code: 'ForwardingFailed',
      cause: error,
    });
  }
}

/**
 * Puts back the setting that {@link enableIpForward} found, if any. Other programs of the node may rely on forwarding
 * by now, so forwarding is switched off only where the node has no second interface to forward between.
 *
 * @param others interfaces of the node that are up, the loopback and ours left out
 */
export async function restoreIpForward(
  ipForward: IpForward,
  cniFolder: string,
  family: IpFamily,
  others: number,
): Promise<void> {
  const path = beforePath(cniFolder, family);
  const before = await undefinedIfNoFile(readFile(path, 'utf8'));
  if (before?.trim() === '0' && others < 2) {
    await ipForward.write('0');
  }
  await rm(path, { force: true });
}

/**
 * Lets a node that forwards IPv6 go on to take routes from routers (`accept_ra` 2); otherwise the node loses its own
 * way out. Without forwarding, 2 means the same as 1, so nothing has to be put back.
 */
async function keepRouterAdvertisements(): Promise<void> {
  for (const name of await readdir(IPV6_INTERFACES)) {
    const path = join(IPV6_INTERFACES, name, 'accept_ra');
    // The interface may go meanwhile.
    const value = await undefinedIfNoFile(readFile(path, 'utf8'));
    if (value?.trim() === '1') {
      await undefinedIfNoFile(writeFile(path, '2'));
    }
  }
}

function pathOf(family: IpFamily): string {
  return `/proc/sys/${SETTING[family].replaceAll('.', '/')}`;
}
