/*
 * The emulator, or the init, writes `START RequestId: <id> …` when it hands a call to the runtime, and
 * `END RequestId: <id>` and `REPORT RequestId: <id> …` when it has the answer. Where the log is to be JSON, the init
 * writes the events `platform.start` and `platform.report`. The function writes through the same pipe. Where one call at a
 * time is in a worker, the output between these lines belongs to the call; where there are several, each line tells.
 */

import { eachLine, ownerOf } from './line-owner.ts';

/** Consecutive bytes of a log that belong to one call, or to none. */
export interface LogSpan {
  /** Empty for output between calls. */
  readonly requestId: string;
  readonly offset: number;
  readonly data: Buffer;
  /** Whether the call has written its last line. */
  readonly isLast: boolean;
}

const MARK = Buffer.from('RequestId: ');
/** The end of the beginning of an event, which `log.c` of the init writes. */
const EVENT_MARK = Buffer.from('","record":{"requestId":"');
const EVENT = /^\{"time":"[\d:.TZ-]+","type":"platform\.(start|report)$/;
const MAX_EVENT_HEAD = 80;
const NEWLINE = 0x0a;
/** Length above which an incomplete line is no marker, and is passed on. */
const MAX_LINE = 64 * 1024;
const MAX_ID = 256;

interface Marker {
  readonly word: 'START' | 'END' | 'REPORT';
  readonly requestId: string;
  readonly at: number;
  /** Whether the marker begins its line. */
  readonly beginsLine: boolean;
  /** After the newline. */
  readonly lineEnd: number;
}

/** Assigns each byte of a log to its call. */
export class InvocationSplitter {
  readonly #several: boolean;
  #open = '';
  #rest: Buffer = Buffer.alloc(0);
  #offset = 0;

  /** @param several whether several calls at once are in the worker */
  constructor(several = false) {
    this.#several = several;
  }

  /** Begins at an offset, within a call that has begun. */
  start(offset: number, requestId: string): void {
    this.#rest = Buffer.alloc(0);
    this.#offset = offset;
    this.#open = requestId;
  }

  /** Adds the next bytes and returns the whole lines. A gap ends the open call. */
  push(data: Buffer, offset: number): LogSpan[] {
    const spans: LogSpan[] = [];
    if (offset !== this.#offset + this.#rest.length) {
      spans.push(...this.flush());
      this.#open = '';
      this.#offset = offset;
    }
    const text = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    const whole = text.lastIndexOf(NEWLINE) + 1;
    const end = text.length - whole > MAX_LINE ? text.length : whole;
    spans.push(...this.#split(text.subarray(0, end)));
    this.#rest = text.subarray(end);
    this.#offset += end;
    return spans;
  }

  /** Returns the incomplete last line. */
  flush(): LogSpan[] {
    const spans = this.#split(this.#rest);
    this.#offset += this.#rest.length;
    this.#rest = Buffer.alloc(0);
    return spans;
  }

  #split(text: Buffer): LogSpan[] {
    return this.#several ? this.#splitLines(text) : this.#splitBetween(text);
  }

  #splitLines(text: Buffer): LogSpan[] {
    const spans: LogSpan[] = [];
    let at = 0;
    for (const line of eachLine(text)) {
      const owner = ownerOf(line);
      const last = spans.at(-1);
      if (last?.requestId === owner.requestId && !last.isLast) {
        const data = text.subarray(last.offset - this.#offset, at + line.length);
        spans[spans.length - 1] = { ...last, ...owner, data };
      } else {
        spans.push({ ...owner, offset: this.#offset + at, data: line });
      }
      at += line.length;
    }
    return spans;
  }

  #splitBetween(text: Buffer): LogSpan[] {
    const spans: LogSpan[] = [];
    let begin = 0;
    const cut = (at: number, isLast: boolean): void => {
      if (at > begin) {
        const data = text.subarray(begin, at);
        spans.push({ requestId: this.#open, offset: this.#offset + begin, data, isLast });
        begin = at;
      }
    };
    for (const marker of markersOf(text)) {
      // Within a line a function may be quoting a marker.
      if (marker.word === 'START' && (marker.beginsLine || this.#open === '')) {
        cut(marker.at, false);
        this.#open = marker.requestId;
      } else if (marker.word === 'REPORT' && marker.requestId === this.#open) {
        cut(marker.lineEnd, true);
        this.#open = '';
      }
    }
    cut(text.length, false);
    return spans;
  }
}

/** The call in the worker at the beginning of `text`, by its markers; empty for none. */
export function callBefore(text: Buffer): string {
  const [first] = markersOf(text);
  return first === undefined || first.word === 'START' ? '' : first.requestId;
}

/** Whether `text` has the last line of a call. */
export function reportsEnd(text: Buffer, requestId: string): boolean {
  return markersOf(text).some((marker) => marker.word === 'REPORT' && marker.requestId === requestId);
}

/** The output in `text` that is, or may be, of a call: without that of other calls. */
export function partOf(text: Buffer, requestId: string): Buffer {
  let from = 0;
  for (const marker of markersOf(text)) {
    if (marker.requestId === requestId) {
      if (marker.word === 'START') {
        return text.subarray(marker.at);
      }
    } else if (marker.word === 'REPORT') {
      from = marker.lineEnd;
    }
  }
  return text.subarray(from);
}

/** The output in `text` up to the last line of a call. */
export function untilEnd(text: Buffer, requestId: string): Buffer {
  for (const marker of markersOf(text)) {
    if (marker.word === 'REPORT' && marker.requestId === requestId) {
      return text.subarray(0, marker.lineEnd);
    }
  }
  return text;
}

function* markersOf(text: Buffer): Generator<Marker, undefined> {
  let mark = text.indexOf(MARK);
  let event = text.indexOf(EVENT_MARK);
  while (mark !== -1 || event !== -1) {
    const isEvent = mark === -1 || (event !== -1 && event < mark);
    const marker = isEvent ? eventAt(text, event) : markerAt(text, mark);
    if (marker !== undefined) {
      yield marker;
    }
    if (isEvent) {
      event = text.indexOf(EVENT_MARK, event + 1);
    } else {
      mark = text.indexOf(MARK, mark + 1);
    }
  }
}

function markerAt(text: Buffer, mark: number): Marker | undefined {
  const before = text.toString('latin1', Math.max(0, mark - 7), mark);
  const word = (['START', 'END', 'REPORT'] as const).find((each) => before.endsWith(`${each} `));
  const from = mark + MARK.length;
  const requestId = /^[^\s]+/.exec(text.toString('latin1', from, from + MAX_ID))?.[0];
  if (word === undefined || requestId === undefined) {
    return undefined;
  }
  const at = mark - word.length - 1;
  return { word, requestId, at, beginsLine: beginsLine(text, at), lineEnd: lineEnd(text, from) };
}

/** An event begins its line. */
function eventAt(text: Buffer, mark: number): Marker | undefined {
  const at = text.lastIndexOf(NEWLINE, mark) + 1;
  const type = mark - at > MAX_EVENT_HEAD ? undefined : EVENT.exec(text.toString('latin1', at, mark))?.[1];
  const from = mark + EVENT_MARK.length;
  const requestId = /^[^"\\]+(?=")/.exec(text.toString('latin1', from, from + MAX_ID + 1))?.[0];
  if (type === undefined || requestId === undefined) {
    return undefined;
  }
  return {
    word: type === 'start' ? 'START' : 'REPORT',
    requestId,
    at,
    beginsLine: true,
    lineEnd: lineEnd(text, from),
  };
}

function beginsLine(text: Buffer, at: number): boolean {
  return at === 0 || text[at - 1] === NEWLINE;
}

function lineEnd(text: Buffer, from: number): number {
  const newline = text.indexOf(NEWLINE, from);
  return newline === -1 ? text.length : newline + 1;
}
