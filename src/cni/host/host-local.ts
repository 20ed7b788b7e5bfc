import { mkdir, readdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { errnoOf, undefinedIfNoFile } from '../../common/errors.ts';
import { contains, type IpRange, sizeOf } from '../../common/net/ip-range.ts';
import { NOT_GIVEN } from './network-plan.ts';

/** An address that host-local has given out. */
export interface Reservation {
  readonly ip: string;
  /** CNI container id of the holder. */
  readonly containerId: string;
}

/** The folder of host-local for one network: a file for each address, holding container id and interface. */
export class HostLocal {
  /** Absolute path of the network's own folder. */
  readonly folder: string;

  constructor(dataDir: string, network: string) {
    this.folder = join(dataDir, network);
  }

  /** Addresses given out; cheap. */
  async addresses(): Promise<readonly string[]> {
    const names = (await undefinedIfNoFile(readdir(this.folder))) ?? [];
    return names.filter((name) => isIP(name) !== 0);
  }

  /** Number of free addresses in the range that has fewest. */
  async fewestLeft(ranges: readonly IpRange[]): Promise<number> {
    const given = await this.addresses();
    const left = ranges.map(
      (range) => Number(sizeOf(range) - NOT_GIVEN) - given.filter((ip) => contains(range, ip)).length,
    );
    return Math.min(...left);
  }

  async list(): Promise<readonly Reservation[]> {
    const reservations: Reservation[] = [];
    for (const ip of await this.addresses()) {
      const containerId = await this.#holder(ip);
      if (containerId !== undefined) {
        reservations.push({ ip, containerId });
      }
    }
    return reservations;
  }

  /** Reserves an address, as host-local itself would. Returns the holder: `containerId`, or an earlier holder. */
  async reserve(ip: string, containerId: string, ifName: string): Promise<string> {
    await mkdir(this.folder, { recursive: true, mode: 0o755 });
    try {
      await writeFile(join(this.folder, ip), `${containerId}\r\n${ifName}`, { flag: 'wx', mode: 0o600 });
      return containerId;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') {
        throw error;
      }
    }
    return (await this.#holder(ip)) ?? (await this.reserve(ip, containerId, ifName));
  }

  /** Releases an address, unless another container than `containerId` holds it by now. */
  async release(ip: string, containerId: string): Promise<void> {
    if ((await this.#holder(ip)) === containerId) {
      await undefinedIfNoFile(unlink(join(this.folder, ip)));
    }
  }

  async #holder(ip: string): Promise<string | undefined> {
    // An address may have been given back since the folder was read.
    const text = await undefinedIfNoFile(readFile(join(this.folder, ip), 'utf8'));
    return text?.split(/\r?\n/)[0]?.trim();
  }
}
