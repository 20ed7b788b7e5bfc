import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { removeUnfinishedFiles, writeFileAtomically } from '../../common/atomic-file.ts';

/**
 * Epochs of later assignments than a container's labels name, for an engine that changes no label. One file for each
 * container; errors are those of the file system.
 */
export class EpochStore {
  readonly #folder: string;
  readonly #epochs = new Map<string, number>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads the files of an earlier run. */
  async load(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await removeUnfinishedFiles(this.#folder);
    this.#epochs.clear();
    for (const name of await readdir(this.#folder)) {
      const epoch = Number(await readFile(join(this.#folder, name), 'utf8'));
      if (Number.isSafeInteger(epoch)) {
        this.#epochs.set(name, epoch);
      }
    }
  }

  /** The later epoch of a container; undefined for none. */
  of(containerId: string): number | undefined {
    return this.#epochs.get(containerId);
  }

  async set(containerId: string, epoch: number): Promise<void> {
    await writeFileAtomically(join(this.#folder, containerId), String(epoch));
    this.#epochs.set(containerId, epoch);
  }

  /** Drops the epoch of a container that is gone, or replaced. */
  async forget(containerId: string): Promise<void> {
    if (this.#epochs.delete(containerId)) {
      await rm(join(this.#folder, containerId), { force: true });
    }
  }
}
