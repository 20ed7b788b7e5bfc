import { describe, expect, it } from 'vitest';
import { InvocationSplitter } from '../../../../src/agent/logs/invocation-splitter.ts';
import { linesOf, ownerOf } from '../../../../src/agent/logs/line-owner.ts';

const time = '2026-11-29T00:00:00.000Z';

describe('a line of a log with several calls at once', () => {
  it.each([
    ['the first line of Lambda', 'START RequestId: one Version: $LATEST\n', 'one', false],
    ['the last but one', 'END RequestId: one\n', 'one', false],
    ['the last one', 'REPORT RequestId: one\tDuration: 1.00 ms\n', 'one', true],
    ['the line of a timeout', `${time} one Task timed out after 1.00 seconds\n`, 'one', false],
    ['the line of an error', 'RequestId: one Error: Runtime exited with error: exit status 7\n', 'one', false],
    ['a line of the Node client', '{"timestamp":"t","level":"INFO","requestId":"one","message":"hi"}\n', 'one', false],
    ['a line of the Python client', '{"level":"INFO","message":"hi","AWSRequestId":"one"}\n', 'one', false],
    ['an event', `{"time":"${time}","type":"platform.start","record":{"requestId":"one"}}\n`, 'one', false],
    ['the last event', `{"time":"${time}","type":"platform.report","record":{"requestId":"one"}}\n`, 'one', true],
    ['plain text', 'hello from one\n', '', false],
    ['text that quotes a line of Lambda', 'I saw START RequestId: one\n', '', false],
    ['JSON without an id', '{"message":"hi"}\n', '', false],
    ['JSON whose id is none', '{"requestId":7}\n', '', false],
    ['JSON of another kind with a record', '{"type":"mine","record":{"requestId":"one"}}\n', '', false],
    ['JSON that is cut short', '{"requestId":"one","mess\n', '', false],
    ['nothing', '', '', false],
  ])('%s', (_, line, requestId, isLast) => {
    expect(ownerOf(Buffer.from(line))).toEqual({ requestId, isLast });
  });
});

const lines = [
  ['', 'loaded\n'],
  ['a', 'START RequestId: a Version: $LATEST\n'],
  ['b', 'START RequestId: b Version: $LATEST\n'],
  ['', 'of one of the two\n'],
  ['a', '{"requestId":"a","message":"1"}\n'],
  ['b', '{"requestId":"b","message":"2"}\n'],
  ['b', 'END RequestId: b\n'],
  ['b', 'REPORT RequestId: b\tDuration: 1.00 ms\n'],
  ['a', 'END RequestId: a\n'],
  ['a', 'REPORT RequestId: a\tDuration: 1.00 ms\n'],
  ['', 'late'],
] as const;
const log = Buffer.from(lines.map(([, line]) => line).join(''));

describe('a log of a worker with several calls at once', () => {
  it('is split by its lines, however it comes', () => {
    for (let size = 1; size <= log.length; size += 7) {
      const splitter = new InvocationSplitter(true);
      const spans = [];
      for (let at = 0; at < log.length; at += size) {
        spans.push(...splitter.push(log.subarray(at, at + size), at));
      }
      spans.push(...splitter.flush());
      const owned = spans.flatMap(({ data, requestId }) =>
        data
          .toString()
          .split(/(?<=\n)/)
          .map((line) => [requestId, line]),
      );
      expect(owned).toEqual(lines);
      expect(spans.filter(({ isLast }) => isLast).map(({ requestId }) => requestId)).toEqual(['b', 'a']);
      for (const { data, offset } of spans) {
        expect(log.subarray(offset, offset + data.length)).toEqual(data);
      }
    }
  });

  it('has for a call the lines that name the call', () => {
    const ofB = lines.filter(([owner]) => owner === 'b').map(([, line]) => line);
    expect(linesOf(log, 'b').toString()).toBe(ofB.join(''));
    expect(linesOf(log, 'c')).toEqual(Buffer.alloc(0));
  });
});
