import { type CallHistory, MAX_HISTORY_TEXT, readHistory } from './call-history.ts';
import type { InitEnd, InitHead, InitOutcome, InitPhase, InitState } from './contract.ts';
import { type FrameFromInit, InitBreach, MAX_FRAME_BYTES } from './frames.ts';

/** Version of the protocol. */
const VERSION = 1;
/** Most characters of one text that an init tells. Its bytes are bounded by the frame. */
const MAX_TEXT = 64 * 1024;
/** Bytes of a message that are kept: a gateway tells no more. */
const MAX_MESSAGE_BYTES = 4 * 1024;
/** Most characters of a type of error or of content. */
const MAX_WORD = 1024;
/** Most characters of an id, and of the name of a field. */
const MAX_ID = 255;
const MAX_NAME = 16;
const MAX_LINES = 32;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
const LETTER_N = 0x6e;
/** Bytes of an offset, and of the length of an id before it. */
const OFFSET_BYTES = 8;

/** A call as its init reports it. */
export interface CallTold {
  readonly id: string;
  /** Known once the runtime answers. */
  readonly head: InitHead | undefined;
  /** Known once the call has ended. */
  readonly end: InitEnd | undefined;
  /** Number of the order to tell of the call once more that this begins to follow; undefined for news. */
  readonly again: number | undefined;
}

export interface Hello {
  readonly kind: 'Hello';
  readonly state: InitState;
  readonly session: string;
  readonly calls: number;
  /** Undefined where the init does not remember the calls that it forgot. */
  readonly history: CallHistory | undefined;
}

/** Words of an init, in a form that is checked. */
export type InitMessage =
  /** First of a connection. As many calls as `calls` follow, of which the init has told, or will, on each connection. */
  | Hello
  | { readonly kind: 'Phase'; readonly state: InitState }
  | { readonly kind: 'Call'; readonly call: CallTold }
  | { readonly kind: 'Data'; readonly id: string; readonly offset: number; readonly bytes: Buffer }
  /** From an init that is newer than this program. */
  | { readonly kind: 'Other' };

// As sets: to ask an object for a word that came over a wire has V8 intern the word.
const phases = wordsOf<InitPhase>({ Starting: true, Ready: true, Failed: true, Stopping: true });
const outcomes = wordsOf<InitOutcome>({
  Answered: true,
  Error: true,
  Timeout: true,
  Exited: true,
  Interrupted: true,
  TooLarge: true,
  NotStarted: true,
});

/**
 * Reads a frame of an init.
 *
 * @throws {InitBreach} for one that makes no sense, or breaks a bound
 */
export function readMessage(kind: string, payload: Buffer): InitMessage {
  switch (kind as FrameFromInit) {
    case 'H': {
      const fields = fieldsOf(payload);
      if (numberOf(fields, 'version') !== VERSION) {
        throw new InitBreach('the init speaks another version of the protocol');
      }
      return {
        kind: 'Hello',
        state: stateOf(fields),
        session: wordOf(fields, 'session'),
        calls: numberOf(fields, 'calls'),
        history: fields.has('since') ? readHistory(numberOf(fields, 'since'), fields.get('past') ?? '') : undefined,
      };
    }
    case 'P':
      return { kind: 'Phase', state: stateOf(fieldsOf(payload)) };
    case 'C':
      return { kind: 'Call', call: callOf(fieldsOf(payload)) };
    case 'D':
      return dataOf(payload);
    default:
      return { kind: 'Other' };
  }
}

type Fields = ReadonlyMap<string, string>;

/** Names of the fields that anybody asks for, with the bytes of them that are kept; others are not. */
const FIELDS: ReadonlyMap<string, number> = new Map([
  ...[
    ...['version', 'session', 'calls', 'since', 'phase', 'idle', 'initMs', 'restarts', 'places', 'held', 'bound'],
    ...['id', 'again', 'answering', 'streaming', 'contentType', 'outcome', 'errorType', 'size', 'durationUs'],
  ].map((name) => [name, MAX_WORD] as const),
  ['past', MAX_HISTORY_TEXT],
  ['message', MAX_MESSAGE_BYTES],
  ['body', MAX_FRAME_BYTES],
  ['errorBody', MAX_FRAME_BYTES],
]);

/** Copies of the fields that are known: a part of the text of a frame would keep the whole of it in memory. */
function fieldsOf(payload: Buffer): Fields {
  const fields = new Map<string, string>();
  for (let at = 0, lines = 0; at < payload.length; lines += 1) {
    if (lines === MAX_LINES) {
      throw new InitBreach('the init sent too many lines in a frame');
    }
    const next = payload.indexOf(NEWLINE, at);
    const end = next < 0 ? payload.length : next;
    // Looked for in few bytes: a worker may send lines without one before a long text.
    const mark = payload.subarray(at, Math.min(end, at + MAX_NAME)).indexOf(0x3d);
    const name = mark > 0 ? payload.toString('latin1', at, at + mark) : '';
    const most = FIELDS.get(name);
    if (most !== undefined) {
      fields.set(name, textOf(payload.subarray(at + mark + 1, end), most));
    }
    at = end + 1;
  }
  return fields;
}

