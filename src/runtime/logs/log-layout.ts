import { unreachable } from '../../common/errors.ts';

/*
 * A worker's log is one stream of bytes, and an offset in it never means anything else later. The shim appends to the
 * live file, whose own offsets these are. Rotation copies the oldest bytes of it to a part named after the offset of
 * its first byte, and frees their space in the live file without changing its size. So the names and sizes of the
 * files are all the state there is: whatever moment an agent dies at, they say what is where.
 */

/** Bytes that were moved out of the live file. `end` is the offset after the last one. */
export interface LogPart {
  readonly start: number;
  readonly end: number;
}

/** Where the bytes of a log are. */
export interface LogLayout {
  /** Oldest first. There may be gaps between them, of what was dropped. */
  readonly parts: readonly LogPart[];
  /** The offset from which on the live file is to be read: what is before it there is void. */
  readonly head: number;
}

/** How much of a log is kept. */
export interface LogLimits {
  /** Bytes of one file. Default 10 MiB, as the kubelet's `containerLogMaxSize`. */
  readonly maxBytes: number;
  /** Files of one log, the live one included. Default 5, as the kubelet's `containerLogMaxFiles`. */
  readonly maxFiles: number;
}

export const defaultLogLimits: LogLimits = { maxBytes: 10 * 1024 * 1024, maxFiles: 5 };

export const emptyLayout: LogLayout = { parts: [], head: 0 };

/** What a file in the folder of the logs is. */
export type LogFileName =
  | { readonly kind: 'Live'; readonly containerId: string }
  | { readonly kind: 'Part'; readonly containerId: string; readonly start: number }
  /** Which offset was reached when. */
  | { readonly kind: 'Times'; readonly containerId: string }
  /** What somebody who died was about to make. */
  | { readonly kind: 'Unfinished'; readonly containerId: string };

/** Digits of a part's name: the names of a log's parts sort as they follow each other. */
const OFFSET_DIGITS = 16;

/** The name of a file. */
export function formatLogFileName(name: LogFileName): string {
  const live = `${name.containerId}.log`;
  switch (name.kind) {
    case 'Live':
      return live;
    case 'Part':
      return `${live}.${String(name.start).padStart(OFFSET_DIGITS, '0')}`;
    case 'Times':
      return `${live}.times`;
    case 'Unfinished':
      return `${live}.unfinished`;
    default:
      return unreachable(name);
  }
}

/** What a file is by its name; undefined for one that is none of ours. */
export function parseLogFileName(file: string): LogFileName | undefined {
  // The identifier itself may have dots, and ends with something else than `.log`.
  const [, containerId, suffix] = /^(.+)\.log(?:\.(.+))?$/.exec(file) ?? [];
  if (containerId === undefined) {
    return undefined;
  }
  if (suffix === undefined) {
    return { kind: 'Live', containerId };
  }
  if (suffix === 'times') {
    return { kind: 'Times', containerId };
  }
  return suffix.length === OFFSET_DIGITS && /^\d+$/.test(suffix)
    ? { kind: 'Part', containerId, start: Number(suffix) }
    : { kind: 'Unfinished', containerId };
}

/** The layout that files tell of. A part without bytes marks a head and is none. */
export function layoutOf(found: readonly { readonly start: number; readonly size: number }[]): LogLayout {
  const parts = found
    .map(({ start, size }) => ({ start, end: start + size }))
    .toSorted((a, b) => a.start - b.start);
  return {
    parts: parts.filter(({ start, end }) => end > start),
    head: Math.max(0, ...parts.map(({ end }) => end)),
  };
}

/** A file and the offsets that are to be read from it next. */
export type LogPiece =
  | { readonly kind: 'Part'; readonly part: LogPart; readonly from: number; readonly to: number }
  | { readonly kind: 'Live'; readonly from: number };

/** Where the first byte at or after `offset` is that there still is. */
export function pieceAt(layout: LogLayout, offset: number): LogPiece {
  const part = layout.parts.find(({ end }) => end > offset);
  return part === undefined
    ? { kind: 'Live', from: Math.max(offset, layout.head) }
    : { kind: 'Part', part, from: Math.max(offset, part.start), to: part.end };
}

/** The offset of the oldest byte that there still is. */
export function firstOffset(layout: LogLayout): number {
  return layout.parts[0]?.start ?? layout.head;
}

/** The next thing to do about a live file that has become too large. */
export type RotationStep =
  /** Remove these parts: there are too many of them. */
  | { readonly kind: 'Remove'; readonly parts: readonly LogPart[] }
  /** Make a part of the whole lines between the head and this offset. */
  | { readonly kind: 'Move'; readonly to: number }
  /** Give up the whole lines before this offset: they are not to be kept. */
  | { readonly kind: 'Drop'; readonly to: number };

/**
 * What to do about a log that ends at `end`. Nothing is copied only to be removed right after: of a log that has grown
 * by more than is kept at all, the rest is dropped. A new part is there before an old one goes.
 */
export function nextRotationStep(
  layout: LogLayout,
  end: number,
  { maxBytes, maxFiles }: LogLimits,
): RotationStep | undefined {
  const excess = layout.parts.length - (maxFiles - 1);
  if (excess > 0) {
    return { kind: 'Remove', parts: layout.parts.slice(0, excess) };
  }
  if (end - layout.head <= maxBytes) {
    return undefined;
  }
  if (maxFiles <= 1) {
    return { kind: 'Drop', to: end - Math.floor(maxBytes / 2) };
  }
  return end - layout.head > maxBytes * (maxFiles + 1)
    ? { kind: 'Drop', to: end - maxBytes * maxFiles }
    : { kind: 'Move', to: layout.head + maxBytes };
}
