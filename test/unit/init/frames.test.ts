import { describe, expect, it } from 'vitest';
import { eventFrames, FrameReader, linesFrame } from '../../../src/init/frames.ts';

const frame = (kind: string, payload: string | Buffer): Buffer => {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(payload.length + 1);
  head.write(kind, 4);
  return Buffer.concat([head, Buffer.from(payload)]);
};

/** Frames of a stream that arrives in pieces of a size. */
function read(stream: Buffer, pieceBytes: number): readonly (readonly [string, string])[] {
  const reader = new FrameReader();
  const frames: (readonly [string, string])[] = [];
  for (let at = 0; at < stream.length; at += pieceBytes) {
    reader.read(stream.subarray(at, at + pieceBytes), (kind, payload) => frames.push([kind, payload.toString()]));
  }
  return frames;
}

describe('frames', () => {
  const large = 'y'.repeat(200_000);
  const stream = Buffer.concat([frame('H', 'one'), frame('P', ''), frame('D', large), frame('C', 'four')]);

  it.each([1, 2, 3, 5, 7, 4096, 65_536, 1_000_000])('come out whole of pieces of %i bytes', (bytes) => {
    expect(read(stream, bytes)).toEqual([
      ['H', 'one'],
      ['P', ''],
      ['D', large],
      ['C', 'four'],
    ]);
  });

  it.each([0, 256 * 1024 + 1, 2 ** 32 - 1])('of %i bytes are refused by their head', (length) => {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(length);
    expect(() => read(head, 1)).toThrow(`the init sent a frame of ${length} bytes`);
  });

  it('are written as they are read', () => {
    expect(read(linesFrame('A', { id: 'a\\b\nc', offset: 7 }), 3)).toEqual([['A', 'id=a\\\\b\\nc\noffset=7\n']]);
    const event = Buffer.alloc(300_000, 'e');
    const frames = read(Buffer.concat(eventFrames('call-1', event)), 65_536);
    expect(frames.map(([kind, { length }]) => `${kind} ${length}`)).toEqual(['E 131079', 'E 131079', 'E 37863']);
    expect(frames.every(([, text]) => text.startsWith('\u0006call-1e'))).toBe(true);
    expect(eventFrames('call-1', Buffer.alloc(0))).toEqual([]);
  });

  it('of an event share its memory', () => {
    const event = Buffer.alloc(300_000, 'e');
    expect(eventFrames('call-1', event).filter(({ buffer }) => buffer === event.buffer)).toHaveLength(3);
  });
});
