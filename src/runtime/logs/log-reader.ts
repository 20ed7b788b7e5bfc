import type { EarlierLog, LogExtent, LogReading, WorkerLogReader } from '../contract/logs.ts';
import type { LogFiles } from './log-folder.ts';
import {
  firstOffset,
  formatLogFileName,
  type LogLayout,
  layoutOf,
  parseLogFileName,
  pieceAt,
} from './log-layout.ts';
import { beginsOf, keptPoints, type LogPoint, offsetAtTime, writerOf } from './log-times.ts';

/** A folder of logs that another process looks after. */
export class LogFolderReader implements WorkerLogReader {
  readonly #files: LogFiles;

  constructor(files: LogFiles) {
    this.#files = files;
  }

  async extent(containerId: string): Promise<LogExtent | undefined> {
    return await extentOf(this.#files, containerId, () => layoutInFolder(this.#files, containerId));
  }

  async readFrom(containerId: string, offset: number, maxBytes: number): Promise<LogReading> {
    const layout = (): Promise<LogLayout> => layoutInFolder(this.#files, containerId);
    return await readPiece(this.#files, containerId, layout, offset, maxBytes);
  }

  async offsetAt(containerId: string, time: number): Promise<number> {
    return offsetAtTime(await keptPoints(this.#files, containerId), time);
  }

  async begins(containerId: string): Promise<readonly number[]> {
    return beginsOf(await keptPoints(this.#files, containerId));
  }

  async newest(uid: string): Promise<string | undefined> {
    const containerIds = await this.#containerIds();
    return await newestOf(uid, containerIds, (containerId) => keptPoints(this.#files, containerId));
  }

  async before(containerId: string): Promise<EarlierLog | undefined> {
    const containerIds = await this.#containerIds();
    return await earlierOf(containerId, containerIds, (each) => keptPoints(this.#files, each));
  }

  async #containerIds(): Promise<readonly string[]> {
    return (await this.#files.list()).flatMap((file) => {
      const name = parseLogFileName(file);
      return name?.kind === 'Live' ? [name.containerId] : [];
    });
  }
}

/** The one of some logs that the worker of `containerId` wrote to last before that container. */
export async function earlierOf(
  containerId: string,
  containerIds: Iterable<string>,
  pointsOf: (containerId: string) => Promise<readonly LogPoint[]>,
): Promise<EarlierLog | undefined> {
  const own = writerOf(await pointsOf(containerId));
  let latest: (EarlierLog & { readonly since: number }) | undefined;
  for (const other of containerIds) {
    const writer = other === containerId ? undefined : writerOf(await pointsOf(other));
    const isEarlier = own !== undefined && writer?.uid === own.uid && writer.since < own.since;
    if (isEarlier && writer.since >= (latest?.since ?? 0)) {
      latest = { containerId: other, from: writer.from, since: writer.since };
    }
  }
  return latest === undefined ? undefined : { containerId: latest.containerId, from: latest.from };
}

/** The one of some logs that a worker wrote to last. */
export async function newestOf(
  uid: string,
  containerIds: Iterable<string>,
  pointsOf: (containerId: string) => Promise<readonly LogPoint[]>,
): Promise<string | undefined> {
  let newest: { readonly containerId: string; readonly since: number } | undefined;
  for (const containerId of containerIds) {
    const writer = writerOf(await pointsOf(containerId));
    if (writer?.uid === uid && writer.since >= (newest?.since ?? 0)) {
      newest = { containerId, since: writer.since };
    }
  }
  return newest?.containerId;
}

/** Looks until the layout has stopped changing under a reader; a rotation takes longer than a read. */
const MAX_ATTEMPTS = 100;

/** Where a layout comes from: memory for who rotates the log, the folder for everybody else. */
export type LayoutSource = () => LogLayout | Promise<LogLayout>;

/** The layout that the folder tells of. */
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

export async function extentOf(
  files: LogFiles,
  containerId: string,
  layout: LayoutSource,
): Promise<LogExtent | undefined> {
  const state = await files.state(formatLogFileName({ kind: 'Live', containerId }));
  if (state === undefined) {
    return undefined;
  }
  const present = await layout();
  return { id: state.id, first: firstOffset(present), end: Math.max(state.size, present.head) };
}

/** Reads while the log may be rotated. */
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
      // Removed meanwhile, and the next part is the oldest now; or cut off by somebody else.
      from = data === undefined ? from : piece.to;
      continue;
    }
    const data = await files.read(formatLogFileName({ kind: 'Live', containerId }), from, maxBytes);
    if (data === undefined) {
      break;
    }
    // A head that has moved past it meanwhile may have made zeros of what was read; a part has it now.
    if ((await layout()).head <= from) {
      return { offset: from, data };
    }
  }
  return { offset: from, data: Buffer.alloc(0) };
}
