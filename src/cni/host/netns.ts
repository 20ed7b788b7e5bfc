import { readdir, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { CallOptions } from '../../common/deadline.ts';
import { errnoOf } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { isObject } from '../spec/network-config.ts';
import { runNodeCommand } from './node-command.ts';

/** Type of the file system that a pinned namespace is (`NSFS_MAGIC` of linux/magic.h). */
const NSFS_MAGIC = 0x6e73_6673;

/** The folder where `ip netns` keeps namespaces by name. */
export const NETNS_FOLDER = '/run/netns';

/** Network namespaces that outlive their processes, since a file is mounted on each. */
export interface NamespaceKeeper {
  /** Makes a namespace and returns its path. */
  create(name: string, options?: CallOptions): Promise<string>;
  /** Unmounts and removes it; missing is success. */
  remove(name: string, options?: CallOptions): Promise<void>;
  /** Makes these addresses unreachable; may be repeated. */
  closeWays(name: string, addresses: readonly string[], options?: CallOptions): Promise<void>;
  path(name: string): string;
  /** Whether a namespace is mounted there: after a reboot or a crash the bare file may be left. */
  isPinned(path: string): Promise<boolean>;
  names(): Promise<readonly string[]>;
}

/** Keeps namespaces in `/run/netns` by `ip netns`, so that all processes of the mount namespace see them. */
export function createNamespaceKeeper(runner: CommandRunner): NamespaceKeeper {
  const path = (name: string): string => join(NETNS_FOLDER, name);
  const isPinned = async (file: string): Promise<boolean> => {
    try {
      return (await statfs(file)).type === NSFS_MAGIC;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        return false;
      }
      throw error;
    }
  };
  return {
    path,
    isPinned,
    async create(name, options = {}) {
      await runNodeCommand(runner, 'ip', ['netns', 'add', name], {
        ...options,
        errorCode: 'NamespaceFailed',
      });
      return path(name);
    },
    async closeWays(name, addresses, options = {}) {
      await runNodeCommand(runner, 'ip', ['-n', name, '-batch', '-'], {
        ...options,
        input: addresses.map((address) => `route replace unreachable ${address}\n`).join(''),
        errorCode: 'NamespaceFailed',
      });
    },
    async remove(name, options = {}) {
      const file = path(name);
      if (await isPinned(file)) {
        await runNodeCommand(runner, 'ip', ['netns', 'delete', name], {
          ...options,
          errorCode: 'NamespaceFailed',
        });
        return;
      }
      try {
        await unlink(file);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') {
          throw error;
        }
      }
    },
    async names() {
      try {
        return await readdir(NETNS_FOLDER);
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') {
          return [];
        }
        throw error;
      }
    },
  };
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

/** Addresses of one interface in the output of `ip -j address show`, IPv4 first. */
export function globalAddresses(
  text: string,
  interfaceName: string,
): readonly { readonly ip: string; readonly prefixLength: number }[] {
  const links: unknown = text.trim() === '' ? [] : JSON.parse(text);
  const found = (Array.isArray(links) ? (links as unknown[]) : []).flatMap((link) => {
    const entries: unknown = isObject(link) && link.ifname === interfaceName ? link.addr_info : undefined;
    return (Array.isArray(entries) ? (entries as unknown[]) : []).flatMap((entry) => {
      const { local, prefixlen, scope } = isObject(entry) ? entry : {};
      return typeof local === 'string' && typeof prefixlen === 'number' && scope === 'global'
        ? [{ ip: local, prefixLength: prefixlen }]
        : [];
    });
  });
  return [...found.filter(({ ip }) => !ip.includes(':')), ...found.filter(({ ip }) => ip.includes(':'))];
}
