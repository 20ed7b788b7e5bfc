import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  callBefore,
  InvocationSplitter,
  type LogSpan,
  partOf,
  reportsEnd,
} from '../../../../src/agent/logs/invocation-splitter.ts';

/** Output of the emulator and a function. */
const log = [
  'listening\n',
  'START RequestId: one Version: $LATEST\n',
  'hello from one\n',
  'END RequestId: one\n',
  'REPORT RequestId: one\tDuration: 1.00 ms\t\n',
  'idle thought\n',
  'START RequestId: two\tVersion: $LATEST\n',
  'no line end',
  'END RequestId: two\n',
  'REPORT RequestId: two\tDuration: 1.00 ms\n',
].join('');

const expected: readonly (readonly [requestId: string, text: string])[] = [
  ['', 'listening\n'],
  [
    'one',
    'START RequestId: one Version: $LATEST\nhello from one\nEND RequestId: one\nREPORT RequestId: one\tDuration: 1.00 ms\t\n',
  ],
  ['', 'idle thought\n'],
  [
    'two',
    'START RequestId: two\tVersion: $LATEST\nno line endEND RequestId: two\nREPORT RequestId: two\tDuration: 1.00 ms\n',
  ],
];

function split(text: string, splitter = new InvocationSplitter()): LogSpan[] {
  return [...splitter.push(Buffer.from(text), 0), ...splitter.flush()];
}

/** Spans of one call that follow each other, put together. */
function joined(spans: readonly LogSpan[]): [requestId: string, text: string][] {
  const result: [string, string][] = [];
  for (const { requestId, data } of spans) {
    const last = result.at(-1);
    if (last !== undefined && last[0] === requestId) {
      last[1] += data.toString();
    } else {
      result.push([requestId, data.toString()]);
    }
  }
  return result;
}

describe('a log split by calls', () => {
  it('belongs to a call from its START to its REPORT, and to none in between', () => {
    const spans = split(log);
    expect(joined(spans)).toEqual(expected);
    expect(spans.map(({ isLast }) => isLast)).toEqual([false, true, false, true]);
  });

  it('is split alike however it comes', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(log.length), { maxLength: 20 }), fc.nat(1_000), (cuts, begin) => {
        const splitter = new InvocationSplitter();
        const places = [0, ...cuts.toSorted((a, b) => a - b), log.length];
        const spans = places.flatMap((place, index) =>
          splitter.push(Buffer.from(log.slice(place, places[index + 1] ?? log.length)), begin + place),
        );
        spans.push(...splitter.flush());
        expect(joined(spans)).toEqual(expected);
        let offset = begin;
        for (const span of spans) {
          expect(span.offset).toBe(offset);
          offset += span.data.length;
        }
      }),
    );
  });

  it('has a call end with the START of the next where the function died in it', () => {
    expect(
      joined(split('START RequestId: a Version: 1\nboom\nSTART RequestId: b Version: 1\nEND RequestId: b\n')),
    ).toEqual([
      ['a', 'START RequestId: a Version: 1\nboom\n'],
      ['b', 'START RequestId: b Version: 1\nEND RequestId: b\n'],
    ]);
  });

  it('takes a START after an unfinished line of the initialisation, and no quotation within a call', () => {
    expect(joined(split('loading... START RequestId: a Version: 1\n'))).toEqual([
      ['', 'loading... '],
      ['a', 'START RequestId: a Version: 1\n'],
    ]);
    const quoting = 'START RequestId: a Version: 1\nsaw START RequestId: b\nREPORT RequestId: c\nRESTART RequestId: \n';
    expect(joined(split(quoting))).toEqual([['a', quoting]]);
  });

  it('is split at the events of a log that is JSON, and at no quotation of them', () => {
    const start =
      '{"time":"2026-11-28T23:52:54.442Z","type":"platform.start","record":{"requestId":"a","version":"$LATEST"}}\n';
    const report = start.replace('start', 'report');
    const done = start.replace('start', 'runtimeDone');
    const quoted = `{"message":${JSON.stringify(report)}}\n not ${report}{"time":"x","type":"platform.report","record":{"requestId":"a"}}\n`;
    const text = `before\n${start}${quoted}${done}${report}after\n`;
    const whole = [
      ['', 'before\n'],
      ['a', `${start}${quoted}${done}${report}`],
      ['', 'after\n'],
    ];
    expect(joined(split(text))).toEqual(whole);
    const splitter = new InvocationSplitter();
    const pieces = text.split('').flatMap((letter, index) => splitter.push(Buffer.from(letter), index));
    expect(joined(pieces)).toEqual(whole);
    expect(pieces.filter(({ isLast }) => isLast)).toHaveLength(1);
    expect(reportsEnd(Buffer.from(text), 'a')).toBe(true);
    expect(partOf(Buffer.from(text), 'a').toString()).toBe(text.slice('before\n'.length));
  });

  it('knows no call after a gap', () => {
    const splitter = new InvocationSplitter();
    const spans = [
      ...splitter.push(Buffer.from('START RequestId: a Version: 1\nhal'), 0),
      ...splitter.push(Buffer.from('anything\n'), 500),
    ];
    expect(joined(spans)).toEqual([
      ['a', 'START RequestId: a Version: 1\nhal'],
      ['', 'anything\n'],
    ]);
    expect(spans.at(-1)?.offset).toBe(500);
  });

  it('holds no line back that is longer than any marker', () => {
    const splitter = new InvocationSplitter();
    expect(splitter.push(Buffer.alloc(200_000, 'x'), 0)).toHaveLength(1);
  });

  it('tells from what comes after it which call was under way', () => {
    expect(callBefore(Buffer.from('text\nEND RequestId: a\n'))).toBe('a');
    expect(callBefore(Buffer.from('text\nREPORT RequestId: a\tDuration\n'))).toBe('a');
    expect(callBefore(Buffer.from('text\nSTART RequestId: a Version\n'))).toBe('');
    expect(callBefore(Buffer.from('text\n'))).toBe('');
  });
});
