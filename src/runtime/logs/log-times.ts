import type { LogFiles } from './log-folder.ts';
import { formatLogFileName } from './log-layout.ts';

/*
 * The shim writes output without times. Each look at a log yields a point (time, offset): no byte before the offset was
 * written after that time. Memory keeps a point for each look. A file beside the log keeps some, one on each line:
 * `p <milliseconds> <offset>`, or `b` and at the end the uid of the worker where a container began to write.
 */

export type LogPoint = {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly offset: number;
} & ({ readonly kind: 'Looked' } | { readonly kind: 'Began'; readonly uid: string });

/** Points of a log in memory, and in its file after {@link thinned}. */
const MAX_POINTS = 128;
const MAX_BEGINS = 16;
/** Larger than any file of points. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;
/** Milliseconds between two points in the file, while the log grows. */
const KEEP_EVERY_MS = 10_000;
/** Looks without growth after which a log counts as silent. */
const STILL_LOOKS = 2;

/** The points of one log, oldest first. */
export class LogTimes {
  #points: readonly LogPoint[] = [];
  #kept: { readonly time: number; readonly offset: number } | undefined;
  /** Looks in a row without growth. */
  #stillLooks = 0;

  get points(): readonly LogPoint[] {
    return this.#points;
  }

  /** Adds a point. Returns whether the file gets the point too: now and then, and where a log falls silent. */
  add(point: LogPoint): boolean {
    const last = this.#points.at(-1);
    const isStill = last?.offset === point.offset;
    this.#stillLooks = isStill ? this.#stillLooks + 1 : 0;
    if (point.kind === 'Looked' && last?.kind === 'Looked' && isStill) {
      // The same length at a later time replaces the earlier point.
      this.#points = [...this.#points.slice(0, -1), point];
    } else {
      this.#points = thinned([...this.#points, point]);
    }
    const kept = this.#kept;
    const isNew = kept?.offset !== point.offset;
    const isLate = kept === undefined || Math.abs(point.time - kept.time) >= KEEP_EVERY_MS;
    const isDue = point.kind === 'Began' || (isNew && (isLate || this.#stillLooks === STILL_LOOKS));
    if (isDue) {
      this.#kept = point;
    }
    return isDue;
  }
}

/** One line of the file. */
export function formatLogPoint(point: LogPoint): string {
  const where = `${Math.floor(point.time)} ${point.offset}`;
  return point.kind === 'Began' ? `b ${where} ${point.uid}\n` : `p ${where}\n`;
}

/** The points of a file. Broken lines, left by a full disk, are skipped. */
export function parseLogPoints(text: string): readonly LogPoint[] {
  return text.split('\n').flatMap((line): readonly LogPoint[] => {
    const [, letter, time, offset, uid] = /^([pb]) (\d{1,15}) (\d{1,15})(?: (\S+))?$/.exec(line) ?? [];
    const where = { time: Number(time), offset: Number(offset) };
    if (letter === 'b' && uid !== undefined) {
      return [{ kind: 'Began', uid, ...where }];
    }
    return letter === 'p' && uid === undefined ? [{ kind: 'Looked', ...where }] : [];
  });
}

/** A selection of points that fits: older points lie further apart, and of the beginnings the latest stay. */
export function thinned(points: readonly LogPoint[]): readonly LogPoint[] {
  const begins = points.filter(({ kind }) => kind === 'Began');
  const looked = points.filter(({ kind }) => kind === 'Looked');
  if (begins.length <= MAX_BEGINS && looked.length <= MAX_POINTS) {
    return points;
  }
  while (looked.length > MAX_POINTS) {
    looked.splice(leastMissed(looked), 1);
  }
  const kept = new Set([...begins.slice(-MAX_BEGINS), ...looked]);
  return points.filter((point) => kept.has(point));
}

/** Index of the point with the shortest time between its neighbours, relative to its age. */
function leastMissed(points: readonly LogPoint[]): number {
  const now = points.at(-1)?.time ?? 0;
  let found = 1;
  let least = Number.POSITIVE_INFINITY;
  for (let index = 1; index < points.length - 1; index += 1) {
    const gap = (points[index + 1]?.time ?? 0) - (points[index - 1]?.time ?? 0);
    const share = gap / Math.max(1, now - (points[index]?.time ?? 0));
    if (share < least) {
      least = share;
      found = index;
    }
  }
  return found;
}

/** The offset before which no byte was written at `time` or later, as far as the points tell; 0 otherwise. */
export function offsetAtTime(points: readonly LogPoint[], time: number): number {
  return points.findLast((point) => point.time <= time)?.offset ?? 0;
}

/** Offsets at which containers began to write, oldest first. */
export function beginsOf(points: readonly LogPoint[]): readonly number[] {
  return points.filter(({ kind }) => kind === 'Began').map(({ offset }) => offset);
}

/** The last writer of a log, with the time of its beginning. */
export function writerOf(points: readonly LogPoint[]): { readonly uid: string; readonly since: number } | undefined {
  const last = points.findLast((point) => point.kind === 'Began');
  return last?.kind === 'Began' ? { uid: last.uid, since: last.time } : undefined;
}

/** Points of the file and of memory as one list. */
export function joinedPoints(kept: readonly LogPoint[], recent: readonly LogPoint[]): readonly LogPoint[] {
  const known = new Set(recent.map(formatLogPoint));
  return [...kept.filter((point) => !known.has(formatLogPoint(point))), ...recent].toSorted(
    (a, b) => a.offset - b.offset,
  );
}

/** The points in the file of a log. */
export async function keptPoints(files: LogFiles, containerId: string): Promise<readonly LogPoint[]> {
  const text = await files.read(formatLogFileName({ kind: 'Times', containerId }), 0, MAX_FILE_BYTES);
  return parseLogPoints(text?.toString('latin1') ?? '');
}
