import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../../common/logger.ts';

/** Folder of the files, in that of what must not outlive a boot. */
export const OUTDATED_FOLDER = 'outdated';

/** A container whose process the record of its worker does not tell of. Each addition makes a new one. */
export interface Outdated {
  readonly containerId: string;
}

/**
 * Says on a tmpfs which containers get a process that their worker's record does not tell of yet. The record may be
 * slow to be written, or the disk full: an agent that starts meanwhile, and finds no runtime, must not call the address
 * in the record, which may be another worker's by now. One file for each worker, with a container in each line. Written
 * at once, since the next moment may be the last of this process; a start of the machine ends every container with it.
 */
export class OutdatedRecords {
  /** By uid of the worker. */
  readonly containers = new Map<string, readonly Outdated[]>();
  readonly #folder: string;
  readonly #logger: Logger;

  constructor(folder: string, logger: Logger) {
    this.#folder = folder;
    this.#logger = logger;
  }

  /** Reads what earlier runs have left. Errors are those of the file system. */
  load(): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    for (const uid of readdirSync(this.#folder)) {
      const containerIds = readFileSync(join(this.#folder, uid), 'utf8').split('\n');
      this.containers.set(
        uid,
        containerIds.map((containerId) => ({ containerId })),
      );
    }
  }

  add(uid: string, containerId: string): void {
    const others = (this.containers.get(uid) ?? []).filter((each) => each.containerId !== containerId);
    this.#set(uid, [...others, { containerId }]);
  }

  /**
   * A record was written.
   *
   * @param known the worker's when that record was made: the record takes back no later addition
   */
  remove(uid: string, known: readonly Outdated[]): void {
    const before = this.containers.get(uid) ?? [];
    const left = before.filter((each) => !known.includes(each));
    if (left.length < before.length) {
      this.#set(uid, left);
    }
  }

  #set(uid: string, outdated: readonly Outdated[]): void {
    const path = join(this.#folder, uid);
    try {
      if (outdated.length > 0) {
        this.containers.set(uid, outdated);
        writeFileSync(path, outdated.map(({ containerId }) => containerId).join('\n'), { mode: 0o600 });
      } else {
        this.containers.delete(uid);
        rmSync(path, { force: true });
      }
    } catch (error) {
      // Starts go on: the record has to stay unwritten, the agent killed and the runtime away for this to matter.
      this.#logger.error({ path, err: error }, 'cannot note that the process of a record is no more');
    }
  }
}
