import { constants } from 'node:fs';
import { type FileHandle, open, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { errnoOf } from '../../common/errors.ts';

export interface OutputProbeOptions {
  readonly logs: {
    size(containerId: string): Promise<number>;
    read(containerId: string, offset: number, maxBytes: number): Promise<Buffer>;
  };
  readonly clock: Clock;
  /** Default `/proc`. */
  readonly procFolder?: string | undefined;
}

/** A shim copies within a millisecond; on a machine that has much else to do it may take far longer. */
const ARRIVE_MS = 3_000;
const LOOK_EVERY_MS = 20;
/** Of a log that grows meanwhile, how much is looked through at once. */
const READ_BYTES = 1024 * 1024;
/** What a pipe holds, unless somebody has changed that. */
const PIPE_BYTES = 64 * 1024;

const streams = [
  { descriptor: 1, name: 'stdout' },
  { descriptor: 2, name: 'stderr' },
] as const;

interface Stream {
  readonly path: string;
  readonly pipe: string;
  readonly handle: FileHandle;
  readonly note: Buffer;
  written: boolean;
  arrived: boolean;
}

/**
 * Finds out whether what a worker writes still comes to its log. The shim copies each of its two pipes into the file,
 * and for good stops to copy one whose copy failed, as on a full disk. It keeps the pipe open all the same: once that is
 * full, the worker stands still in the middle of a call. From outside such a pipe looks like any other, so a line is
 * written into it and waited for in the log, where it says, too, why something may be missing.
 */
export class OutputProbe {
  readonly #options: OutputProbeOptions;
  readonly #proc: string;

  constructor(options: OutputProbeOptions) {
    this.#options = options;
    this.#proc = options.procFolder ?? '/proc';
  }

  /**
   * Whether anything of what a worker writes does not come to its log. False, too, when it ends meanwhile, and for what it
   * has sent elsewhere itself.
   *
   * @param pid its first process, frozen or not
   */
  async isLost(containerId: string, pid: number, signal?: AbortSignal): Promise<boolean> {
    const opened: Stream[] = [];
    try {
      for (const { descriptor, name } of streams) {
        const stream = await this.#open(containerId, pid, descriptor, name);
        if (stream !== undefined && opened.every(({ pipe }) => pipe !== stream.pipe)) {
          opened.push(stream);
        }
      }
      return opened.length > 0 && (await this.#isLost(containerId, opened, signal));
    } finally {
      await Promise.all(opened.map(({ handle }) => handle.close()));
    }
  }

  async #isLost(
    containerId: string,
    opened: readonly Stream[],
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { clock, logs } = this.#options;
    const begun = await logs.size(containerId);
    const end = clock.monotonic() + ARRIVE_MS;
    const overlap = Math.max(...opened.map(({ note }) => note.length));
    let from = begun;
    for (;;) {
      for (const stream of opened) {
        stream.written ||= await write(stream);
      }
      // What comes after the size that is read here is looked at by the next turn.
      const size = await logs.size(containerId);
      const text = size > from ? await logs.read(containerId, from, READ_BYTES) : Buffer.alloc(0);
      for (const stream of opened) {
        stream.arrived ||= stream.written && text.includes(stream.note);
      }
      if (opened.every(({ arrived }) => arrived)) {
        return false;
      }
      if (clock.monotonic() >= end) {
        break;
      }
      from = Math.max(begun, size - overlap);
      await sleep(clock, LOOK_EVERY_MS, signal);
    }
    const grown = (await logs.size(containerId)) - begun;
    for (const { arrived, path, pipe, written } of opened) {
      // A pipe that never had room, and is emptied all the same, is that of a flood.
      const lost = !arrived && (written || grown < PIPE_BYTES);
      if (lost && (await readlink(path).catch(() => '')) === pipe) {
        return true;
      }
    }
    return false;
  }

  async #open(
    containerId: string,
    pid: number,
    descriptor: number,
    name: string,
  ): Promise<Stream | undefined> {
    const path = join(this.#proc, String(pid), 'fd', String(descriptor));
    try {
      const pipe = await readlink(path);
      const cgroup = await readFile(join(this.#proc, String(pid), 'cgroup'), 'utf8');
      // Another process may have got its number, and it may have put anything there.
      if (!/^pipe:\[\d+\]$/.test(pipe) || !cgroup.includes(containerId)) {
        return undefined;
      }
      const handle = await open(path, constants.O_WRONLY | constants.O_NONBLOCK);
      const note = Buffer.from(
        `[esb] the disk of the node was full: some of ${name} may be missing before this line\n`,
      );
      return { path, pipe, handle, note, written: false, arrived: false };
    } catch (error) {
      const code = errnoOf(error);
      if (code === 'ENOENT' || code === 'ESRCH' || code === 'ENXIO' || code === 'EACCES') {
        // It has ended, or its shim has.
        return undefined;
      }
      throw error;
    }
  }
}

/** Writes the note, all of it or nothing, without waiting for room. Whether it is in the pipe now. */
async function write({ handle, note }: Stream): Promise<boolean> {
  try {
    await handle.write(note);
    return true;
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EAGAIN' || code === 'EPIPE') {
      return false;
    }
    throw error;
  }
}
