import { isUtf8 } from 'node:buffer';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { LambdaError } from './lambda-error.ts';

/** Largest request and answer of a synchronous call, in bytes (6 MiB; AWS writes "6 MB" and counts so). */
export const MAX_PAYLOAD_BYTES = 6 * 1024 * 1024;
/** Largest payload of an Event, in bytes. */
export const MAX_EVENT_BYTES = 1024 * 1024;

/** Bytes that are checked in one turn of the event loop: they take about 10 ms. */
const PIECE_BYTES = MAX_EVENT_BYTES;

/** How deep arrays and objects may be nested. */
const MAX_JSON_DEPTH = 10_000;

/** Levels that there is room for at first: most texts have fewer. */
const FIRST_LEVELS = 64;

/** The tokens that may come next, as bits. */
const VALUE = 1;
const NAME = 2;
const COLON = 4;
/** A comma, where something has begun. */
const COMMA = 8;
/** The end of an array or object. */
const END = 16;

const ARRAY = 1;
const OBJECT = 2;

const NO_TEXT = 'it is not UTF-8';
const EMPTY_OBJECT = Buffer.from('{}');

/** The payload that goes to the function: the body as it came, or `{}` for an empty one as in AWS. */
export function payloadOf(body: Buffer | undefined): Buffer {
  return body === undefined || body.length === 0 ? EMPTY_OBJECT : body;
}

/**
 * Checks in one piece that a payload is JSON. Nothing is made of it: the function gets the caller's own bytes.
 *
 * @param payload of an Event, so that it is small
 * @throws {LambdaError} InvalidRequestContentException when it is not
 */
export function checkPayload(payload: Buffer): void {
  refuseFault(isUtf8(payload) ? faultUntil(payload.length, payload, beginning()) : NO_TEXT);
}

/**
 * Checks as {@link checkPayload} does, with a turn of the event loop after each piece of a payload of any size.
 *
 * @returns undefined for a payload of one piece, which has been checked
 */
export function checkInPieces(payload: Buffer, pieceBytes = PIECE_BYTES): Promise<void> | undefined {
  if (payload.length > pieceBytes) {
    return checkEach(payload, pieceBytes);
  }
  checkPayload(payload);
  return undefined;
}

async function checkEach(payload: Buffer, pieceBytes: number): Promise<void> {
  if (!isUtf8(payload)) {
    refuseFault(NO_TEXT);
  }
  const place = beginning();
  while (place.at < payload.length) {
    refuseFault(faultUntil(place.at + pieceBytes, payload, place));
    // At the end too: the payload that is sent now takes a turn of its own.
    await nextTurn();
  }
}

function refuseFault(fault: string | undefined): void {
  if (fault !== undefined) {
    throw new LambdaError('InvalidRequestContentException', `Could not parse request body into json: ${fault}`);
  }
}

/** How far a JSON text has been read: to the end of a token. */
interface JsonPlace {
  at: number;
  depth: number;
  /** Tokens that may come next. */
  next: number;
  /** Kind of the array or object at each depth. */
  inside: Uint8Array<ArrayBuffer>;
}

function beginning(): JsonPlace {
  return { at: 0, depth: 0, next: VALUE, inside: new Uint8Array(FIRST_LEVELS) };
}

/**
 * Reads a JSON text (RFC 8259) on from a place, which it moves, to the first fault or to the token that ends at
 * `until` or behind it; undefined for no fault. Reads each byte once and makes no objects: no text costs much more time
 * or memory than another of its length.
 *
 * @param text UTF-8, which is not checked
 */
