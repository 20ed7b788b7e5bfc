import { EsbError } from '../../common/errors.ts';
import type { LogExtent, WorkerLogReader } from '../../runtime/contract/logs.ts';
import { callBefore, InvocationSplitter, type LogSpan } from './invocation-splitter.ts';

/** A selection of a log. */
export interface LogQuery {
  /** Lines from the end; 0 for all. */
  readonly tailLines: number;
  /** Only output of this time or later, in milliseconds since the epoch; 0 for all. */
  readonly sinceMs: number;
  /** Only output of this call; empty for all. */
  readonly requestId: string;
  /** The output of the container that failed to replace the present one, or else of the one before. */
  readonly previous: boolean;
}

/** A span, with the bytes right before it that were removed before they could be read. */
export interface FoundSpan extends LogSpan {
  readonly missed: number;
}

/** Consumer of spans; reading goes on once the promise has resolved. */
export type SpanSink = (span: FoundSpan) => Promise<void>;

const READ_BYTES = 256 * 1024;
/** Bound of the output of one call that is held for its last lines. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;

/**
 * Reads one log by a query: first the present output, by {@link LogCursor.begin}, then new output, by {@link
 * LogCursor.readOn}.
 */
export class LogCursor {
  readonly #logs: WorkerLogReader;
  #containerId: string;
  readonly #query: LogQuery;
  readonly #splitter: InvocationSplitter;
  #id = '';
  #offset = 0;
  #missed = 0;
  #isComplete = false;

  /** @param several whether several calls at once are in the worker */
  constructor(logs: WorkerLogReader, containerId: string, query: LogQuery, several = false) {
    this.#splitter = new InvocationSplitter(several);
    this.#logs = logs;
    this.#containerId = containerId;
    this.#query = query;
  }

  /** Whether the selection is complete: the requested call has ended. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /**
   * Passes the present output to `sink`. A missing log is empty.
   *
   * @throws {EsbError} `NotFound` when the container before this one is requested and there was none
   */
  async begin(sink: SpanSink): Promise<void> {
    const { tailLines, requestId } = this.#query;
    const extent = await this.#logs.extent(this.#containerId);
    if (extent === undefined) {
      return;
    }
    const [from, end] = await this.#range(extent);
    this.#id = extent.id;
    if (requestId !== '' && tailLines > 0) {
      await this.#lastOfCall(from, end, sink);
      return;
    }
    this.#offset = tailLines > 0 ? await this.#tailStart(from, end) : from;
    if (this.#offset > from) {
      const { offset, data } = await this.#logs.readFrom(this.#containerId, this.#offset, READ_BYTES);
      this.#splitter.start(this.#offset, offset === this.#offset ? callBefore(data) : '');
    }
    await this.#readTo(end, sink);
  }

  /** Passes new output to `sink`. An incomplete line is held back until a call finds nothing new. */
  async readOn(sink: SpanSink): Promise<void> {
    const extent = await this.#logs.extent(this.#containerId);
    if (extent === undefined) {
      return;
    }
    if (extent.id !== this.#id) {
      // The log was removed, and another one has begun.
      await this.end(sink);
      this.#id = extent.id;
      this.#offset = extent.first;
    }
    if (extent.end > this.#offset) {
      await this.#readTo(extent.end, sink);
    } else {
      await this.end(sink);
    }
  }

  /** Passes an incomplete last line to `sink`. */
  async end(sink: SpanSink): Promise<void> {
    await this.#give(this.#splitter.flush(), sink);
  }

  async #range(extent: LogExtent): Promise<readonly [from: number, end: number]> {
    const { previous, sinceMs } = this.#query;
    let from = extent.first;
    let { end } = extent;
    if (previous) {
      const failed = await this.#logs.after(this.#containerId);
      const begins = failed === undefined ? await this.#logs.begins(this.#containerId) : [];
      const [before, present] = begins.slice(-2);
      if (before === undefined || present === undefined || present <= extent.first) {
        [from, end] = await this.#rangeOf(failed ?? (await this.#logs.before(this.#containerId)));
      } else {
        from = Math.max(from, before);
        end = Math.min(end, present);
      }
    }
    if (sinceMs > 0) {
      from = Math.min(end, Math.max(from, await this.#logs.offsetAt(this.#containerId, sinceMs)));
    }
    return [from, end];
  }

  /** Last output of another container, which has a log of its own. An attempt without output yet does not count. */
  async #rangeOf(other: string | undefined): Promise<readonly [from: number, end: number]> {
    const extent = other === undefined ? undefined : await this.#logs.extent(other);
    if (other === undefined || extent === undefined) {
      throw new EsbError('no container before the present one has left a log', { code: 'NotFound' });
    }
    this.#containerId = other;
    const begins = await this.#logs.begins(other);
    return [Math.max(extent.first, begins.findLast((offset) => offset < extent.end) ?? 0), extent.end];
  }

