import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { type UrlRequest, urlEventOf } from '../../../../src/gateway/url/url-event.ts';

const MIB = 2 ** 20;

function requestOf(body: Buffer, type: string): UrlRequest {
  return {
    method: 'POST',
    target: '/',
    httpVersion: '1.1',
    rawHeaders: ['Host', 'hello.default.fn.example.com', 'Content-Type', type],
    body,
    client: { address: '127.0.0.1', byProxy: false },
    host: 'hello.default.fn.example.com',
    requestId: 'id',
    at: 0,
    signer: undefined,
    traceId: 'Root=1-5e6a8b4e-000000000000000000000001',
  };
}

const every = Buffer.from(Array.from({ length: 128 }, (_, byte) => byte));
const bodies = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc.string({ unit: 'binary', maxLength: 300 }).map((text) => Buffer.from(text)),
  fc.constantFrom(every, Buffer.from('"\\/\b\f\n\r\t\u0000\u001f\u007f\u2028\u{1f600}é'), Buffer.alloc(100_001, 200)),
);

it('an event is, byte for byte, what JSON.stringify makes of it, and no longer than it may be', () => {
  fc.assert(
    fc.property(bodies, fc.constantFrom('text/plain', 'image/png'), (body, type) => {
      const request = requestOf(body, type);
      const event = urlEventOf(request, 6 * MIB);
      const value = JSON.parse(String(event)) as { readonly body?: string; readonly isBase64Encoded: boolean };
      expect(String(event)).toBe(JSON.stringify(value));
      expect(Buffer.from(value.body ?? '', value.isBase64Encoded ? 'base64' : 'utf8').equals(body)).toBe(true);
      const bytes = event?.length ?? 0;
      expect(urlEventOf(request, bytes)?.length).toBe(bytes);
      expect(urlEventOf(request, bytes - 1)).toBeUndefined();
    }),
  );
});

it('nothing is made of a body whose event would be too large', () => {
  const made = [
    vi.spyOn(Buffer, 'allocUnsafeSlow'),
    vi.spyOn(Buffer.prototype, 'toString'),
    vi.spyOn(Buffer.prototype, 'write'),
  ];
  try {
    expect(urlEventOf(requestOf(Buffer.alloc(6 * MIB, 1), 'text/plain'), 6 * MIB)).toBeUndefined();
    expect(urlEventOf(requestOf(Buffer.alloc(5 * MIB, 200), 'image/png'), 6 * MIB)).toBeUndefined();
    expect(made.map(({ mock }) => mock.calls.length)).toEqual([0, 0, 0]);
  } finally {
    vi.restoreAllMocks();
  }
});
