import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EsbError } from '../../src/common/errors.ts';
import { localCode } from '../common/error-codes.ts';
import type { Home } from '../common/home.ts';
import { instanceProcesses } from '../common/process-table.ts';

/**
 * Checks that this machine allows network namespaces, mounts and control groups.
 *
 * @throws {EsbError} `Unsupported` elsewhere than on Linux, `NotRoot`, each with what to do
 */
export function requireRootOnLinux(command: string): void {
  if (process.platform !== 'linux') {
    throw new EsbError(
      `a local instance needs Linux (this is ${process.platform}): it runs containerd and makes network namespaces. ` +
        'Use a virtual machine or a Linux host.',
      { code: localCode('Unsupported') },
    );
  }
  if (process.getuid?.() !== 0) {
    throw new EsbError(
      'a local instance runs containerd and makes network namespaces and control groups, which only root may. ' +
        `Run it as root, for example: sudo npm run ${command}`,
      { code: localCode('NotRoot') },
    );
  }
}

/** Homes of other instances that have processes on this machine. */
export async function otherInstances(home: Home): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir('/run')) {
    if (!/^esb-[0-9a-f]{8}$/.test(entry)) {
      continue;
    }
    const owner = await readFile(join('/run', entry, 'home'), 'utf8').catch(() => undefined);
    if (owner !== undefined && owner !== home.root && (await instanceProcesses(owner)).length > 0) {
      found.push(owner);
    }
  }
  return found;
}

/**
 * Checks that no other instance has the things of which a host has only one: the bridge, the table of rules and the
 * addresses of the first node.
 *
 * @throws {EsbError} `InstanceRunning` when another instance has them
 */
export async function requireSoleInstance(home: Home): Promise<void> {
  const [other] = await otherInstances(home);
  if (other !== undefined) {
    throw new EsbError(
      `another local instance runs on this machine, in ${other}, and there can be only one: both would want the same ` +
        `bridge and addresses. Use it with ESB_HOME=${other}, or end it with: ESB_HOME=${other} npm run down`,
      { code: localCode('InstanceRunning') },
    );
  }
}