/** @param most bytes that are kept */
function textOf(bytes: Buffer, most: number): string {
  let end = Math.min(bytes.length, most);
  // No character is cut in two.
  while (end < bytes.length && end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) {
    end -= 1;
  }
  const kept = bytes.subarray(0, end);
  const text = (kept.includes(BACKSLASH) ? withoutEscapes(kept) : kept).toString();
  if (text.length > MAX_TEXT) {
    throw new InitBreach('the init sent a text that is too long');
  }
  return text;
}

/** Byte by byte: a worker may send nothing but escapes, and a function called for each takes a hundred times as long. */
function withoutEscapes(bytes: Buffer): Buffer {
  const plain = Buffer.allocUnsafe(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const isEscape = bytes[at] === BACKSLASH;
    at += isEscape ? 1 : 0;
    if (at < bytes.length) {
      const byte = bytes[at] ?? 0;
      plain[length] = isEscape && byte === LETTER_N ? NEWLINE : byte;
      length += 1;
    }
  }
  return plain.subarray(0, length);
}

function numberOf(fields: Fields, name: string): number {
  const text = fields.get(name) ?? '';
  if (!/^\d{1,15}$/.test(text)) {
    throw new InitBreach(`the init sent no number as ${name}`);
  }
  return Number(text);
}

/** A word that may stand in a header. */
function wordOf(fields: Fields, name: string): string {
  const word = (fields.get(name) ?? '').slice(0, MAX_WORD);
  return /[^\x20-\x7e]/.test(word) ? word.replace(/[^\x20-\x7e]/g, '?') : word;
}

function wordsOf<T extends string>(table: Readonly<Record<T, true>>): ReadonlySet<string> {
  return new Set(Object.keys(table));
}

function isOneOf<T extends string>(words: ReadonlySet<string>, text: string | undefined): text is T {
  return text !== undefined && words.has(text);
}

function stateOf(fields: Fields): InitState {
  const phase = fields.get('phase');
  if (!isOneOf<InitPhase>(phases, phase)) {
    throw new InitBreach('the init sent no phase that is known');
  }
  const errorType = wordOf(fields, 'errorType');
  const bound = wordOf(fields, 'bound');
  return {
    phase,
    idle: phase === 'Ready' && fields.get('idle') === 'true',
    initMs: numberOf(fields, 'initMs'),
    restarts: numberOf(fields, 'restarts'),
    ...(fields.has('places') ? { places: numberOf(fields, 'places'), held: numberOf(fields, 'held') } : {}),
    ...(errorType === '' || phase !== 'Failed'
      ? {}
      : {
          fault: {
            errorType,
            message: fields.get('message') ?? '',
            body: fields.get('body'),
            ...(bound === '' ? {} : { bound }),
          },
        }),
  };
}

function callOf(fields: Fields): CallTold {
  const id = wordOf(fields, 'id');
  if (id.length > MAX_ID) {
    throw new InitBreach('the init sent an id that no call has');
  }
  return {
    id,
    head:
      fields.get('answering') === 'true'
        ? { contentType: wordOf(fields, 'contentType'), streaming: fields.get('streaming') === 'true' }
        : undefined,
    end: fields.has('outcome') ? endOf(fields) : undefined,
    again: fields.has('again') ? numberOf(fields, 'again') : undefined,
  };
}

function endOf(fields: Fields): InitEnd {
  const outcome = fields.get('outcome');
  if (!isOneOf<InitOutcome>(outcomes, outcome)) {
    throw new InitBreach('the init sent no outcome that is known');
  }
  const errorType = wordOf(fields, 'errorType');
  return {
    outcome,
    errorType: errorType === '' ? undefined : errorType,
    message: fields.get('message'),
    errorBody: jsonOf(fields.get('errorBody')),
    size: numberOf(fields, 'size'),
    durationUs: numberOf(fields, 'durationUs'),
  };
}

/** JSON as runtimes send it in a trailer. Anything else is left out. */
function jsonOf(base64: string | undefined): string | undefined {
  // An exception for each call without an error would cost more than the rest of its frame.
  if (base64 === undefined) {
    return undefined;
  }
  const text = Buffer.from(base64, 'base64').toString();
  try {
    JSON.parse(text);
    return text;
  } catch {
    return undefined;
  }
}

function dataOf(payload: Buffer): InitMessage {
  const start = 1 + (payload[0] ?? 0);
  if (payload.length < start + OFFSET_BYTES) {
    throw new InitBreach('the init sent a part of an answer that is cut short');
  }
  return {
    kind: 'Data',
    id: payload.toString('latin1', 1, start),
    offset: Number(payload.readBigUInt64BE(start)),
    bytes: payload.subarray(start + OFFSET_BYTES),
  };
}
