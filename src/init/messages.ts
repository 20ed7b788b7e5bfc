import { type CallHistory, readHistory } from './call-history.ts';
import type { InitEnd, InitHead, InitOutcome, InitPhase, InitState } from './contract.ts';
import { type FrameFromInit, InitBreach } from './frames.ts';

/** Version of the protocol. */
const VERSION = 1;
/** Most bytes of one text that an init tells. */
const MAX_TEXT_BYTES = 64 * 1024;
/** Most characters of a type of error or of content. */
const MAX_WORD = 1024;
const MAX_LINES = 32;
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
  /** Whether the init tells of a call once more when it is asked. */
  readonly tellsAgain: boolean;
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
        tellsAgain: fields.get('again') === 'true',
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

function fieldsOf(payload: Buffer): Fields {
  const text = payload.toString();
  const isEscaped = text.includes('\\');
  const fields = new Map<string, string>();
  for (let at = 0, lines = 0; at <= text.length; lines += 1) {
    if (lines === MAX_LINES) {
      throw new InitBreach('the init sent too many lines in a frame');
    }
    const next = text.indexOf('\n', at);
    const end = next < 0 ? text.length : next;
    // Looked for in the line alone: a worker may send lines without one before a long text.
    const line = text.slice(at, end);
    const mark = line.indexOf('=');
    const raw = line.slice(mark + 1);
    const value = isEscaped ? raw.replace(/\\(.)/g, (_, each: string) => (each === 'n' ? '\n' : each)) : raw;
    // A text of so many characters may have more bytes; the frame bounds them.
    if (value.length > MAX_TEXT_BYTES) {
      throw new InitBreach('the init sent a text that is too long');
    }
    if (mark > 0) {
      fields.set(line.slice(0, mark), value);
    }
    at = end + 1;
  }
  return fields;
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
    ...(errorType === ''
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
  return {
    id: wordOf(fields, 'id'),
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
