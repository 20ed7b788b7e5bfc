import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EsbError, errnoOf, messageOf } from '../common/errors.ts';
import type { CommandRunner } from './command-runner.ts';
import { runNodeCommand } from './node-command.ts';

/** Whether the node passes packets on between its interfaces; belongs to the network namespace of this process. */
export interface IpForward {
  read(): Promise<string>;
  write(value: string): Promise<void>;
}

const PATH = '/proc/sys/net/ipv4/ip_forward';

export function createIpForward(): IpForward {
  return {
    read: async () => (await readFile(PATH, 'utf8')).trim(),
    write: (value) => writeFile(PATH, value),
  };
}

/** That of another network namespace, one that `runner` runs its programs in. */
export function createRemoteIpForward(runner: CommandRunner): IpForward {
  const shell = (script: string, input = ''): Promise<string> =>
    runNodeCommand(runner, 'sh', ['-c', script], { input, errorCode: 'ForwardingFailed' });
  return {
    read: async () => (await shell(`cat ${PATH}`)).trim(),
    write: async (value) => {
      await shell(`cat > ${PATH}`, value);
    },
  };
}

/** Where the value from before us is kept, in the `cni` folder of the agent's state. */
export function ipForwardBeforePath(cniFolder: string): string {
  return join(cniFolder, 'ip-forward-before');
}

/** Switches forwarding on. The value from before is kept, once, so that {@link restoreIpForward} can put it back. */
export async function enableIpForward(ipForward: IpForward, cniFolder: string): Promise<void> {
  try {
    const before = await ipForward.read();
    await mkdir(cniFolder, { recursive: true, mode: 0o700 });
    try {
      await writeFile(ipForwardBeforePath(cniFolder), before, { flag: 'wx', mode: 0o600 });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') {
        throw error;
      }
    }
    if (before !== '1') {
      await ipForward.write('1');
    }
  } catch (error) {
    throw new EsbError(`cannot switch net.ipv4.ip_forward on: ${messageOf(error)}`, {
      code: 'ForwardingFailed',
      retryable: true,
      cause: error,
    });
  }
}

/** Puts back what {@link enableIpForward} found; does nothing when it never ran. */
export async function restoreIpForward(ipForward: IpForward, cniFolder: string): Promise<void> {
  const path = ipForwardBeforePath(cniFolder);
  let before: string;
  try {
    before = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return;
    }
    throw error;
  }
  if (before === '0' || before === '1') {
    await ipForward.write(before);
  }
  await rm(path, { force: true });
}
