import type { LogExtent, LogReading, WorkerLogReader } from '../contract/logs.ts';
import type { LogFiles } from './log-folder.ts';
import { firstOffset, formatLogFileName, type LogLayout, layoutOf, parseLogFileName, pieceAt } from './log-layout.ts';
import { beginsOf, keptPoints, type LogPoint, offsetAtTime, writerOf } from './log-times.ts';

/** Sources of a reader: memory in the process that rotates the logs, the folder in every other one. */
export interface LogSources {
  readonly files: LogFiles;
  containerIds(): Promise<Iterable<string>>;
  layoutOf(containerId: string): Promise<LayoutSource>;
  pointsOf(containerId: string): Promise<readonly LogPoint[]>;
}

/** Reads logs, also while they are rotated. */
export class LogReader implements WorkerLogReader {
  readonly #sources: LogSources;

  constructor(sources: LogSources) {
    this.#sources = sources;
  }

  async extent(containerId: string): Promise<LogExtent | undefined> {
    const { files } = this.#sources;
    const layoutNow = await this.#sources.layoutOf(containerId);
    const state = await files.state(formatLogFileName({ kind: 'Live', containerId }));
    if (state === undefined) {
      return undefined;
    }
    const layout = await layoutNow();
    return { id: state.id, first: firstOffset(layout), end: Math.max(state.size, layout.head) };
  }

  async readFrom(containerId: string, offset: number, maxBytes: number): Promise<LogReading> {
    const layout = await this.#sources.layoutOf(containerId);
    return await readPiece(this.#sources.files, containerId, layout, offset, maxBytes);
  }

  async offsetAt(containerId: string, time: number): Promise<number> {
    return offsetAtTime(await this.#sources.pointsOf(containerId), time);
  }

  async begins(containerId: string): Promise<readonly number[]> {
    return beginsOf(await this.#sources.pointsOf(containerId));
  }

  async newest(uid: string): Promise<string | undefined> {
    return (await this.#writings(uid)).at(-1)?.containerId;
  }

  async before(containerId: string): Promise<string | undefined> {
    return await this.#lastOf(containerId, (since, own) => since < own);
  }

  async after(containerId: string): Promise<string | undefined> {
    return await this.#lastOf(containerId, (since, own) => since > own);
  }

  /** The last writer among the other containers of the same worker whose beginning is accepted. */
  async #lastOf(containerId: string, accepts: (since: number, own: number) => boolean): Promise<string | undefined> {
    const own = writerOf(await this.#sources.pointsOf(containerId));
    if (own === undefined) {
      return undefined;
    }
    return (await this.#writings(own.uid)).findLast(
      (each) => each.containerId !== containerId && accepts(each.since, own.since),
    )?.containerId;
  }

  /** Containers that a worker wrote with, by the time at which they began. */
  async #writings(uid: string): Promise<readonly { readonly containerId: string; readonly since: number }[]> {
    const found: { readonly containerId: string; readonly since: number }[] = [];
    for (const containerId of await this.#sources.containerIds()) {
      const writer = writerOf(await this.#sources.pointsOf(containerId));
      if (writer?.uid === uid) {
        found.push({ containerId, since: writer.since });
      }
    }
    return found.toSorted((a, b) => a.since - b.since);
  }
}

/** A reader for a folder of logs that another process rotates. */
export function logFolderReader(files: LogFiles): LogReader {
  return new LogReader({
    files,
    containerIds: async () =>
      (await files.list()).flatMap((file) => {
        const name = parseLogFileName(file);
        return name?.kind === 'Live' ? [name.containerId] : [];
      }),
    layoutOf: (containerId) => Promise.resolve(() => layoutInFolder(files, containerId)),
    pointsOf: (containerId) => keptPoints(files, containerId),
  });
}

/** Attempts of a read while the layout changes; a rotation takes longer than a read. */
const MAX_ATTEMPTS = 100;

/** Gives the present layout of a log. */
export type LayoutSource = () => LogLayout | Promise<LogLayout>;

/** The layout of a log by the files in the folder. */
export async function layoutInFolder(files: LogFiles, containerId: string): Promise<LogLayout> {
  const found: { start: number; size: number }[] = [];
  for (const file of await files.list()) {
    const name = parseLogFileName(file);
    if (name?.kind === 'Part' && name.containerId === containerId) {
      const state = await files.state(file);
      if (state !== undefined) {
        found.push({ start: name.start, size: state.size });
      }
    }
  }
  return layoutOf(found);
}

/** Reads bytes that follow each other from one file of a log, while the log may be rotated. */
export async function readPiece(
  files: LogFiles,
  containerId: string,
  layout: LayoutSource,
  offset: number,
  maxBytes: number,
): Promise<LogReading> {
  let from = offset;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const piece = pieceAt(await layout(), from);
    from = piece.from;
    if (piece.kind === 'Part') {
      const name = formatLogFileName({ kind: 'Part', containerId, start: piece.part.start });
      const length = Math.min(maxBytes, piece.to - from);
      const data = await files.read(name, from - piece.part.start, length);
      if (data !== undefined && data.length > 0) {
        return { offset: from, data };
      }
      // The part was removed, and the next part is the oldest now; or another program cut the part off.
      from = data === undefined ? from : piece.to;
      continue;
    }
    const data = await files.read(formatLogFileName({ kind: 'Live', containerId }), from, maxBytes);
    if (data === undefined) {
      break;
    }
    // A head that has moved on may have turned the bytes into zeros; a part has them now.
    if ((await layout()).head <= from) {
      return { offset: from, data };
    }
  }
  return { offset: from, data: Buffer.alloc(0) };
}
