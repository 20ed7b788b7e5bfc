import { closeSync, fstatSync, ftruncateSync, openSync, readSync, statSync, truncateSync, writeSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EsbError, messageOf, undefinedIfNoFile, unreachable } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';

export interface LogFileState {
  readonly size: number;
  /** Bytes on the disk. */
  readonly allocated: number;
  readonly mtimeMs: number;
  /** Distinguishes this file from earlier ones of the same name. */
  readonly id: string;
}

/** The files of the workers' logs, by name. Errors are those of the file system; a missing file is `undefined`, or done. */
export interface LogFiles {
  list(): Promise<readonly string[]>;
  state(name: string): Promise<LogFileState | undefined>;
  /** At most `length` bytes from `offset`; fewer at the end of the file. */
  read(name: string, offset: number, length: number): Promise<Buffer | undefined>;
  /** Makes a file of some bytes of another one; `isDurable`: resolves when they are on the disk. */
  copy(name: string, from: number, to: number, target: string, isDurable: boolean): Promise<void>;
  /** Appends, and makes the file where there is none. */
  append(name: string, text: string): Promise<void>;
  rename(name: string, target: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Gives back the space of everything before `offset`. Later bytes keep their offsets. */
  free(name: string, offset: number): Promise<void>;
  /** Extends a file that has become shorter to `size`. */
  extend(name: string, size: number): Promise<void>;
}

/**
 * How space in front of a file is given back.
 * - `PunchHole`: by the kernel, while shims go on appending.
 * - `Truncate`: where the file system has no holes, the file is cut off and its end written again; the output of these
 *   microseconds is lost.
 */
export type FreeingMode = 'PunchHole' | 'Truncate';

const COPY_BYTES = 1024 * 1024;
const PROBE_BYTES = 64 * 1024;
const PROBE_NAME = '.probe';
/** A hole takes the kernel microseconds to milliseconds. */
const PUNCH_DEADLINE_MS = 30_000;

/** The folder of the logs on the machine. */
export class LogFolder implements LogFiles {
  readonly #folder: string;
  readonly #runner: CommandRunner;
  #mode: FreeingMode = 'PunchHole';

  constructor(folder: string, runner: CommandRunner) {
    this.#folder = folder;
    this.#runner = runner;
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  async prepare(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
  }

  /** Tries whether holes can be punched here, and sets the mode by the result. */
  async probe(): Promise<{ readonly mode: FreeingMode; readonly why?: string }> {
    try {
      await writeFile(this.path(PROBE_NAME), Buffer.alloc(PROBE_BYTES, 'x'), { mode: 0o600 });
      await this.#punch(PROBE_NAME, PROBE_BYTES / 2);
      const after = await this.read(PROBE_NAME, 0, PROBE_BYTES);
      this.#mode = after?.indexOf('x') === PROBE_BYTES / 2 ? 'PunchHole' : 'Truncate';
      return this.#mode === 'PunchHole'
        ? { mode: this.#mode }
        : { mode: this.#mode, why: 'a hole was not at its place' };
    } catch (error) {
      this.#mode = 'Truncate';
      return { mode: this.#mode, why: messageOf(error) };
    } finally {
      await rm(this.path(PROBE_NAME), { force: true }).catch(() => undefined);
    }
  }

  async list(): Promise<readonly string[]> {
    return (await undefinedIfNoFile(readdir(this.#folder))) ?? [];
  }

  async state(name: string): Promise<LogFileState | undefined> {
    const found = await undefinedIfNoFile(stat(this.path(name)));
    if (found === undefined) {
      return undefined;
    }
    const { birthtimeMs, blocks, ino, mtimeMs, size } = found;
    return { size, allocated: blocks * 512, mtimeMs, id: `${ino}:${birthtimeMs}` };
  }

  async read(name: string, offset: number, length: number): Promise<Buffer | undefined> {
    await using file = await undefinedIfNoFile(open(this.path(name), 'r'));
    const buffer = Buffer.allocUnsafe(length);
    const read = await file?.read(buffer, 0, length, offset);
    return read === undefined ? undefined : buffer.subarray(0, read.bytesRead);
  }

  async copy(name: string, from: number, to: number, target: string, isDurable: boolean): Promise<void> {
    await using source = await open(this.path(name), 'r');
    await using copy = await open(this.path(target), 'w', 0o600);
    const buffer = Buffer.allocUnsafe(Math.min(COPY_BYTES, to - from));
    for (let at = from; at < to; ) {
      const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, to - at), at);
      if (bytesRead === 0) {
        throw new EsbError(`${name} ends at ${at}, before ${to}`, { code: 'LogCutShort' });
      }
      await copy.writeFile(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    if (isDurable) {
      await copy.datasync();
    }
  }

  async append(name: string, text: string): Promise<void> {
    await writeFile(this.path(name), text, { flag: 'a', mode: 0o600 });
  }

  async rename(name: string, target: string): Promise<void> {
    await rename(this.path(name), this.path(target));
  }

  async remove(name: string): Promise<void> {
    await rm(this.path(name), { force: true });
  }

  async free(name: string, offset: number): Promise<void> {
    switch (this.#mode) {
      case 'PunchHole':
        await this.#punch(name, offset);
        break;
      case 'Truncate':
        cutOff(this.path(name), offset);
        break;
      default:
        unreachable(this.#mode);
    }
  }

  async extend(name: string, size: number): Promise<void> {
    // Synchronous, so that as little as possible is written meanwhile, as below.
    if (statSync(this.path(name)).size < size) {
      truncateSync(this.path(name), size);
    }
  }

  /** Node.js has no call for a hole; `fallocate` of util-linux, which every Debian has, makes one. */
  async #punch(name: string, length: number): Promise<void> {
    const { code, stderr } = await this.#runner.run({
      program: 'fallocate',
      args: ['--punch-hole', '--offset', '0', '--length', String(length), this.path(name)],
      signal: AbortSignal.timeout(PUNCH_DEADLINE_MS),
    });
    if (code !== 0) {
      throw new EsbError(`fallocate: ${stderr.trim() || `exit code ${String(code)}`}`, { code: 'HoleNotPunched' });
    }
  }
}

/** Synchronous, so that as little as possible is written meanwhile. */
function cutOff(path: string, offset: number): void {
  const file = openSync(path, 'r+');
  try {
    const { size } = fstatSync(file);
    const rest = Buffer.allocUnsafe(Math.max(0, size - offset));
    const length = readSync(file, rest, 0, rest.length, offset);
    ftruncateSync(file, 0);
    ftruncateSync(file, offset);
    writeSync(file, rest, 0, length, offset);
  } finally {
    closeSync(file);
  }
}
