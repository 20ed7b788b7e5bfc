import { describe, expect, it, vi } from 'vitest';
import { readMessage } from '../../../src/init/messages.ts';

const words = (kind: string, ...lines: readonly string[]): ReturnType<typeof readMessage> =>
  readMessage(kind, Buffer.from(lines.map((line) => `${line}\n`).join('')));

describe('a message', () => {
  it('of a worker that is ready', () => {
    expect(words('P', 'phase=Ready', 'idle=true', 'initMs=12', 'restarts=1', 'later=x')).toEqual({
      kind: 'Phase',
      state: { phase: 'Ready', idle: true, initMs: 12, restarts: 1 },
    });
  });

  it('of a failure, whose texts may have lines', () => {
    const message = words(
      'H',
      ...['phase=Failed', 'idle=true', 'initMs=0', 'restarts=0', 'errorType=Function.S\u00e4d', 'message=a\\nb\\\\c=d'],
      ...['body={}', 'bound=60 connections', 'version=1', 'session=s', 'calls=0'],
    );
    expect(message).toEqual({
      kind: 'Hello',
      session: 's',
      calls: 0,
      history: undefined,
      state: {
        phase: 'Failed',
        idle: false,
        initMs: 0,
        restarts: 0,
        fault: { errorType: 'Function.S?d', message: 'a\nb\\c=d', body: '{}', bound: '60 connections' },
      },
    });
  });

  it('of a call that runs, answers and has ended', () => {
    expect(words('C', 'id=a', 'stage=Running')).toEqual({ kind: 'Call', call: { id: 'a' } });
    expect(words('C', 'id=a', 'answering=true', 'streaming=true', 'contentType=text/plain\\nX: y')).toMatchObject({
      call: { head: { contentType: 'text/plain?X: y', streaming: true } },
    });
    const errorBody = Buffer.from('{"errorMessage":"no"}').toString('base64');
    const end = ['outcome=Error', 'size=7', 'durationUs=8', 'errorType=Sad'];
    expect(words('C', 'id=a', ...end, `errorBody=${errorBody}`)).toMatchObject({
      call: {
        end: { outcome: 'Error', size: 7, durationUs: 8, errorType: 'Sad', errorBody: '{"errorMessage":"no"}' },
      },
    });
    expect(words('C', 'id=a', ...end, 'errorBody=no JSON')).toMatchObject({ call: { end: { errorBody: undefined } } });
  });

  it('of nothing but escapes calls no function for each of them', () => {
    const replace = vi.spyOn(String.prototype, 'replace');
    try {
      const state = ['phase=Failed', 'idle=false', 'initMs=0', 'restarts=0', 'errorType=Sad'];
      const message = words('P', ...state, `body=${'\\\\\\n\\\u00e4'.repeat(10_000)}\\`);
      const functions = replace.mock.calls.filter(([, by]) => typeof by === 'function');
      expect(functions).toEqual([]);
      expect(message).toMatchObject({ state: { fault: { body: '\\\n\u00e4'.repeat(10_000) } } });
    } finally {
      replace.mockRestore();
    }
  });

  it('of bytes of an answer', () => {
    const payload = Buffer.concat([
      Buffer.from('\u0002ab'),
      Buffer.from('0000000000010203', 'hex'),
      Buffer.from('xyz'),
    ]);
    expect(readMessage('D', payload)).toEqual({ kind: 'Data', id: 'ab', offset: 0x10203, bytes: Buffer.from('xyz') });
  });

  it('of a later kind is passed over', () => {
    expect(words('Z', 'anything')).toEqual({ kind: 'Other' });
  });
});

describe('a message is refused', () => {
  const phase = ['phase=Ready', 'initMs=1', 'restarts=0'];
  it.each([
    ['another version', 'H', [...phase, 'version=2', 'session=s', 'calls=0']],
    ['no version', 'H', [...phase, 'session=s', 'calls=0']],
    ['a phase that is none', 'P', ['phase=toString', 'initMs=1', 'restarts=0']],
    ['a number that is none', 'P', ['phase=Ready', 'initMs=-1', 'restarts=0']],
    ['a number that is too large', 'P', ['phase=Ready', `initMs=${'9'.repeat(16)}`, 'restarts=0']],
    ['an outcome that is none', 'C', ['id=a', 'outcome=constructor', 'size=1', 'durationUs=1']],
    ['a text that is too long', 'P', [...phase, `body=${'y'.repeat(64 * 1024 + 1)}`]],
    ['an id that no call has', 'C', [`id=${'i'.repeat(256)}`]],
    ['too many lines', 'P', [...phase, ...Array.from({ length: 40 }, (_, index) => `${index}=`)]],
    ['bytes of nothing', 'D', []],
    ['bytes without a whole offset', 'D', ['\u0002ab000']],
  ])('for %s', (_, kind, lines) => {
    expect(() => words(kind, ...lines)).toThrow(/the init/);
  });
});
