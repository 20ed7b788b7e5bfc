import { EsbError } from '../common/errors.ts';
import { GrowingBuffer } from '../common/growing-buffer.ts';

/** Largest frame in bytes, in both directions. */
export const MAX_FRAME_BYTES = 256 * 1024;
/** Bytes of a call's event in one frame. */
const eventBytes = 128 * 1024;

/** Kinds of frames from an init. */
export type FrameFromInit = 'H' | 'P' | 'C' | 'D';
/** Kinds of frames to an init. */
export type FrameToInit = 'I' | 'E' | 'A' | 'F' | 'T' | 'L' | 'O' | 'S';

/** An init broke the protocol or a bound of it. */
export class InitBreach extends EsbError {
  constructor(message: string) {
    super(message, { code: 'InitFailed' });
  }
}

/**
 * Takes frames out of a stream: four bytes of length in network order, which count the rest, one byte of kind, and the
 * payload. A frame that comes in one piece is not copied.
 */
export class FrameReader {
  readonly #head = Buffer.alloc(4);
  #headBytes = 0;
  #frame: GrowingBuffer | undefined;
  #missing = 0;

  /** Bytes of a frame that has come in part. */
  get heldBytes(): number {
    return this.#frame?.length ?? 0;
  }

  /**
   * @param take says `false` where no more is to be read now
   * @returns bytes that were read
   * @throws {InitBreach} for a length that no frame has
   */
  read(piece: Buffer, take: (kind: string, payload: Buffer) => unknown): number {
    for (let at = 0; at < piece.length; ) {
      const end = this.#frame === undefined && this.#headBytes === 0 ? endOfFrame(piece, at) : undefined;
      if (end !== undefined) {
        const more = take(String.fromCharCode(piece[at + 4] ?? 0), piece.subarray(at + 5, end));
        at = end;
        if (more === false) {
          return at;
        }
        continue;
      }
      if (this.#frame === undefined) {
        const more = piece.subarray(at, at + 4 - this.#headBytes);
        more.copy(this.#head, this.#headBytes);
        this.#headBytes += more.length;
        at += more.length;
        if (this.#headBytes < 4) {
          return at;
        }
        this.#begin(this.#head.readUInt32BE());
      }
      const part = piece.subarray(at, at + this.#missing);
      this.#frame?.append(part);
      this.#missing -= part.length;
      at += part.length;
      if (this.#missing === 0 && this.#frame !== undefined) {
        const whole = this.#frame.whole();
        this.#frame = undefined;
        if (take(String.fromCharCode(whole[0] ?? 0), whole.subarray(1)) === false) {
          return at;
        }
      }
    }
    return piece.length;
  }

  #begin(length: number): void {
    checkLength(length);
    this.#headBytes = 0;
    this.#missing = length;
    this.#frame = new GrowingBuffer(length);
  }
}

/**
 * Where the frame ends that begins there; undefined where not all of it is in the piece.
 *
 * @throws {InitBreach}
 */
function endOfFrame(piece: Buffer, at: number): number | undefined {
  if (piece.length - at < 5) {
    return undefined;
  }
  const length = piece.readUInt32BE(at);
  checkLength(length);
  const end = at + 4 + length;
  return end <= piece.length ? end : undefined;
}

function checkLength(length: number): void {
  if (length === 0 || length > MAX_FRAME_BYTES) {
    throw new InitBreach(`the init sent a frame of ${length} bytes`);
  }
}

/** A frame, or its beginning before `bytes` bytes of payload that follow by themselves. */
function frameOf(kind: FrameToInit, text: string, encoding: 'latin1' | 'utf8', bytes: number): Buffer {
  const length = encoding === 'latin1' ? text.length : Buffer.byteLength(text);
  const frame = Buffer.allocUnsafe(5 + length);
  frame.writeUInt32BE(1 + length + bytes);
  frame[4] = kind.charCodeAt(0);
  frame.write(text, 5, encoding);
  return frame;
}

/** A frame of lines name=value, in which `\n` stands for the end of a line and `\\` for a backslash. */
export function linesFrame(kind: FrameToInit, fields: Readonly<Record<string, string | number>>): Buffer {
  let lines = '';
  for (const name in fields) {
    const text = String(fields[name]);
    lines += `${name}=${/[\\\n]/.test(text) ? text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n') : text}\n`;
  }
  return frameOf(kind, lines, 'utf8', 0);
}

/** The frames of a call's event, in pieces to be sent one after the other. The event is not copied. */
export function eventFrames(requestId: string, event: Buffer): readonly Buffer[] {
  const id = `${String.fromCharCode(requestId.length)}${requestId}`;
  const pieces: Buffer[] = [];
  for (let at = 0; at < event.length; at += eventBytes) {
    const piece = event.subarray(at, at + eventBytes);
    pieces.push(frameOf('E', id, 'latin1', piece.length), piece);
  }
  return pieces;
}
