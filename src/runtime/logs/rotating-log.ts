import { errnoOf, unreachable } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import type { LogFileState, LogFiles } from './log-folder.ts';
import {
  formatLogFileName,
  type LogLayout,
  type LogLimits,
  type LogPart,
  layoutOf,
  nextRotationStep,
  parseLogFileName,
} from './log-layout.ts';

/** Bytes that are searched at a time for the end of a line. */
const SEARCH_BYTES = 64 * 1024;
/** Bytes after which a line is cut. */
const LONGEST_LINE = 1024 * 1024;
/** Bytes by which a file may take more of the disk than its size: file systems allocate generously. */
const SLACK_BYTES = 1024 * 1024;
/**
 * Milliseconds between two parts below which a part is not forced onto the disk before its bytes leave the live file. A
 * power failure takes as young bytes of every file. During a flood of lines the disk would take seconds, in which the
 * flood goes on.
 */
const FLOOD_MS = 10_000;
const NEWLINE = 0x0a;

/** The files of one log, as found in the folder. */
export interface FoundLog {
  readonly parts: readonly { readonly start: number; readonly size: number }[];
}

export interface RotatingLogOptions {
  readonly files: LogFiles;
  readonly containerId: string;
  readonly limits: LogLimits;
  /** Parts of an earlier run. */
  readonly found: FoundLog;
  /** Milliseconds on a clock that never steps. */
  readonly monotonic: () => number;
}

/**
 * One worker's log, kept within its limits. A crash after any step leaves files that are the same log: bytes leave the
 * live file only once a part has them, and are read from the part then.
 */
export class RotatingLog {
  readonly #options: RotatingLogOptions;
  readonly #files: LogFiles;
  #layout: LogLayout;
  /** Offset before which the live file takes no space; undefined while unknown. */
  #freed: number | undefined;
  /** Starts of files without bytes, which mark the head. */
  #markers: readonly number[];
  readonly #one = new Limiter(1);
  #removed = false;
  /** Time of the last part, on `monotonic`. */
  #movedAt: number | undefined;

  constructor(options: RotatingLogOptions) {
    const { parts } = options.found;
    this.#options = options;
    this.#files = options.files;
    this.#layout = layoutOf(parts);
    this.#markers = parts.filter(({ size }) => size === 0).map(({ start }) => start);
    this.#freed = parts.length === 0 ? 0 : undefined;
  }

  get layout(): LogLayout {
    return this.#layout;
  }

  /** Rotates the live file where it is too large. Returns the log's end; undefined without a file. */
  async look(): Promise<number | undefined> {
    return await this.#one.run(() => this.#look());
  }

