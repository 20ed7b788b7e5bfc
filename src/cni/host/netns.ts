import { open, readdir, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, undefinedIfNoFile } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { parseJson } from '../spec/cni-result.ts';
import { isObject, listOf } from '../spec/network-config.ts';
import { runNodeCommand } from './node-command.ts';

/** Type of the file system that a pinned namespace is (`NSFS_MAGIC` of linux/magic.h). */
const NSFS_MAGIC = 0x6e73_6673;

/** The folder where `ip netns` keeps namespaces by name. */
const NETNS_FOLDER = '/run/netns';

/** Network namespaces that outlive their processes, since a file is mounted on each. */
export type NamespaceKeeper = ReturnType<typeof createNamespaceKeeper>;

/** Keeps namespaces in `/run/netns` as `ip netns` does, so that all processes of the mount namespace see them. */
export function createNamespaceKeeper(runner: CommandRunner, folder = NETNS_FOLDER) {
  const run = (program: string, args: readonly string[], options: CallOptions & { readonly input?: string }) =>
    runNodeCommand(runner, program, args, { ...options, errorCode: 'NamespaceFailed' });
  const ip = (args: readonly string[], options: CallOptions): Promise<string> => run('ip', args, options);
  const path = (name: string): string => join(folder, name);
  /** Whether `ip netns` has made the folder such that what is mounted there is seen by others. */
  let isFolderMade = false;
  /** Makes a file to mount a namespace on; false where another program has taken the folder away. */
  const makeFile = async (file: string): Promise<boolean> => {
    const handle = await undefinedIfNoFile(open(file, 'wx', 0));
    await handle?.close();
    return handle !== undefined;
  };
  /** Whether a namespace is mounted there: after a reboot or a crash the bare file may be left. */
  const isPinned = async (file: string): Promise<boolean> =>
    (await undefinedIfNoFile(statfs(file)))?.type === NSFS_MAGIC;
  return {
    path,
    isPinned,
    /**
     * Makes a namespace with a loopback that is up, and without a way to these addresses. Returns its path. One program
     * makes it and sets it up, once `ip netns` has made the first one.
     */
    async create(name: string, closed: readonly string[], options: CallOptions = {}): Promise<string> {
      const file = path(name);
      const setup = { ...options, input: ['link set lo up', ...closed.map(closedRoute), ''].join('\n') };
      if (isFolderMade && (await makeFile(file))) {
        await run('unshare', [`--net=${file}`, 'ip', '-batch', '-'], setup);
      } else {
        await ip(['netns', 'add', name], options);
        isFolderMade = true;
        await run('ip', ['-n', name, '-batch', '-'], setup);
      }
      return file;
    },
    /** Makes these addresses unreachable; may be repeated. */
    async closeWays(name: string, addresses: readonly string[], options: CallOptions = {}): Promise<void> {
      const input = addresses.map((address) => `${closedRoute(address)}\n`).join('');
      await run('ip', ['-n', name, '-batch', '-'], { ...options, input });
    },
    /** Unmounts and removes it; missing is success. */
    async remove(name: string, options: CallOptions = {}): Promise<void> {
      if (await isPinned(path(name))) {
        await ip(['netns', 'delete', name], options);
      } else {
        await undefinedIfNoFile(unlink(path(name)));
      }
    },
    names: async (): Promise<readonly string[]> => (await undefinedIfNoFile(readdir(folder))) ?? [],
  };
}

function closedRoute(address: string): string {
  return `route replace unreachable ${address}`;
}

/** The addresses of an interface inside a namespace, IPv4 first, without those that every interface has. */
export async function insideAddresses(
  runner: CommandRunner,
  name: string,
  interfaceName: string,
  options: CallOptions = {},
): Promise<readonly string[]> {
  const args = ['-n', name, '-j', 'address', 'show', 'scope', 'global'];
  const text = await runNodeCommand(runner, 'ip', args, { ...options, errorCode: 'NamespaceFailed' });
  return globalAddresses(text, interfaceName).map(({ ip }) => ip);
}

/**
 * The link address of an interface inside a namespace.
 *
 * @throws {EsbError} `NamespaceFailed`
 */
export async function insideMac(runner: CommandRunner, name: string, interfaceName: string): Promise<string> {
  const args = ['-n', name, '-j', 'link', 'show', 'dev', interfaceName];
  const text = await runNodeCommand(runner, 'ip', args, { errorCode: 'NamespaceFailed' });
  const [link] = listOf(parseJson(text));
  const mac = isObject(link) ? link.address : undefined;
  if (typeof mac !== 'string' || !/^[\da-f]{2}(:[\da-f]{2}){5}$/.test(mac)) {
    throw new EsbError(`the interface ${interfaceName} in ${name} has no link address`, {
      code: 'NamespaceFailed',
      retryable: true,
    });
  }
  return mac;
}

/** Addresses of one interface in the output of `ip -j address show`, IPv4 first. */
export function globalAddresses(
  text: string,
  interfaceName: string,
): readonly { readonly ip: string; readonly prefixLength: number }[] {
  const links: unknown = text.trim() === '' ? [] : JSON.parse(text);
  const found = listOf(links).flatMap((link) => {
    const entries = isObject(link) && link.ifname === interfaceName ? link.addr_info : undefined;
    return listOf(entries).flatMap((entry) => {
      const { local, prefixlen, scope } = isObject(entry) ? entry : {};
      return typeof local === 'string' && typeof prefixlen === 'number' && scope === 'global'
        ? [{ ip: local, prefixLength: prefixlen }]
        : [];
    });
  });
  return [...found.filter(({ ip }) => !ip.includes(':')), ...found.filter(({ ip }) => ip.includes(':'))];
}
