import { readdir, readFile, unlink } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
import { errnoOf } from '../common/errors.ts';

/** An address that host-local has given out. */
export interface Reservation {
  readonly ip: string;
  /** CNI container id it was given to. */
  readonly containerId: string;
}

/** The folder of host-local for one network: a file for each address, holding container id and interface. */
export class IpamDirectory {
  /** Absolute path of the network's own folder. */
  readonly folder: string;

  constructor(dataDir: string, network: string) {
    this.folder = join(dataDir, network);
  }

  /** Addresses given out; cheap. */
  async addresses(): Promise<readonly string[]> {
    try {
      return (await readdir(this.folder)).filter(isIPv4);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        return [];
      }
      throw error;
    }
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

  /** Gives an address back, unless somebody other than `containerId` has it by now. */
  async release(ip: string, containerId: string): Promise<void> {
    if ((await this.#holder(ip)) !== containerId) {
      return;
    }
    try {
      await unlink(join(this.folder, ip));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        throw error;
      }
    }
  }

  async #holder(ip: string): Promise<string | undefined> {
    try {
      const text = await readFile(join(this.folder, ip), 'utf8');
      return text.split(/\r?\n/)[0]?.trim() ?? '';
    } catch (error) {
      // Given back since the folder was read.
      if (errnoOf(error) === 'ENOENT') {
        return undefined;
      }
      throw error;
    }
  }
}
