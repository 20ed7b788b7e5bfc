import { EsbError } from '../common/errors.ts';
import { GrowingBuffer } from '../common/growing-buffer.ts';

/** Largest frame in bytes, in both directions. */
export const MAX_FRAME_BYTES = 256 * 1024;
/** Bytes of a call's event in one frame. */
const eventBytes = 128 * 1024;

/** Kinds of frames from an init. */
export type FrameFromInit = 'H' | 'P' | 'C' | 'D';
/** Kinds of frames to an init. */
export type FrameToInit = 'I' | 'E' | 'A' | 'F' | 'T' | 'L' | 'S';

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

  /** @throws {InitBreach} for a length that no frame has */
  read(piece: Buffer, take: (kind: string, payload: Buffer) => void): void {
    for (let at = 0; at < piece.length; ) {
      if (this.#frame === undefined) {
        const more = piece.subarray(at, at + 4 - this.#headBytes);
        more.copy(this.#head, this.#headBytes);
        this.#headBytes += more.length;
        at += more.length;
        if (this.#headBytes < 4) {
          return;
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
        take(String.fromCharCode(whole[0] ?? 0), whole.subarray(1));
      }
    }
  }

  #begin(length: number): void {
    if (length === 0 || length > MAX_FRAME_BYTES) {
      throw new InitBreach(`the init sent a frame of ${length} bytes`);
    }
    this.#headBytes = 0;
    this.#missing = length;
    this.#frame = new GrowingBuffer(length);
  }
}

/** Head of a frame, before `bytes` bytes of payload that follow by themselves. */
function frameHead(kind: FrameToInit, more: Buffer, bytes: number): Buffer {
  const head = Buffer.allocUnsafe(5 + more.length);
  head.writeUInt32BE(1 + more.length + bytes);
  head.write(kind, 4, 'latin1');
  more.copy(head, 5);
  return head;
}

/** A frame of lines name=value, in which `\n` stands for the end of a line and `\\` for a backslash. */
export function linesFrame(kind: FrameToInit, fields: Readonly<Record<string, string | number>>): Buffer {
  let lines = '';
  for (const [name, value] of Object.entries(fields)) {
    const text = String(value);
    lines += `${name}=${/[\\\n]/.test(text) ? text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n') : text}\n`;
  }
  return frameHead(kind, Buffer.from(lines), 0);
}

/** The frames of a call's event, in pieces to be sent one after the other. The event is not copied. */
export function eventFrames(requestId: string, event: Buffer): readonly Buffer[] {
  const id = Buffer.from(`${String.fromCharCode(requestId.length)}${requestId}`, 'latin1');
  const pieces: Buffer[] = [];
  for (let at = 0; at < event.length; at += eventBytes) {
    const piece = event.subarray(at, at + eventBytes);
    pieces.push(frameHead('E', id, piece.length), piece);
  }
  return pieces;
}
