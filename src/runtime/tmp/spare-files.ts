import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { abortable } from '../../common/deadline.ts';
import { undefinedIfNoFile } from '../../common/errors.ts';

/** Sizes of which a file is kept, those of the files removed last, and the largest such size. */
const MAX_SPARES = 2;
const MAX_SPARE_MIB = 1024;
/** Begins the names of files that no container has. */
const SPARE = '.spare';

/** Whether a file of that name is one that no container has. */
export function isSpareName(name: string): boolean {
  return name.startsWith(SPARE);
}

interface Making {
  readonly sizeMiB: number;
  /** Whether a container is to have the file. */
  isAwaited: boolean;
  readonly end: AbortController;
  /** Never rejects. */
  readonly over: Promise<void>;
}

/** Makes an empty file, or throws and leaves none. */
type MakeFile = (path: string, sizeMiB: number, signal: AbortSignal) => Promise<void>;

/** Empty files for the next containers: the program that allocates the blocks would cost a start some milliseconds. */
export class SpareFiles {
  readonly #folder: string;
  readonly #make: MakeFile;
  readonly #deadlineMs: number;
  /** Paths by size. That of the size that was removed last is the last. */
  readonly #ready = new Map<number, string>();
  #begun = 0;
  #making: Making | undefined;
  #dropping: Promise<void> | undefined;
  #isStopped = false;

  /** @param deadlineMs milliseconds for one file, since a removal waits for it: a slower disk has none */
  constructor(folder: string, make: MakeFile, deadlineMs: number) {
    this.#folder = folder;
    this.#make = make;
    this.#deadlineMs = deadlineMs;
  }

  /** Whether there is one, or one is being made. */
  get isAny(): boolean {
    return this.#ready.size > 0 || this.#making !== undefined;
  }

  /**
   * Renames one of that size, where there is one. One that is being made is waited for by one caller alone.
   *
   * @throws {AbortedError} when the signal fires meanwhile
   */
  async take(sizeMiB: number, path: string, signal?: AbortSignal): Promise<boolean> {
    const making = this.#making;
    if (making?.sizeMiB === sizeMiB && !making.isAwaited) {
      await abortable<void>('waiting for an empty file', signal, (resolve) => {
        making.isAwaited = true;
        void making.over.then(resolve);
        return () => {
          making.isAwaited = false;
        };
      });
    }
    const spare = this.#ready.get(sizeMiB);
    this.#ready.delete(sizeMiB);
    return spare !== undefined && (await undefinedIfNoFile(rename(spare, path).then(() => true))) === true;
  }

  /** Makes one of that size, unless there is one. Makes none after a stop, and one at a time. Never rejects. */
  async keep(sizeMiB: number): Promise<void> {
    const ready = this.#ready.get(sizeMiB);
    if (ready !== undefined) {
      this.#ready.delete(sizeMiB);
      this.#ready.set(sizeMiB, ready);
      return;
    }
    if (this.#isStopped || this.#making !== undefined || this.#dropping !== undefined || sizeMiB > MAX_SPARE_MIB) {
      return;
    }
    const end = new AbortController();
    this.#making = { sizeMiB, isAwaited: false, end, over: this.#makeOne(sizeMiB, end.signal) };
    await this.#making.over;
  }

  /** Removes all, those of an earlier agent too. Callers at the same time share one run. */
  async drop(): Promise<void> {
    this.#dropping ??= this.#drop().finally(() => {
      this.#dropping = undefined;
    });
    await this.#dropping;
  }

  /** Keeps none from now on: an agent of the release before knows of none. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.drop();
  }

  async #makeOne(sizeMiB: number, signal: AbortSignal): Promise<void> {
    this.#begun += 1;
    const path = join(this.#folder, `${SPARE}-${this.#begun}`);
    try {
      await this.#make(path, sizeMiB, AbortSignal.any([signal, AbortSignal.timeout(this.#deadlineMs)]));
      this.#ready.set(sizeMiB, path);
      const [oldest] = this.#ready;
      if (oldest !== undefined && this.#ready.size > MAX_SPARES) {
        this.#ready.delete(oldest[0]);
        await rm(oldest[1], { force: true });
      }
    } catch {
      // The next container of the size makes its own file, and tells what is in the way.
    } finally {
      this.#making = undefined;
    }
  }

  async #drop(): Promise<void> {
    this.#making?.end.abort();
    await this.#making?.over;
    this.#ready.clear();
    const names = (await undefinedIfNoFile(readdir(this.#folder))) ?? [];
    const spares = names.filter(isSpareName);
    await Promise.all(spares.map((name) => rm(join(this.#folder, name), { force: true })));
  }
}
