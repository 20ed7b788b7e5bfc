import { chmod, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { undefinedIfNoFile } from '../../common/errors.ts';
import { intoFolder } from '../../common/folder.ts';

/** Lines that every `/etc/hosts` has, as container engines write them. */
const ALWAYS = `127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
`;

/** The `/etc/hosts` of a worker: the loopback, and its own name. Images of Debian and distroless have none. */
export function hostsText(ip: string, hostname: string): string {
  return `${ALWAYS}${ip}\t${hostname}\n`;
}

/** A folder with the `/etc/hosts` of each worker of the node. */
export class HostsFiles {
  readonly #folder: string;

  /** @param folder on a tmpfs: no file outlives the containers that it is mounted into */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Returns the path of the file. */
  async write(containerId: string, ip: string, hostname: string): Promise<string> {
    const path = this.#path(containerId);
    const write = (): Promise<void> => writeFile(path, hostsText(ip, hostname));
    await intoFolder({ folder: this.#folder, mode: 0o755 }, write);
    // The worker's user reads the file under any mask of the agent.
    await chmod(path, 0o644);
    return path;
  }

  /** Missing is success. */
  async remove(containerId: string): Promise<void> {
    await rm(this.#path(containerId), { force: true });
  }

  /** Removes files of containers that are not among `containerIds`, older than `before` (milliseconds since the epoch). */
  async prune(containerIds: ReadonlySet<string>, before: number): Promise<void> {
    for (const containerId of (await undefinedIfNoFile(readdir(this.#folder))) ?? []) {
      if (!containerIds.has(containerId) && (await this.#writtenAt(containerId)) < before) {
        await this.remove(containerId);
      }
    }
  }

  async #writtenAt(containerId: string): Promise<number> {
    return (await undefinedIfNoFile(stat(this.#path(containerId))))?.mtimeMs ?? Number.POSITIVE_INFINITY;
  }

  #path(containerId: string): string {
    return join(this.#folder, containerId);
  }
}
