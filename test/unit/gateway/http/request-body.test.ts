import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { type BodySource, MAX_OPERATION_BYTES, readRequestBody } from '../../../../src/gateway/http/request-body.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';

interface Reading {
  readonly source: EventEmitter;
  readonly clock: ManualClock;
  /** Result: the body, or the name of the error. */
  readonly ends: (Buffer | string | undefined)[];
}

function read(headers: Readonly<Record<string, string>> = {}): Reading {
  const source = Object.assign(new EventEmitter(), {
    headers,
    destroy: () => undefined,
    resume: () => undefined,
  });
  const clock = manualClock();
  const ends: (Buffer | string | undefined)[] = [];
  readRequestBody(
    source as unknown as BodySource,
    { take: () => true, drop: () => undefined },
    { clock },
    (error, body) => void ends.push(error === null ? body : (error as Error & { code: string }).code),
  );
  return { source, clock, ends };
}

describe('a body', () => {
  it('is whole, in however many pieces it comes', () => {
    for (const lengths of [
      [5],
      [1, 1, 1],
      [70_000, 1, 3],
      [1, 70_000, 20_000, 1],
      Array.from({ length: 999 }, (_, n) => n),
    ]) {
      const pieces = lengths.map((length, index) => Buffer.alloc(length, index + 65));
      const whole = Buffer.concat(pieces);
      for (const headers of [{}, { 'content-length': String(whole.length) }]) {
        const { source, ends } = read(headers);
        for (const piece of pieces) {
          source.emit('data', piece);
        }
        source.emit('end');
        expect(ends).toEqual([whole]);
      }
    }
  });

  it('takes a few bytes of memory for each of its own, in however small pieces it comes', () => {
    const { source, ends } = read();
    const count = 400_000;
    const used = (): number => {
      global.gc?.();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    const before = used();
    for (let index = 0; index < count; index += 1) {
      source.emit('data', Buffer.from(new Uint8Array([120]).buffer));
    }
    const grown = used() - before;
    source.emit('end');
    expect((ends[0] as Buffer).length).toBe(count);
    expect(grown / count).toBeLessThan(64);
  });

  it.each([
    ['CreateFunction', /operation\. Functions are images: name one by ImageUri, or use esb deploy FOLDER\.$/],
    ['UpdateFunctionCode', /operation\. Functions are images: name one by ImageUri, or use esb deploy FOLDER\.$/],
    ['CreateAlias', /operation$/],
  ])('that is too large for %s is refused with what to do instead, where it may be code', (operation, message) => {
    const source = Object.assign(new EventEmitter(), {
      headers: { 'content-length': '65537', expect: '100-continue' },
      destroy: () => undefined,
      resume: () => undefined,
    });
    const errors: (Error | null)[] = [];
    const options = { clock: manualClock(), maxBytes: MAX_OPERATION_BYTES, operation };
    const hold = { take: () => true, drop: () => undefined };
    readRequestBody(source as unknown as BodySource, hold, options, (error) => void errors.push(error));
    expect(errors.map((error) => error?.message)).toEqual([expect.stringMatching(message)]);
  });

  it('that is slow has ten seconds, and after that has to come with 8 KiB a second', {
    tags: ['T30'],
  }, async () => {
    const small = read({ 'content-length': '100' });
    small.source.emit('data', Buffer.alloc(99));
    await small.clock.advance(9_999);
    expect(small.ends).toEqual([]);
    await small.clock.advance(1_001);
    expect(small.ends).toEqual(['RequestTimeoutException']);
    small.source.emit('data', Buffer.alloc(1));
    small.source.emit('end');
    expect(small.ends).toHaveLength(1);

    const steady = read({ 'content-length': '2000000' });
    for (let second = 0; second < 60; second += 1) {
      steady.source.emit('data', Buffer.alloc(9_000));
      await steady.clock.advance(1_000);
    }
    expect(steady.ends).toEqual([]);
    await steady.clock.advance(20_000);
    expect(steady.ends).toEqual(['RequestTimeoutException']);
    expect(steady.clock.pending()).toBe(0);
  });

  it('that has come leaves no timer', () => {
    const { source, clock, ends } = read();
    source.emit('data', Buffer.from('{}'));
    source.emit('end');
    expect(ends).toEqual([Buffer.from('{}')]);
    expect(clock.pending()).toBe(0);
  });
});
