import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** Notes of the workers themselves about one call. */
export interface Executions {
  readonly began: number;
  readonly ended: number;
  /** Longest time in milliseconds for which its worker did not run in the middle of it. */
  readonly stalledMs: number;
}

const LOOK_EVERY_MS = 250;
/** A log that was removed is read for so long: its writer may still be ending. */
const GRACE_MS = 5_000;
const line = /\b(began|ended) (call-[0-9a-z-]+)(?: (\d+))?/;
const none: Executions = { began: 0, ended: 0, stalledMs: 0 };

interface Log {
  readonly file: FileHandle;
  offset: number;
  rest: string;
  goneSince: number | undefined;
}

/**
 * Reads the logs of all workers as they are written, and those of containers that are removed to their end: it holds
 * them open. So each run of a call is counted by the side that ran it.
 */
export class Journal {
  readonly #folders: readonly string[];
  /** By device and inode: a log that is made again under its name is another one. */
  readonly #logs = new Map<string, Log>();
  readonly #calls = new Map<string, Executions>();
  readonly #watchers: FSWatcher[] = [];
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #again = false;

  constructor(folders: readonly string[]) {
    this.#folders = folders;
  }

  async start(): Promise<void> {
    for (const folder of this.#folders) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      this.#watchers.push(watch(folder, () => void this.look()));
    }
    this.#timer = setInterval(() => void this.look(), LOOK_EVERY_MS);
  }

  /** Reads everything that is there now. */
  look(): Promise<void> {
    if (this.#looking !== undefined) {
      this.#again = true;
      // The one under way may be past what is there now; the next one has begun by then.
      return this.#looking.then(() => this.#looking);
    }
    this.#looking = this.#lookOnce().finally(() => {
      this.#looking = undefined;
      if (this.#again) {
        this.#again = false;
        void this.look();
      }
    });
    return this.#looking;
  }

  executions(id: string): Executions {
    return this.#calls.get(id) ?? none;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    for (const watcher of this.#watchers) {
      watcher.close();
    }
    await this.#looking;
    await this.look();
    await Promise.all([...this.#logs.values()].map(({ file }) => file.close()));
    this.#logs.clear();
  }

  async #lookOnce(): Promise<void> {
    for (const folder of this.#folders) {
      for (const name of await readdir(folder, { recursive: true }).catch(() => [])) {
        await this.#open(join(folder, name));
      }
    }
    for (const [inode, log] of this.#logs) {
      await this.#read(inode, log);
    }
  }

  async #open(path: string): Promise<void> {
    const file = await open(path, 'r').catch(() => undefined);
    if (file === undefined) {
      return;
    }
    const found = await file.stat();
    const inode = `${found.dev}:${found.ino}`;
    if (!found.isFile() || this.#logs.has(inode)) {
      await file.close();
      return;
    }
    this.#logs.set(inode, { file, offset: 0, rest: '', goneSince: undefined });
  }

  async #read(inode: string, log: Log): Promise<void> {
    const { size, nlink } = await log.file.stat();
    while (log.offset < size) {
      const buffer = Buffer.alloc(Math.min(size - log.offset, 1 << 16));
      const { bytesRead } = await log.file.read(buffer, 0, buffer.length, log.offset);
      if (bytesRead === 0) {
        break;
      }
      log.offset += bytesRead;
      const lines = (log.rest + buffer.toString('latin1', 0, bytesRead)).split('\n');
      log.rest = lines.pop() ?? '';
      for (const each of lines) {
        this.#count(each);
      }
    }
    if (nlink > 0) {
      return;
    }
    log.goneSince ??= performance.now();
    if (performance.now() - log.goneSince > GRACE_MS) {
      this.#logs.delete(inode);
      await log.file.close();
    }
  }

  #count(text: string): void {
    const [, what, id, stalled] = line.exec(text) ?? [];
    if (id === undefined) {
      return;
    }
    const before = this.#calls.get(id) ?? none;
    this.#calls.set(
      id,
      what === 'began'
        ? { ...before, began: before.began + 1 }
        : {
            ...before,
            ended: before.ended + 1,
            stalledMs: Math.max(before.stalledMs, Number(stalled ?? 0)),
          },
    );
  }
}