function faultUntil(until: number, text: Uint8Array, place: JsonPlace): string | undefined {
  const { length } = text;
  const stop = Math.min(until, length);
  let { at, depth, inside, next } = place;
  while (at < stop) {
    const byte = text[at] ?? 0;
    let end = at + 1;
    let allowed = 0;
    switch (byte) {
      case 0x20:
      case 0x0a:
      case 0x0d:
      case 0x09:
        at = end;
        continue;
      case 0x2c: // ,
        allowed = next & COMMA;
        next = inside[depth] === ARRAY ? VALUE : NAME;
        break;
      case 0x3a: // :
        allowed = next & COLON;
        next = VALUE;
        break;
      case 0x5b: // [
      case 0x7b: // {
        if (depth === MAX_JSON_DEPTH) {
          return `the JSON is nested deeper than ${MAX_JSON_DEPTH} levels`;
        }
        allowed = next & VALUE;
        depth += 1;
        if (depth === inside.length) {
          inside = longer(inside);
        }
        inside[depth] = byte === 0x5b ? ARRAY : OBJECT;
        next = (byte === 0x5b ? VALUE : NAME) | END;
        break;
      case 0x5d: // ]
      case 0x7d: // }
        allowed = inside[depth] === (byte === 0x5d ? ARRAY : OBJECT) ? next & END : 0;
        depth -= 1;
        next = depth > 0 ? COMMA | END : 0;
        break;
      case 0x22: // "
        allowed = next & (VALUE | NAME);
        next = allowed === NAME ? COLON : depth > 0 ? COMMA | END : 0;
        end = afterString(text, at);
        break;
      default:
        allowed = next & VALUE;
        next = depth > 0 ? COMMA | END : 0;
        end = afterScalar(text, at);
    }
    if (allowed === 0 || end < 0) {
      return `unexpected text at byte ${at} of the JSON`;
    }
    at = end;
  }
  place.at = at;
  place.depth = depth;
  place.inside = inside;
  place.next = next;
  return next === 0 || at < length ? undefined : 'the JSON ends too early';
}

function longer(levels: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const grown = new Uint8Array(levels.length * 2);
  grown.set(levels);
  return grown;
}

/** Where a number or word ends that begins here; -1 when it is none. */
function afterScalar(text: Uint8Array, at: number): number {
  switch (text[at] ?? 0) {
    case 0x74:
      return afterWord(text, at, 'true');
    case 0x66:
      return afterWord(text, at, 'false');
    case 0x6e:
      return afterWord(text, at, 'null');
    default:
      return afterNumber(text, at);
  }
}

function afterWord(text: Uint8Array, at: number, word: string): number {
  for (let index = 0; index < word.length; index += 1) {
    if (text[at + index] !== word.charCodeAt(index)) {
      return -1;
    }
  }
  return at + word.length;
}

function afterString(text: Uint8Array, quote: number): number {
  const { length } = text;
  for (let at = quote + 1; at < length; ) {
    const byte = text[at] as number;
    at += 1;
    if (byte === 0x22) {
      return at;
    }
    if (byte === 0x5c) {
      at = afterEscape(text, at);
      if (at < 0) {
        return -1;
      }
    } else if (byte < 0x20) {
      return -1;
    }
  }
  return -1;
}

/** @param at behind the backslash */
function afterEscape(text: Uint8Array, at: number): number {
  switch (text[at] ?? 0) {
    case 0x22: // "
    case 0x5c: // \
    case 0x2f: // /
    case 0x62: // b
    case 0x66: // f
    case 0x6e: // n
    case 0x72: // r
    case 0x74: // t
      return at + 1;
    case 0x75: // u
      for (let digit = 1; digit <= 4; digit += 1) {
        if (!isHexDigit(text[at + digit])) {
          return -1;
        }
      }
      return at + 5;
    default:
      return -1;
  }
}

function afterNumber(text: Uint8Array, from: number): number {
  let at = text[from] === 0x2d ? from + 1 : from;
  if (text[at] === 0x30) {
    at += 1;
  } else {
    at = afterDigits(text, at);
  }
  if (at >= 0 && text[at] === 0x2e) {
    at = afterDigits(text, at + 1);
  }
  if (at >= 0 && (text[at] === 0x65 || text[at] === 0x45)) {
    const sign = text[at + 1];
    at = afterDigits(text, sign === 0x2b || sign === 0x2d ? at + 2 : at + 1);
  }
  return at;
}

/** Where digits end that begin here, one of them at least; -1 for none. */
function afterDigits(text: Uint8Array, from: number): number {
  let at = from;
  while (isDigit(text[at])) {
    at += 1;
  }
  return at === from ? -1 : at;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function isHexDigit(byte: number | undefined): boolean {
  return byte !== undefined && (isDigit(byte) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66));
}
