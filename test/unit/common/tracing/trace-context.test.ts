import { describe, expect, it } from 'vitest';
import {
  completeXRay,
  continuedXRay,
  formatTraceParent,
  formatXRay,
  parentOf,
  parseTraceParent,
  parseXRay,
} from '../../../../src/common/tracing/trace-context.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';
const root = 'Root=1-4bf92f35-77b34da6a3ce929d0e0e4736';

describe('traceparent', () => {
  it.each([
    ['that is sampled', `00-${traceId}-${spanId}-01`, true],
    ['that is not', `00-${traceId}-${spanId}-00`, false],
    ['with flags of later versions', `00-${traceId}-${spanId}-03`, true],
    ['of a later version with more to say', `01-${traceId}-${spanId}-01-what-else`, true],
  ])('%s is read', (_what, text, sampled) => {
    expect(parseTraceParent(text)).toEqual({ traceId, spanId, sampled });
  });

  it.each([
    ['empty', ''],
    ['of the version that there is not', `ff-${traceId}-${spanId}-01`],
    ['of version 00 with more to say', `00-${traceId}-${spanId}-01-what`],
    ['without a trace', `00-${'0'.repeat(32)}-${spanId}-01`],
    ['without a span', `00-${traceId}-${'0'.repeat(16)}-01`],
    ['in capitals', `00-${traceId.toUpperCase()}-${spanId}-01`],
    ['cut off', `00-${traceId}-${spanId}`],
    ['without an end', `01-${traceId}-${spanId}-01-${'x'.repeat(5_000)}`],
  ])('%s is none', (_what, text) => {
    expect(parseTraceParent(text)).toBeUndefined();
  });

  it('is written as it is read', () => {
    for (const text of [`00-${traceId}-${spanId}-01`, `00-${traceId}-${spanId}-00`]) {
      const context = parseTraceParent(text);
      expect(context && formatTraceParent(context)).toBe(text);
    }
  });
});

describe('X-Amzn-Trace-Id', () => {
  it.each([
    ['that is sampled', `${root};Parent=${spanId};Sampled=1`, true],
    ['that is not', `${root};Parent=${spanId};Sampled=0`, false],
    ['without a decision', `${root};Parent=${spanId}`, true],
    ['whose decision is asked for', `${root};Parent=${spanId};Sampled=?`, true],
    ['in another order, with more', `Self=1-2-3; Sampled=1 ;Parent=${spanId};${root}`, true],
  ])('%s names the same trace', (_what, text, sampled) => {
    expect(parseXRay(text)).toEqual({ traceId, spanId, sampled });
  });

  it.each([
    ['empty', ''],
    ['a Root alone', root],
    ['a Root that is none', `Root=1-2-3;Parent=${spanId}`],
    ['another version', `Root=2-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=${spanId}`],
    ['anything else', ';;==;=a;Root'],
  ])('%s names none', (_what, text) => {
    expect(parseXRay(text)).toBeUndefined();
  });

  it('goes on with another parent, and with all else that the caller said', () => {
    const context = { traceId, spanId: 'aaaaaaaaaaaaaaaa', sampled: true };
    expect(formatXRay(context)).toBe(`${root};Parent=aaaaaaaaaaaaaaaa;Sampled=1`);
    expect(continuedXRay('', context)).toBe(formatXRay(context));
    expect(continuedXRay(`${root};Parent=${spanId};Sampled=0;Lineage=1:ab:0`, context)).toBe(
      `${root};Parent=aaaaaaaaaaaaaaaa;Sampled=1;Lineage=1:ab:0`,
    );
  });

  it('of another trace, or that nobody can read, is left as it is', () => {
    const context = { traceId, spanId: 'aaaaaaaaaaaaaaaa', sampled: true };
    const other = `Root=1-00000001-000000000000000000000002;Parent=${spanId};Sampled=1`;
    expect(continuedXRay(other, context)).toBe(other);
    expect(continuedXRay('Root=1-2-3', context)).toBe('Root=1-2-3');
  });
});

describe('the X-Amzn-Trace-Id of a function', () => {
  const parts = (text: string) => text.split(';').map((part) => part.split('=', 1)[0]);
  const fixed = `${root};Parent=${spanId};Sampled=1;Lineage=25:ab:1`;

  it('has Root, Parent, Sampled and Lineage where the caller has sent nothing, and is not sampled', () => {
    const made = completeXRay('', 'hello');
    expect(made).toMatch(/^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=1:[0-9a-f]{8}:0$/);
    expect(Math.abs(Number(`0x${made.slice(7, 15)}`) - Date.now() / 1_000)).toBeLessThan(60);
    expect(completeXRay('', 'hello')).not.toBe(made);
    expect(parts(completeXRay('Root=1-2-3;Parent=x', 'hello'))).toEqual(['Root', 'Parent', 'Sampled', 'Lineage']);
  });

  it('keeps all that the caller has sent of a trace', () => {
    expect(completeXRay(fixed, 'hello')).toBe(fixed);
    expect(completeXRay(`Self=1-2-3;${root}`, 'hello')).toMatch(
      new RegExp(`^${root};Parent=[0-9a-f]{16};Sampled=0;Self=1-2-3;Lineage=1:3610a686:0$`),
    );
    expect(completeXRay('x'.repeat(3_000), 'hello')).not.toContain('x');
  });
});

it('a traceparent goes before an X-Amzn-Trace-Id, and one that is broken does not', () => {
  const xray = `Root=1-00000001-000000000000000000000002;Parent=${spanId};Sampled=1`;
  expect(parentOf(`00-${traceId}-${spanId}-01`, xray)?.traceId).toBe(traceId);
  expect(parentOf('broken', xray)?.traceId).toBe('00000001000000000000000000000002');
  expect(parentOf('', '')).toBeUndefined();
});
