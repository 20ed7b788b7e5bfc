import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, undefinedIf } from '../../common/errors.ts';
import type { WorkerAddress } from '../contract/runtime.ts';
import { HOST_MODE_IP } from './host-port.ts';

/** {@link HOST_MODE_IP} in the tables of `/proc/net`, in the byte order of both processors that ESB runs on. */
const LOOPBACK = '0100007F';
/** State of a listening socket (include/net/tcp_states.h). */
const LISTEN = '0A';

/** Whether other programs of the node may listen at this worker's address. */
export function isShared({ ip }: WorkerAddress): boolean {
  return ip === HOST_MODE_IP;
}

/**
 * Whether this process listens on a port of the node's loopback: in the network of the node another program may have
 * the port. False once the process has ended.
 *
 * @param proc folder of `/proc`
 * @throws errors of reading `/proc`: without CAP_SYS_PTRACE the sockets of other users are hidden
 */
export async function listensOn(pid: number, port: number, proc = '/proc'): Promise<boolean> {
  const folder = join(proc, String(pid));
  const table = await undefinedIf(readFile(join(folder, 'net/tcp'), 'utf8'), isGone);
  const wanted = listening(table ?? '', port);
  const names = wanted.size === 0 ? [] : await undefinedIf(readdir(join(folder, 'fd')), isGone);
  for (const name of names ?? []) {
    const link = await undefinedIf(readlink(join(folder, 'fd', name)), isGone);
    if (wanted.has(link ?? '')) {
      return true;
    }
  }
  return false;
}

/** The listening sockets of a port, in the form of descriptors' links. */
function listening(table: string, port: number): ReadonlySet<string> {
  const local = `${LOOPBACK}:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/));
  return new Set(
    rows
      .filter(([, address, , state]) => address === local && state === LISTEN)
      .map(([, , , , , , , , , inode]) => `socket:[${inode}]`),
  );
}

/** Whether a process has ended, or closed a descriptor. */
function isGone(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ESRCH' || code === 'EINVAL';
}
