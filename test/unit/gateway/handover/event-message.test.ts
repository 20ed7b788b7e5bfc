import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FunctionCall } from '../../../../src/gateway/agents/function-call.ts';
import { decodeEvent, encodeEvent } from '../../../../src/gateway/handover/event-message.ts';

const requestId = '11111111-2222-4333-8444-555555555555';

function call(change: Partial<FunctionCall> = {}): FunctionCall {
  return {
    reference: { name: 'hello' },
    requestId,
    payload: Buffer.from('{}'),
    clientContext: '',
    tailLog: false,
    traceId: '',
    traceParent: '',
    ...change,
  };
}

describe('an event on its way', () => {
  it('arrives as it was sent', () => {
    const name = fc.stringMatching(/^[a-zA-Z0-9-_]{1,64}$/);
    fc.assert(
      fc.property(
        name,
        fc.option(name, { nil: undefined }),
        fc.uuid(),
        fc.json(),
        fc.string(),
        (functionName, qualifier, id, json, trace) => {
          const sent = call({
            reference: { name: functionName, ...(qualifier === undefined ? {} : { qualifier }) },
            requestId: id,
            // A payload may have lines.
            payload: Buffer.from(`\n${json}\n`),
            traceId: trace,
            traceParent: trace,
          });
          expect(decodeEvent(encodeEvent(sent))).toEqual(sent);
        },
      ),
    );
  });

  it('has at most the payload that an event may have', () => {
    const payload = Buffer.from(JSON.stringify('x'.repeat(1024 * 1024)));
    expect(() => decodeEvent(encodeEvent(call({ payload })))).toThrow('An event has at most 1048576 bytes');
  });

  it.each([
    ['nothing', ''],
    ['no line', '{}'],
    ['no object', 'null\n{}'],
    ['no JSON', '{\n{}'],
    ['another kind of request id', `${JSON.stringify({ ...head(), requestId: '../x' })}\n{}`],
    ['no name', `${JSON.stringify({ ...head(), functionName: undefined })}\n{}`],
    ['a qualifier that is no text', `${JSON.stringify({ ...head(), qualifier: 1 })}\n{}`],
  ])('is refused as no event: %s', (_what, body) => {
    expect(() => decodeEvent(Buffer.from(body))).toThrow('The request is no event of a gateway');
  });

  it('is refused with a name that is none, and with a payload that is no JSON', () => {
    const named = `${JSON.stringify({ ...head(), functionName: 'a b' })}\n{}`;
    expect(() => decodeEvent(Buffer.from(named))).toThrow("'functionName'");
    expect(() => decodeEvent(encodeEvent(call({ payload: Buffer.from('{') })))).toThrow('Could not parse');
  });
});

function head(): object {
  return { requestId, functionName: 'hello', traceId: '', traceParent: '' };
}