  /** The offset of the last lines. */
  async #tailStart(from: number, end: number): Promise<number> {
    let wanted = this.#query.tailLines;
    for (let to = end; to > from; ) {
      const begin = Math.max(from, to - READ_BYTES);
      const text = await this.#readRange(begin, to);
      // A newline at the very end closes the last line and begins none.
      for (let at = text.length - (to === end ? 2 : 1); at >= 0; at -= 1) {
        if (text[at] === NEWLINE) {
          wanted -= 1;
          if (wanted === 0) {
            return to - text.length + at + 1;
          }
        }
      }
      if (text.length < to - begin) {
        return to - text.length;
      }
      to = begin;
    }
    return from;
  }

  /** The kept bytes of a range; its beginning may be gone. */
  async #readRange(from: number, to: number): Promise<Buffer> {
    let pieces: Buffer[] = [];
    for (let at = from; at < to; ) {
      const { offset, data } = await this.#logs.readFrom(this.#containerId, at, to - at);
      if (offset > at) {
        pieces = [];
      }
      if (data.length === 0 || offset >= to) {
        break;
      }
      pieces.push(data);
      at = offset + data.length;
    }
    return Buffer.concat(pieces);
  }

  async #readTo(end: number, sink: SpanSink): Promise<void> {
    while (this.#offset < end && !this.#isComplete) {
      const { offset, data } = await this.#logs.readFrom(
        this.#containerId,
        this.#offset,
        Math.min(READ_BYTES, end - this.#offset),
      );
      if (data.length === 0) {
        break;
      }
      const spans = this.#splitter.push(data, offset);
      const gap = offset - this.#offset;
      this.#offset = offset + data.length;
      const behind = spans.findIndex((span) => span.offset >= offset);
      await this.#give(behind === -1 ? spans : spans.slice(0, behind), sink);
      this.#missed += gap;
      await this.#give(behind === -1 ? [] : spans.slice(behind), sink);
    }
  }

  async #give(spans: readonly LogSpan[], sink: SpanSink): Promise<void> {
    const { requestId } = this.#query;
    for (const span of spans) {
      if (this.#isComplete || (requestId !== '' && span.requestId !== requestId)) {
        continue;
      }
      const missed = this.#missed;
      this.#missed = 0;
      this.#isComplete = requestId !== '' && span.isLast;
      await sink({ ...span, missed });
    }
  }

  async #lastOfCall(from: number, end: number, sink: SpanSink): Promise<void> {
    const spans: FoundSpan[] = [];
    let held = 0;
    this.#offset = from;
    const hold = (span: FoundSpan): Promise<void> => {
      spans.push({ ...span, data: Buffer.from(span.data) });
      held += span.data.length;
      while (held > MAX_HELD_BYTES && spans.length > 1) {
        held -= spans.shift()?.data.length ?? 0;
      }
      return Promise.resolve();
    };
    await this.#readTo(end, hold);
    const text = Buffer.concat(spans.map(({ data }) => data));
    const last = lastLines(text, this.#query.tailLines);
    const final = spans.at(-1);
    if (final !== undefined) {
      const offset = final.offset + final.data.length - last.length;
      await sink({ ...final, data: last, offset });
    }
  }
}

/** The last `count` lines of `text`; all of it for 0. */
export function lastLines(text: Buffer, count: number): Buffer {
  if (count <= 0) {
    return text;
  }
  // A newline at the very end closes the last line and begins none.
  let at = text.at(-1) === NEWLINE ? text.length - 1 : text.length;
  for (let line = 0; line < count; line += 1) {
    at = at === 0 ? -1 : text.lastIndexOf(NEWLINE, at - 1);
    if (at === -1) {
      return text;
    }
  }
  return text.subarray(at + 1);
}
