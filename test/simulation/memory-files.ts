/**
 * Stands in for `node:fs` and `node:fs/promises` where the agent keeps its records and marks: files in memory, of which
 * every operation is over within the turn of the event loop. `hooks.ts` has the source import it.
 */
import { basename, dirname } from 'node:path';

/** Decides what becomes of a change of the files. */
export interface FileGuard {
  /** Whether the process that changes them is alive: a dead one changes nothing. Throws where the disk is full. */
  mayChange(path: string, grows: boolean): boolean;
  /** Whether that process is alive. A dead one keeps no file open. */
  isAlive(): boolean;
}

const files = new Map<string, string>();
/** Files as they are after a loss of power, of folders that were written through to the disk. */
const durable = new Map<string, string>();
/** Files whose content was not written through to the disk. */
const unsynced = new Set<string>();
const open = new Map<number, string>();
let nextDescriptor = 100;
let guard: FileGuard = { mayChange: () => true, isAlive: () => true };

/** For the simulation: what is there, and who guards it. */
export const memoryFiles = {
  files,
  open,
  guard(next: FileGuard): void {
    guard = next;
  },
  clear(): void {
    files.clear();
    durable.clear();
    unsynced.clear();
    open.clear();
  },
  /**
   * Leaves of all that is below a folder what the disk has after a loss of power.
   *
   * @param isKept says of each change that was not made durable whether it is there all the same
   */
  losePower(folder: string, isKept: () => boolean): void {
    for (const path of new Set([...files.keys(), ...durable.keys()])) {
      const [old, now] = [durable.get(path), files.get(path)];
      if (!path.startsWith(`${folder}/`) || now === old) {
        continue;
      }
      const left = !isKept() ? old : now !== undefined && unsynced.has(path) ? '' : now;
      put(files, path, left);
      put(durable, path, left);
    }
    unsynced.clear();
  },
};

export const constants = { O_WRONLY: 1, O_CREAT: 64, O_RDONLY: 0, O_EXCL: 128, O_TRUNC: 512 };

export function mkdirSync(): void {
  // A folder is there as soon as a file in it is.
}

export function existsSync(path: string): boolean {
  return files.has(path);
}

export function openSync(path: string, _flags?: unknown, _mode?: number): number {
  if (!files.has(path)) {
    if (guard.mayChange(path, true)) {
      files.set(path, '');
    }
  }
  nextDescriptor += 1;
  if (guard.isAlive()) {
    open.set(nextDescriptor, path);
  }
  return nextDescriptor;
}

export function closeSync(descriptor: number): void {
  open.delete(descriptor);
}

export function writeSync(descriptor: number, text: string, position: number | null = null): number {
  const path = open.get(descriptor);
  if (path === undefined) {
    if (guard.isAlive()) {
      throw errno('EBADF', 'bad file descriptor');
    }
    return text.length;
  }
  if (guard.mayChange(path, true)) {
    const old = files.get(path) ?? '';
    const at = position ?? old.length;
    files.set(path, old.slice(0, at) + text + old.slice(at + text.length));
  }
  return text.length;
}

export function readFileSync(path: string, _encoding?: string): string {
  const text = files.get(path);
  if (text === undefined) {
    throw errno('ENOENT', path);
  }
  return text;
}

export function writeFileSync(path: string, text: string): void {
  if (guard.mayChange(path, true)) {
    files.set(path, text);
    unsynced.add(path);
  }
}

export function rmSync(path: string, _options?: unknown): void {
  if (files.has(path) && guard.mayChange(path, false)) {
    files.delete(path);
  }
}

export function renameSync(from: string, to: string): void {
  const text = readFileSync(from);
  if (guard.mayChange(to, false)) {
    files.delete(from);
    files.set(to, text);
    if (unsynced.delete(from)) {
      unsynced.add(to);
    } else {
      unsynced.delete(to);
    }
  }
}

export function readdirSync(folder: string): string[] {
  return [...files.keys()].filter((path) => dirname(path) === folder).map((path) => basename(path));
}

export function mkdir(): Promise<void> {
  return Promise.resolve();
}

export async function readdir(folder: string): Promise<string[]> {
  await Promise.resolve();
  return readdirSync(folder);
}

export async function readFile(path: string, _encoding?: string): Promise<string> {
  await Promise.resolve();
  return readFileSync(path);
}

export async function writeFile(path: string, text: string): Promise<void> {
  await Promise.resolve();
  writeFileSync(path, text);
}

export async function rename(from: string, to: string): Promise<void> {
  await Promise.resolve();
  // A file that a dead process began to write is not there.
  if (files.has(from)) {
    renameSync(from, to);
  }
}

export async function rm(path: string, options?: unknown): Promise<void> {
  await Promise.resolve();
  rmSync(path, options);
}

export async function stat(path: string): Promise<{ readonly mtimeMs: number }> {
  await Promise.resolve();
  readFileSync(path);
  return { mtimeMs: 0 };
}

class Handle {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async writeFile(text: string): Promise<void> {
    await Promise.resolve();
    writeFileSync(this.#path, text);
  }

  /** Writes through to the disk: the content of a file, or the names in a folder. */
  sync(): Promise<void> {
    if (!guard.isAlive()) {
      return Promise.resolve();
    }
    unsynced.delete(this.#path);
    for (const path of new Set([...files.keys(), ...durable.keys()])) {
      if (dirname(path) === this.#path) {
        put(durable, path, unsynced.has(path) ? '' : files.get(path));
      }
    }
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

async function openFile(path: string): Promise<Handle> {
  await Promise.resolve();
  return new Handle(path);
}

export { openFile as open };

function put(texts: Map<string, string>, path: string, text: string | undefined): void {
  if (text === undefined) {
    texts.delete(path);
  } else {
    texts.set(path, text);
  }
}

function errno(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code });
}
