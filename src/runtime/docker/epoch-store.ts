import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { removeUnfinishedFiles, writeFileAtomically } from '../../common/atomic-file.ts';

/**
 * Epochs of assignments that containers were given after they had been made, for an engine that changes no label. One file
 * each; errors are those of the file system.
 */
export class EpochStore {
  readonly #folder: string;
  readonly #epochs = new Map<string, number>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads what an earlier run wrote. */
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

  /** Undefined for a container that has the one it was made with. */
  of(containerId: string): number | undefined {
    return this.#epochs.get(containerId);
  }

  async set(containerId: string, epoch: number): Promise<void> {
    await writeFileAtomically(join(this.#folder, containerId), String(epoch));
    this.#epochs.set(containerId, epoch);
  }

  /** A container is gone, or made anew. */
  async forget(containerId: string): Promise<void> {
    if (this.#epochs.delete(containerId)) {
      await rm(join(this.#folder, containerId), { force: true });
    }
  }
}
