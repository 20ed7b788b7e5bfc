import { unreachable } from '../../common/errors.ts';

/*
 * A worker's log is one stream of bytes, and an offset in the stream keeps its meaning. The shim appends to the live
 * file, whose offsets are those of the stream. Rotation copies the oldest bytes of the live file to a part named after
 * the offset of its first byte, and frees their space without changing the size of the live file. Names and sizes of the
 * files are all the state: they describe the log at any moment an agent may die.
 */

/** Bytes that were moved out of the live file. `end` is the offset after the last byte. */
export interface LogPart {
  readonly start: number;
  readonly end: number;
}

/** The places of the bytes of a log. */
export interface LogLayout {
  /** Oldest first. Dropped bytes leave gaps. */
  readonly parts: readonly LogPart[];
  /** Offset of the first valid byte in the live file. */
  readonly head: number;
}

export interface LogLimits {
  /** Bytes of one file. Default 10 MiB, as the kubelet's `containerLogMaxSize`. */
  readonly maxBytes: number;
  /** Files of one log, the live one included. Default 5, as the kubelet's `containerLogMaxFiles`. */
  readonly maxFiles: number;
}

export const defaultLogLimits: LogLimits = { maxBytes: 10 * 1024 * 1024, maxFiles: 5 };

/** A file in the folder of the logs, by its name. */
export type LogFileName =
  | { readonly kind: 'Live'; readonly containerId: string }
  | { readonly kind: 'Part'; readonly containerId: string; readonly start: number }
  /** The times at which offsets were reached. */
  | { readonly kind: 'Times'; readonly containerId: string }
  /** A file that a process did not finish before its death. */
  | { readonly kind: 'Unfinished'; readonly containerId: string };

/** Digits of a part's name: names of parts sort in the order of their offsets. */
const OFFSET_DIGITS = 16;

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

/** Parses the name of a file; undefined for a foreign file. */
export function parseLogFileName(file: string): LogFileName | undefined {
  // The container id may have dots, and does not end with `.log`.
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

/** The layout by the files of a log. A part without bytes marks the head and is no part. */
export function layoutOf(found: readonly { readonly start: number; readonly size: number }[]): LogLayout {
  const parts = found.map(({ start, size }) => ({ start, end: start + size })).toSorted((a, b) => a.start - b.start);
  return {
    parts: parts.filter(({ start, end }) => end > start),
    head: Math.max(0, ...parts.map(({ end }) => end)),
  };
}

/** A file and the offsets to read from it next. */
export type LogPiece =
  | { readonly kind: 'Part'; readonly part: LogPart; readonly from: number; readonly to: number }
  | { readonly kind: 'Live'; readonly from: number };

/** The place of the first kept byte at or after `offset`. */
export function pieceAt(layout: LogLayout, offset: number): LogPiece {
  const part = layout.parts.find(({ end }) => end > offset);
  return part === undefined
    ? { kind: 'Live', from: Math.max(offset, layout.head) }
    : { kind: 'Part', part, from: Math.max(offset, part.start), to: part.end };
}

/** The offset of the oldest kept byte. */
export function firstOffset(layout: LogLayout): number {
  return layout.parts[0]?.start ?? layout.head;
}

/** The next step with a live file that has become too large. */
export type RotationStep =
  /** Remove these parts: there are too many. */
  | { readonly kind: 'Remove'; readonly parts: readonly LogPart[] }
  /** Move the whole lines between the head and this offset to a part. */
  | { readonly kind: 'Move'; readonly to: number }
  /** Drop the whole lines before this offset. */
  | { readonly kind: 'Drop'; readonly to: number };

/**
 * The next step with a log that ends at `end`. Bytes beyond the limits of the whole log are dropped without a copy. A
 * new part exists before an old one goes.
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