  /** Runs work on a file of the log while no other work is; skips the work once the log is removed. */
  async whileThere(work: () => Promise<void>): Promise<void> {
    await this.#one.run(async () => {
      if (!this.#removed) {
        await work();
      }
    });
  }

  async remove(): Promise<void> {
    await this.#one.run(async () => {
      this.#removed = true;
      // The live file first: without one, parts are no log.
      await this.#files.remove(this.#live);
      await this.#files.remove(this.#unfinished);
      await this.#files.remove(this.#name('Times'));
      await this.#removeFiles([...this.#layout.parts.map(({ start }) => start), ...this.#markers]);
      this.#layout = layoutOf([]);
      this.#markers = [];
      this.#freed = 0;
    });
  }

  get #live(): string {
    return this.#name('Live');
  }

  get #unfinished(): string {
    return this.#name('Unfinished');
  }

  #name(kind: 'Live' | 'Times' | 'Unfinished'): string {
    return formatLogFileName({ kind, containerId: this.#options.containerId });
  }

  #part(start: number): string {
    return formatLogFileName({ kind: 'Part', containerId: this.#options.containerId, start });
  }

  async #look(): Promise<number | undefined> {
    while (!this.#removed) {
      const state = await this.#files.state(this.#live);
      if (state === undefined) {
        return undefined;
      }
      if (state.size < this.#layout.head) {
        // Another program cut the file off. New bytes must not be taken for bytes that were moved out long ago.
        await this.#files.extend(this.#live, this.#layout.head);
        continue;
      }
      const step = nextRotationStep(this.#layout, state.size, this.#options.limits);
      if (step === undefined) {
        await this.#removeMarkers();
        await this.#free(state);
        return state.size;
      }
      switch (step.kind) {
        case 'Remove':
          await this.#removeParts(step.parts);
          break;
        case 'Move':
          await this.#move(step.to);
          break;
        case 'Drop':
          await this.#drop((await this.#lineEnd(this.#layout.head, step.to)) ?? step.to);
          // Frees that much disk before the rest is copied.
          await this.#free(state);
          break;
        default:
          unreachable(step);
      }
    }
    return undefined;
  }

  async #move(to: number): Promise<void> {
    const from = this.#layout.head;
    const end = (await this.#lineEnd(from, to)) ?? to;
    try {
      const now = this.#options.monotonic();
      const isDurable = this.#movedAt === undefined || now - this.#movedAt > FLOOD_MS;
      await this.#files.copy(this.#live, from, end, this.#unfinished, isDurable);
      this.#movedAt = now;
      await this.#files.rename(this.#unfinished, this.#part(from));
    } catch (error) {
      await this.#files.remove(this.#unfinished);
      if (errnoOf(error) !== 'ENOSPC') {
        throw error;
      }
      await this.#makeRoom(end);
      return;
    }
    this.#layout = { parts: [...this.#layout.parts, { start: from, end }], head: end };
    // The marker at the same offset has just become the part.
    this.#markers = this.#markers.filter((start) => start !== from);
  }

  /** Removes the oldest part on a full disk. A log that cannot be copied at all must not fill the disk. */
  async #makeRoom(end: number): Promise<void> {
    const [oldest] = this.#layout.parts;
    if (oldest === undefined) {
      await this.#drop(end);
    } else {
      await this.#removeParts([oldest]);
    }
  }

  async #drop(to: number): Promise<void> {
    await this.#files.append(this.#part(to), '');
    this.#markers = [...this.#markers, to];
    this.#layout = { parts: this.#layout.parts, head: to };
  }

  /** Removes markers that mark nothing: all but the last, and the last where a part ends at the head. */
  async #removeMarkers(): Promise<void> {
    const { parts, head } = this.#layout;
    const isNeeded = !parts.some(({ end }) => end === head);
    const former = this.#markers.filter((start) => start !== head || !isNeeded);
    if (former.length > 0) {
      this.#markers = this.#markers.filter((start) => !former.includes(start));
      await this.#removeFiles(former);
    }
  }

  async #removeParts(parts: readonly LogPart[]): Promise<void> {
    const { head } = this.#layout;
    if (parts.some(({ end }) => end === head) && !this.#markers.includes(head)) {
      // That part alone marks the head.
      await this.#drop(head);
    }
    // Readers leave the part before its file goes.
    this.#layout = { parts: this.#layout.parts.filter((part) => !parts.includes(part)), head };
    await this.#removeFiles(parts.map(({ start }) => start));
  }

  async #removeFiles(starts: readonly number[]): Promise<void> {
    for (const start of starts) {
      await this.#files.remove(this.#part(start));
    }
  }

  async #free(state: LogFileState): Promise<void> {
    const { head } = this.#layout;
    // Unknown after a restart; mostly freed already.
    const slack = Math.min(SLACK_BYTES, this.#options.limits.maxBytes / 2);
    this.#freed ??= state.allocated > state.size - head + slack ? 0 : head;
    if (this.#freed < head) {
      await this.#files.free(this.#live, head);
      this.#freed = head;
    }
  }

  /** The end of the last line that ends after `from` and not after `to`, if there is one near `to`. */
  async #lineEnd(from: number, to: number): Promise<number | undefined> {
    const least = Math.max(from, to - LONGEST_LINE);
    for (let end = to; end > least; end -= SEARCH_BYTES) {
      const begin = Math.max(least, end - SEARCH_BYTES);
      const text = await this.#files.read(this.#live, begin, end - begin);
      const at = text?.lastIndexOf(NEWLINE) ?? -1;
      if (at >= 0) {
        return begin + at + 1;
      }
    }
    return undefined;
  }
}

/** The logs in the folder, and the useless files. */
export async function findLogs(
  files: LogFiles,
): Promise<{ readonly logs: ReadonlyMap<string, FoundLog>; readonly rubbish: readonly string[] }> {
  const logs = new Map<string, { parts: { start: number; size: number }[] }>();
  const rubbish: string[] = [];
  for (const file of await files.list()) {
    const name = parseLogFileName(file);
    if (name === undefined) {
      continue;
    }
    if (name.kind === 'Unfinished') {
      rubbish.push(file);
      continue;
    }
    const log = logs.get(name.containerId) ?? { parts: [] };
    logs.set(name.containerId, log);
    if (name.kind === 'Part') {
      const state = await files.state(file);
      if (state !== undefined) {
        log.parts.push({ start: name.start, size: state.size });
      }
    }
  }
  return { logs, rubbish };
}
