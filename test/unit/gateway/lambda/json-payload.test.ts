import { isUtf8 } from 'node:buffer';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkInPieces, checkPayload, payloadOf } from '../../../../src/gateway/lambda/json-payload.ts';

/** Whether a text is JSON to the engine, read as the gateway reads it. */
function isParsed(text: Buffer): boolean {
  try {
    JSON.parse(text.toString('latin1'));
    return isUtf8(text);
  } catch {
    return false;
  }
}

function isTaken(text: Buffer): boolean {
  try {
    checkPayload(text);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: 'InvalidRequestContentException' });
    return false;
  }
}

async function isTakenInPieces(text: Buffer, pieceBytes: number): Promise<boolean> {
  try {
    await checkInPieces(text, pieceBytes);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: 'InvalidRequestContentException' });
    return false;
  }
}

describe('a payload', () => {
  it('is the body as it came, and an empty object for none', () => {
    const body = Buffer.from(' [1] ');
    expect(payloadOf(body)).toBe(body);
    expect(payloadOf(undefined).toString()).toBe('{}');
    expect(payloadOf(Buffer.alloc(0)).toString()).toBe('{}');
  });

  it('may be any JSON', () => {
    // The unit `binary` of fast-check takes seconds to set up.
    const stringUnit = fc.integer({ min: 0, max: 0x10_ff_ff }).map((code) => String.fromCodePoint(code));
    fc.assert(
      fc.property(fc.json({ stringUnit }), (text) => {
        checkPayload(Buffer.from(text));
      }),
    );
  });

  it.each([
    ...['null', 'true', 'false', '1', '-0', '0.5e-7', '1E+2', '"ü\u2028"', ' [1] \n', '\t{ "a" : [ ] , "b" : { } }\r'],
    ...['"\\u00e9\\ud800\\/\\b\\f\\n\\r\\t\\\\\\""', '[[],{},[{}]]', '{"a":1,"a":2}', '"\u007f"'],
  ])('may be %j', (text) => {
    expect(isParsed(Buffer.from(text))).toBe(true);
    expect(isTaken(Buffer.from(text))).toBe(true);
  });

  it.each([
    ...['{', "{'a':1}", '{"a":1}}', 'undefined', '\u00a01', ' ', '[', '[1', '[1,', '[1,]', '[,1]', '[1 2]', ']', '}'],
    ...['{"a"}', '{"a":}', '{"a":1,}', '{,}', '{1:2}', '{"a" 1}', '[}', '{]', '[1}', '{"a":1]', 'tru', 'nul', 'trux'],
    ...['"a', '"\n"', '"\\x"', '"\\u12g4"', '"\\u12', '01', '-', '+1', '.5', '1.', '1e', '1e+', '0x1', 'NaN', '1 1'],
    ...['\ufeff1', '"a"b', '{"a":1}{"b":2}', '/**/1', '[1,,2]', 'truefalse', '1,2'],
  ])('may not be %j', (text) => {
    expect(isParsed(Buffer.from(text))).toBe(false);
    expect(isTaken(Buffer.from(text))).toBe(false);
  });

  it('is JSON where the engine says so, and only there', () => {
    const piece = fc.constantFrom(
      ...'{}[],:"\\ \n-+.0123eEtrufalsn'.split(''),
      ...['true', 'null', '"a"', '\\u', '\\n', '1e5', '{"a":', '[1,'],
    );
    const spoiled = fc
      .tuple(fc.json(), fc.nat(), fc.nat(3), fc.array(piece, { maxLength: 2 }))
      .map(([text, at, taken, put]) => {
        const from = at % (text.length + 1);
        return text.slice(0, from) + put.join('') + text.slice(from + taken);
      });
    const noise = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''));
    const bytes = fc.uint8Array({ maxLength: 8 }).map((array) => Buffer.from(array));
    fc.assert(
      fc.property(fc.oneof(spoiled, noise).map(Buffer.from), (text) => {
        expect(isTaken(text)).toBe(isParsed(text));
      }),
      { numRuns: 3_000 },
    );
    fc.assert(
      fc.property(bytes, (inside) => {
        const text = Buffer.concat([Buffer.from('"'), inside, Buffer.from('"')]);
        expect(isTaken(text)).toBe(isParsed(text));
      }),
      { numRuns: 1_000 },
    );
  });

  it('that is not UTF-8 is none', () => {
    expect(() => checkPayload(Buffer.from([0x22, 0xff, 0x22]))).toThrow(/UTF-8/);
  });

  it('may be nested 10,000 levels deep, and no deeper', () => {
    const nested = (depth: number): Buffer => Buffer.from(`${'[{"a":'.repeat(depth / 2)}1${'}]'.repeat(depth / 2)}`);
    checkPayload(nested(10_000));
    expect(() => checkPayload(nested(10_002))).toThrow('nested deeper than 10000 levels');
    expect(() => checkPayload(Buffer.alloc(6 * 2 ** 20, '['))).toThrow('nested deeper');
  });

  it('costs no more than its length, whatever is in it', () => {
    // Made into objects, this would take hundreds of megabytes.
    const text = Buffer.from(`[${'[],'.repeat(2 * 2 ** 20 - 2)}[]]`);
    expect(text.length).toBeGreaterThan(6 * 2 ** 20 - 16);
    const before = process.memoryUsage().heapUsed;
    checkPayload(text);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(32 * 2 ** 20);
  });

  it('is judged alike in pieces of any size', async () => {
    const text = fc.oneof(
      fc.json(),
      fc
        .array(fc.constantFrom(...'{}[],:"\\ 1-.e'.split(''), 'true', '[1,', '{"a":'), { maxLength: 12 })
        .map((all) => all.join('')),
    );
    await fc.assert(
      fc.asyncProperty(text.map(Buffer.from), fc.integer({ min: 1, max: 8 }), async (payload, pieceBytes) => {
        expect(await isTakenInPieces(payload, pieceBytes)).toBe(isTaken(payload));
      }),
    );
  });

  it('of 6 MiB takes a turn of the event loop for each MiB', async () => {
    const payload = Buffer.from(`[${'1,'.repeat(3 * 2 ** 20 - 2)}1]`);
    let turns = 0;
    const count = (): void => {
      turns += 1;
      turning = setImmediate(count);
    };
    let turning = setImmediate(count);
    await checkInPieces(payload);
    clearImmediate(turning);
    expect(turns).toBeGreaterThanOrEqual(6);
  });
});
