import { createHash } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { undefinedIfNoFile } from '../../common/errors.ts';
import { type EgressClass, egressOf, type HeldEgress } from '../host/egress-rules.ts';
import { parseJson } from '../spec/cni-result.ts';
import { isObject } from '../spec/network-config.ts';
import { replaceFile } from '../spec/result-cache.ts';

/**
 * One network namespace of ours and how far it has come. `id` is the name of the namespace and the CNI container id; a
 * container only borrows it, so that giving it to one is one small write.
 */
export type AttachmentRecord =
  /** Being made or removed, or left half-way by a crash. */
  | { readonly id: string; readonly state: 'Making'; readonly segment: number }
  /** Has its addresses and waits for a container. */
  | ReadyRecord
  | AttachedRecord;

export interface ReadyRecord {
  readonly id: string;
  readonly state: 'Ready';
  /** Number of the bridge that it is on. */
  readonly segment: number;
  /** IPv4 first. */
  readonly ips: readonly string[];
}

export interface AttachedRecord extends Omit<ReadyRecord, 'state'> {
  readonly state: 'Attached';
  readonly containerId: string;
  /** Absent for a container that asks for no class. */
  readonly held?: HeldEgress | undefined;
}

/** The container that an address belongs to. */
export interface AddressClaim {
  readonly containerId: string;
  readonly egress?: EgressClass | undefined;
}

/**
 * Prefix of the names of all namespaces of the agent with this state folder. Several agents may share a machine and its
 * `/run/netns`; each leaves the others' namespaces alone, also when its records are lost.
 */
export function namespacePrefix(stateDir: string): string {
  return `esb-slot-${createHash('sha256').update(resolve(stateDir)).digest('hex').slice(0, 6)}-`;
}

/**
 * The records on disk, one file each. A crash of the agent leaves them; a crash of the machine leaves no namespaces.
 */
export class AttachmentStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = join(folder, 'attachments');
  }

  /** Every record; a file that cannot be read as one counts as half-made. */
  async load(): Promise<readonly AttachmentRecord[]> {
    const names = (await undefinedIfNoFile(readdir(this.#folder))) ?? [];
    // Left by writes that a crash cut off: writes begin only after this read.
    const unfinished = names.filter((name) => name.endsWith('.tmp'));
    await Promise.all(unfinished.map((name) => rm(join(this.#folder, name), { force: true })));
    const ids = names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length));
    return Promise.all(ids.map(async (id) => readRecord(id, await readFile(this.#path(id), 'utf8'))));
  }

  async write(record: AttachmentRecord): Promise<void> {
    await replaceFile(this.#path(record.id), JSON.stringify(record));
  }

  async remove(id: string): Promise<void> {
    await rm(this.#path(id), { force: true });
  }

  #path(id: string): string {
    return join(this.#folder, `${id}.json`);
  }
}

function readRecord(id: string, text: string): AttachmentRecord {
  const document = parseJson(text);
  const { state, containerId, held, ip, ips, segment: number } = isObject(document) ? document : {};
  const segment = typeof number === 'number' ? number : 0;
  // Agents before there were several addresses wrote down one.
  const written: readonly unknown[] = Array.isArray(ips) ? (ips as unknown[]) : [ip];
  const addresses = written.filter((address) => typeof address === 'string');
  if (addresses.length === 0) {
    return { id, state: 'Making', segment };
  }
  if (state === 'Attached' && typeof containerId === 'string') {
    return { id, state, segment, ips: addresses, containerId, ...(isObject(held) ? { held: readHeld(held) } : {}) };
  }
  return state === 'Ready' ? { id, state, segment, ips: addresses } : { id, state: 'Making', segment };
}

function readHeld({ egress, mac }: Readonly<Record<string, unknown>>): HeldEgress {
  return { egress: egressOf(String(egress)), mac: String(mac) };
}
