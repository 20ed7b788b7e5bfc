import { EventStreamCodec } from '@smithy/core/event-streams';
import { describe, expect, it } from 'vitest';
import { EventStreamReader, invokeComplete, payloadChunk } from '../../../src/common/event-stream.ts';

const codec = new EventStreamCodec(
  (bytes) => Buffer.from(bytes as Uint8Array).toString(),
  (text) => Buffer.from(text),
);

const text = (value: string) => ({ type: 'string', value }) as const;

describe('a message of an event stream', () => {
  it.each(['', 'x', '{"a":1}', '\u0000'.repeat(70_000)])('is read by the codec of AWS: %#', (payload) => {
    expect(codec.decode(payloadChunk(Buffer.from(payload)))).toEqual({
      headers: {
        ':event-type': text('PayloadChunk'),
        ':content-type': text('application/octet-stream'),
        ':message-type': text('event'),
      },
      body: new Uint8Array(Buffer.from(payload)),
    });
  });

  it('with the end of an answer has the members that there are', () => {
    const { headers, body } = codec.decode(invokeComplete({ ErrorCode: 'Unhandled', ErrorDetails: 'é' }));
    expect(headers[':event-type']).toEqual(text('InvokeComplete'));
    expect(JSON.parse(Buffer.from(body).toString())).toEqual({ ErrorCode: 'Unhandled', ErrorDetails: 'é' });
    expect(Buffer.from(codec.decode(invokeComplete({})).body).toString()).toBe('{}');
  });

  it('is read as the codec of AWS writes it, in pieces of any size', () => {
    const messages = ['one', '', 'two'].map((body) =>
      codec.encode({ headers: { ':event-type': text('E'), ':more': text('') }, body: Buffer.from(body) }),
    );
    const bytes = Buffer.concat(messages);
    for (const size of [1, 3, 50, bytes.length]) {
      const reader = new EventStreamReader();
      const read: string[] = [];
      for (let at = 0; at < bytes.length; at += size) {
        for (const { type, payload } of reader.push(bytes.subarray(at, at + size))) {
          read.push(`${type} ${payload.toString()}`);
        }
      }
      expect(read).toEqual(['E one', 'E ', 'E two']);
    }
  });

  it.each([
    ['is damaged', (bytes: Buffer) => bytes.writeUInt8(7, bytes.length - 1)],
    ['is shorter than its frame', (bytes: Buffer) => bytes.writeUInt32BE(3, 0)],
    ['is very large', (bytes: Buffer) => bytes.writeUInt32BE(2 ** 31, 0)],
    ['has headers beyond its end', (bytes: Buffer) => bytes.writeUInt32BE(10_000, 4)],
  ])('that %s is refused', (_what, damage) => {
    const bytes = payloadChunk(Buffer.from('x'));
    damage(bytes);
    expect(() => new EventStreamReader().push(bytes)).toThrow('the event stream has');
  });
});
