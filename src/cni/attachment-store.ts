import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errnoOf } from '../common/errors.ts';
import { isObject } from './network-config.ts';

/**
 * One network namespace of ours and how far it has come. `id` is the name of the namespace and the CNI container id; a
 * container only borrows it, so that giving it to one is one small write.
 */
export type AttachmentRecord =
  /** Being made or removed, or left half-way by a crash. */
  | { readonly id: string; readonly state: 'Making' }
  /** Has its address and waits for a container. */
  | { readonly id: string; readonly state: 'Ready'; readonly ip: string }
  | { readonly id: string; readonly state: 'Attached'; readonly ip: string; readonly containerId: string };

/**
 * What every namespace of the agent with this state folder starts with. Several agents may share a machine and its
 * `/run/netns`; each must leave the others' alone, also when its records are lost.
 */
export function namespacePrefix(stateDir: string): string {
  return `esb-slot-${createHash('sha256').update(resolve(stateDir)).digest('hex').slice(0, 6)}-`;
}

/** The records on disk, one file each. They survive a crash of the agent; a crash of the machine leaves nothing to record. */
export class AttachmentStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = join(folder, 'attachments');
  }

  /** Every record; a file that cannot be read as one counts as half-made. */
  async load(): Promise<readonly AttachmentRecord[]> {
    let names: readonly string[];
    try {
      names = await readdir(this.#folder);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        return [];
      }
      throw error;
    }
    const ids = names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length));
    return Promise.all(ids.map(async (id) => readRecord(id, await readFile(this.#path(id), 'utf8'))));
  }

  async write(record: AttachmentRecord): Promise<void> {
    const path = this.#path(record.id);
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await writeFile(`${path}.tmp`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${path}.tmp`, path);
  }

  async remove(id: string): Promise<void> {
    await rm(this.#path(id), { force: true });
  }

  #path(id: string): string {
    return join(this.#folder, `${id}.json`);
  }
}

function readRecord(id: string, text: string): AttachmentRecord {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return { id, state: 'Making' };
  }
  if (!isObject(document) || typeof document.ip !== 'string') {
    return { id, state: 'Making' };
  }
  const { ip, state, containerId } = document;
  if (state === 'Attached' && typeof containerId === 'string') {
    return { id, state, ip, containerId };
  }
  return state === 'Ready' ? { id, state, ip } : { id, state: 'Making' };
}
