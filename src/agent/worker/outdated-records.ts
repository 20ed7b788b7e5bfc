import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../../common/logger.ts';

/** Folder of the files, in that of what must not outlive a boot. */
export const OUTDATED_FOLDER = 'outdated';

/**
 * Says on a tmpfs which containers get a process that their worker's record does not tell of yet. The record may be
 * slow to be written, or the disk full: an agent that starts meanwhile, and finds no runtime, must not call the address
 * in the record, which may be another worker's by now. One file for each worker, with a container in each line. Written
 * at once, since the next moment may be the last of this process; a start of the machine ends every container with it.
 */
export class OutdatedRecords {
  /** Containers whose process the record of their worker does not tell of, by uid of the worker. */
  readonly containers = new Map<string, readonly string[]>();
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
      this.containers.set(uid, readFileSync(join(this.#folder, uid), 'utf8').split('\n'));
    }
  }

  add(uid: string, containerId: string): void {
    const others = (this.containers.get(uid) ?? []).filter((each) => each !== containerId);
    const containerIds = [...others, containerId];
    this.containers.set(uid, containerIds);
    this.#change(uid, (path) => writeFileSync(path, containerIds.join('\n'), { mode: 0o600 }));
  }

  /**
   * A record was written.
   *
   * @param known what {@link OutdatedRecords.containers} held when that record was made: one that was made before the
   *   last addition takes nothing back
   */
  remove(uid: string, known: readonly string[]): void {
    if (this.containers.get(uid) === known) {
      this.containers.delete(uid);
      this.#change(uid, (path) => rmSync(path, { force: true }));
    }
  }

  #change(uid: string, change: (path: string) => void): void {
    const path = join(this.#folder, uid);
    try {
      change(path);
    } catch (error) {
      // Starts go on: the record has to stay unwritten, the agent killed and the runtime away for this to matter.
      this.#logger.error({ path, err: error }, 'cannot note that the process of a record is no more');
    }
  }
}
