import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GrpcFrameReader, grpcFrame } from '../../../../src/gateway/agents/grpc-stream.ts';

describe('gRPC frames', () => {
  it('come out as they went in, however the stream is cut', () => {
    const message = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), fc.array(fc.nat(60), { maxLength: 40 }), (messages, cuts) => {
        const stream = Buffer.concat(messages.map(grpcFrame));
        const read: Buffer[] = [];
        const reader = new GrpcFrameReader((bytes) => read.push(Buffer.from(bytes)));
        let offset = 0;
        for (const cut of cuts) {
          reader.push(stream.subarray(offset, offset + cut));
          offset += cut;
        }
        reader.push(stream.subarray(offset));
        expect(read).toEqual(messages);
      }),
    );
  });

  it('take a few bytes of memory for each of their own, in however small pieces they come', () => {
    const used = (): number => {
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    const read: Buffer[] = [];
    const reader = new GrpcFrameReader((bytes) => read.push(bytes));
    const count = 400_000;
    const frame = grpcFrame(Buffer.alloc(count, 'x'));
    const before = used();
    for (let at = 0; at < count; at += 1) {
      reader.push(Buffer.from(new Uint8Array([frame[at] ?? 0]).buffer));
    }
    expect((used() - before) / count).toBeLessThan(64);
    reader.push(frame.subarray(count));
    expect(read).toEqual([Buffer.alloc(count, 'x')]);
  });

  it.each([
    ['are compressed', Buffer.from([1, 0, 0, 0, 1, 7])],
    ['are larger than anything we ask for', Buffer.from([0, 0, 0xd0, 0, 0])],
  ])('are refused when they %s', (_what, bytes) => {
    const reader = new GrpcFrameReader(() => undefined);
    expect(() => reader.push(bytes)).toThrow(expect.objectContaining({ code: 'InvalidAnswer' }));
  });
});
