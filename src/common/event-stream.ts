import { crc32 } from 'node:zlib';
import { EsbError } from './errors.ts';
import { GrowingBuffer } from './growing-buffer.ts';

/** Bytes of the lengths at the beginning of a message, of a checksum, and of what surrounds headers and payload. */
const LENGTHS_BYTES = 8;
const CHECKSUM_BYTES = 4;
const FRAME_BYTES = LENGTHS_BYTES + 2 * CHECKSUM_BYTES;
/** Type of a header whose value is a text. */
const TEXT = 7;
/** Largest message that is read, in bytes, as in AWS's clients. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Media type of a stream of messages. */
export const EVENT_STREAM = 'application/vnd.amazon.eventstream';

export interface StreamEvent {
  /** The header `:event-type`. */
  readonly type: string;
  readonly payload: Buffer;
}

const chunkHeaders = headersOf('PayloadChunk', 'application/octet-stream');
const endHeaders = headersOf('InvokeComplete', 'application/json');

/** The end of a streamed answer, as the service model has it. */
export interface InvokeComplete {
  readonly ErrorCode?: string;
  readonly ErrorDetails?: string;
  /** Base64. */
  readonly LogResult?: string;
}

/** A message with a part of a streamed answer. */
export function payloadChunk(payload: Buffer): Buffer {
  return messageOf(chunkHeaders, payload);
}

/** The message that ends a streamed answer. */
export function invokeComplete(end: InvokeComplete): Buffer {
  return messageOf(endHeaders, Buffer.from(JSON.stringify(end)));
}

/**
 * A message: length of all (4, big-endian), length of the headers (4), checksum of these (4), headers, payload, checksum
 * of all before (4).
 */
function messageOf(headers: Buffer, payload: Buffer): Buffer {
  const size = FRAME_BYTES + headers.length + payload.length;
  const message = Buffer.allocUnsafe(size);
  message.writeUInt32BE(size, 0);
  message.writeUInt32BE(headers.length, 4);
  message.writeUInt32BE(crc32(message.subarray(0, LENGTHS_BYTES)), LENGTHS_BYTES);
  headers.copy(message, LENGTHS_BYTES + CHECKSUM_BYTES);
  payload.copy(message, LENGTHS_BYTES + CHECKSUM_BYTES + headers.length);
  message.writeUInt32BE(crc32(message.subarray(0, size - CHECKSUM_BYTES)), size - CHECKSUM_BYTES);
  return message;
}

/** Headers: length of the name (1), name, type (1), length of the value (2), value. */
function headersOf(eventType: string, contentType: string): Buffer {
  const headers = { ':event-type': eventType, ':content-type': contentType, ':message-type': 'event' };
  return Buffer.concat(
    Object.entries(headers).map(([name, value]) => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(value.length);
      return Buffer.concat([
        Buffer.from([name.length]),
        Buffer.from(name),
        Buffer.from([TEXT]),
        length,
        Buffer.from(value),
      ]);
    }),
  );
}

/** Reads the messages of a stream out of its bytes. */
export class EventStreamReader {
  #pending = new GrowingBuffer();
  /** Bytes that must have come before another look is worth its while. */
  #needed = LENGTHS_BYTES;

  /**
   * Takes the next bytes, and returns the events that are whole with them.
   *
   * @throws {EsbError} `InvalidAnswer` for bytes that are no messages
   */
  push(bytes: Buffer): readonly StreamEvent[] {
    this.#pending.append(bytes);
    const events: StreamEvent[] = [];
    if (this.#pending.length < this.#needed) {
      return events;
    }
    let rest = this.#pending.whole();
    this.#needed = LENGTHS_BYTES;
    while (rest.length >= LENGTHS_BYTES) {
      const size = rest.readUInt32BE(0);
      if (size < FRAME_BYTES || size > MAX_MESSAGE_BYTES) {
        throw invalid(`a message of ${size} bytes`);
      }
      if (rest.length < size) {
        this.#needed = size;
        break;
      }
      events.push(eventIn(rest.subarray(0, size)));
      rest = rest.subarray(size);
    }
    this.#pending = new GrowingBuffer();
    this.#pending.append(rest);
    return events;
  }
}

function eventIn(message: Buffer): StreamEvent {
  const end = message.length - CHECKSUM_BYTES;
  const first = LENGTHS_BYTES + CHECKSUM_BYTES;
  const payloadAt = first + message.readUInt32BE(4);
  if (payloadAt > end || crc32(message.subarray(0, end)) !== message.readUInt32BE(end)) {
    throw invalid('a damaged message');
  }
  let type = '';
  for (let at = first; at < payloadAt; ) {
    const valueAt = at + 1 + message.readUInt8(at) + 3;
    const name = message.toString('utf8', at + 1, valueAt - 3);
    if (message.readUInt8(valueAt - 3) !== TEXT || valueAt > payloadAt) {
      throw invalid('a header that is no text');
    }
    at = valueAt + message.readUInt16BE(valueAt - 2);
    if (name === ':event-type') {
      type = message.toString('utf8', valueAt, at);
    }
  }
  return { type, payload: message.subarray(payloadAt, end) };
}

function invalid(what: string): EsbError {
  return new EsbError(`the event stream has ${what}`, { code: 'InvalidAnswer' });
}
