import { EsbError } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Logger } from '../../common/logger.ts';
import { contains } from '../../common/net/ip-range.ts';
import type { AttachmentIndex } from '../attachments/attachment-index.ts';
import type { AddressClaim, ReadyRecord } from '../attachments/attachment-store.ts';
import type { NodeTable } from '../attachments/node-table.ts';
import { releaseUnclaimed, segmentsInUse } from '../attachments/segments.ts';
import { insideAddresses, insideMac, type NamespaceKeeper } from '../host/netns.ts';
import { cniTarget, INTERFACE, type NetworkSetup, type NodeSegment } from '../host/network-setup.ts';

interface NetworkAuditOptions {
  readonly book: AttachmentIndex;
  readonly namespaces: NamespaceKeeper;
  readonly runner: CommandRunner;
  readonly logger: Logger;
  readonly table: Pick<NodeTable, 'hold'>;
  /** Prefix of the names of our namespaces. */
  readonly prefix: string;
}

/** An attachment that has its addresses, also one that has lost its record. */
type Addressed = Omit<ReadyRecord, 'state'>;

/** Addresses that one line of the log names. */
const LOG_AT_MOST = 20;

/** Compares records, namespaces and reservations with each other, and mends differences. */
export class NetworkAudit {
  readonly #options: NetworkAuditOptions;

  constructor(options: NetworkAuditOptions) {
    this.#options = options;
  }

  /**
   * Settles reservations before any address is given out: namespaces that have an address get their lost reservations
   * back, and reservations of namespaces that are gone are released.
   */
  async settleReservations(setup: NetworkSetup): Promise<void> {
    const { book, logger } = this.#options;
    // Namespaces without a record may be those of workers that live: their addresses must not be given to others.
    const strays: Addressed[] = [];
    for (const name of await this.#strays()) {
      strays.push(await this.#lookInside(setup, name));
    }
    const restored = await this.#restoreReservations(setup, strays);
    const released: string[] = [];
    for (const segment of this.#segments(setup)) {
      released.push(...(await releaseUnclaimed(segment, this.#options)));
    }
    if (restored.length > 0 || released.length > 0) {
      logger.warn(
        { restored: restored.slice(0, LOG_AT_MOST), released: released.slice(0, LOG_AT_MOST) },
        `reservations did not agree with the ${book.count()} attachments: ${restored.length} put back, ${released.length} released`,
      );
    }
  }

  /**
   * Removes namespaces, reservations and results that no record has. A namespace whose address is that of a container
   * in `claims` is its attachment, and gets its record back instead.
   */
  async removeUnrecorded(setup: NetworkSetup, claims: ReadonlyMap<string, AddressClaim>): Promise<string[]> {
    const { namespaces } = this.#options;
    const removed: string[] = [];
    for (const name of await this.#strays()) {
      if (await this.#adopt(setup, name, claims)) {
        continue;
      }
      for (const segment of this.#segments(setup)) {
        await segment.cni.del(cniTarget(name, namespaces.path(name)));
      }
      await namespaces.remove(name);
      removed.push(name);
    }
    await this.#restoreReservations(setup);
    for (const segment of this.#segments(setup)) {
      removed.push(...(await this.#clearSegment(segment)));
    }
    return removed;
  }

  async #clearSegment(segment: NodeSegment): Promise<readonly string[]> {
    const { book, namespaces } = this.#options;
    const removed: string[] = [];
    // A record is made before its address is given out, so a reservation without a record has no owner.
    for (const { ip, containerId } of await segment.ipam.list()) {
      if (!book.has(containerId)) {
        if (containerId !== '') {
          await segment.cni.del(cniTarget(containerId, ''));
        }
        await segment.ipam.release(ip, containerId);
        removed.push(ip);
      }
    }
    for (const containerId of await segment.cache.list(segment.network, INTERFACE)) {
      if (!book.has(containerId)) {
        await segment.cache.remove(segment.network, containerId, INTERFACE);
      }
    }
    const valid = book.records().filter((record) => record.segment === segment.index);
    await segment.cni.gc(valid.map(({ id }) => cniTarget(id, namespaces.path(id))));
    return removed;
  }

  /** The namespaces of ours that no record has. */
  async #strays(): Promise<readonly string[]> {
    const { book, namespaces, prefix } = this.#options;
    return (await namespaces.names()).filter((name) => name.startsWith(prefix) && !book.has(name));
  }

  async #adopt(setup: NetworkSetup, name: string, claims: ReadonlyMap<string, AddressClaim>): Promise<boolean> {
    const { book, logger, runner, table } = this.#options;
    if (claims.size === 0) {
      return false;
    }
    const found = await this.#lookInside(setup, name);
    const { containerId, egress } = found.ips.map((ip) => claims.get(ip)).find((claim) => claim !== undefined) ?? {};
    if (containerId === undefined || book.idOf(containerId) !== undefined) {
      return false;
    }
    const held = egress === undefined ? undefined : { egress, mac: await insideMac(runner, name, INTERFACE) };
    const record = { ...found, state: 'Attached', containerId, held } as const;
    await book.write(record);
    await table.hold(record);
    logger.warn({ containerId, netns: name, ips: found.ips }, 'the lost record of an attachment was written again');
    return true;
  }

  /** Addresses that a namespace really has, and the bridge that they are of. */
  async #lookInside(setup: NetworkSetup, name: string): Promise<Addressed> {
    const { namespaces, runner } = this.#options;
    const segments = this.#segments(setup);
    const pinned = await namespaces.isPinned(namespaces.path(name));
    const ips = pinned ? await insideAddresses(runner, name, INTERFACE) : [];
    const segment = segments.find(({ ranges }) => ips.some((ip) => ranges.some((range) => contains(range, ip))));
    return { id: name, segment: segment?.index ?? 0, ips };
  }

  /** Writes down again which addresses attachments have, where no reservation says so. Returns the addresses. */
  async #restoreReservations(setup: NetworkSetup, strays: readonly Addressed[] = []): Promise<readonly string[]> {
    const { book } = this.#options;
    const restored: string[] = [];
    for (const segment of this.#segments(setup)) {
      const holders = new Map((await segment.ipam.list()).map(({ ip, containerId }) => [ip, containerId]));
      const recorded = book.records().filter((record) => record.state !== 'Making');
      for (const { id, ips } of [...recorded, ...strays].filter((each) => each.segment === segment.index)) {
        for (const ip of ips) {
          if (holders.get(ip) !== id && !book.isDiscarded(id) && (await this.#reserve(segment, ip, id))) {
            restored.push(ip);
          }
        }
      }
    }
    return restored;
  }

  /** Whether the reservation was missing and is there now. */
  async #reserve(segment: NodeSegment, ip: string, id: string): Promise<boolean> {
    const { book, logger } = this.#options;
    // Of another range, such as that of an earlier subnet: nothing that could be given to anybody else.
    if (!segment.ranges.some((range) => contains(range, ip))) {
      return false;
    }
    let holder = await segment.ipam.reserve(ip, id, INTERFACE);
    if (holder !== id && !book.has(holder)) {
      await segment.ipam.release(ip, holder);
      holder = await segment.ipam.reserve(ip, id, INTERFACE);
    }
    if (holder !== id) {
      logger.error(
        { err: new EsbError(`${ip} belongs to ${id} and to ${holder}`, { code: 'AddressConflict' }) },
        'an address was given out twice',
      );
      return false;
    }
    return true;
  }

  #segments(setup: NetworkSetup): readonly NodeSegment[] {
    return segmentsInUse(setup, this.#options.book);
  }
}
