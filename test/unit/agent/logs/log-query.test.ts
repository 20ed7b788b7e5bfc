import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FoundSpan, LogCursor, type LogQuery } from '../../../../src/agent/logs/log-query.ts';
import { type MemoryWorkerLog, memoryWorkerLogs } from '../../../support/memory-worker-logs.ts';

const all: LogQuery = { tailLines: 0, sinceMs: 0, requestId: '', previous: false };

function call(id: string, text: string): string {
  return `START RequestId: ${id} Version: $LATEST\n${text}END RequestId: ${id}\nREPORT RequestId: ${id}\tDuration: 1 ms\n`;
}

async function gather(log: MemoryWorkerLog, query: Partial<LogQuery>, pieceBytes?: number) {
  const spans: FoundSpan[] = [];
  const sink = (span: FoundSpan): Promise<void> => {
    spans.push(span);
    return Promise.resolve();
  };
  const cursor = new LogCursor(memoryWorkerLogs(new Map([['c', log]]), pieceBytes), 'c', {
    ...all,
    ...query,
  });
  await cursor.begin(sink);
  return {
    cursor,
    spans,
    text: () => spans.map(({ data }) => data.toString('latin1')).join(''),
    readOn: () => cursor.readOn(sink),
  };
}

/** Text of the container before the one called `present`. */
async function previousOf(logs: Readonly<Record<string, MemoryWorkerLog>>): Promise<string> {
  const texts: string[] = [];
  const cursor = new LogCursor(memoryWorkerLogs(new Map(Object.entries(logs))), 'present', { ...all, previous: true });
  await cursor.begin(({ data }) => {
    texts.push(data.toString());
    return Promise.resolve();
  });
  return texts.join('');
}

describe('a look at a log', () => {
  it('gives the last lines, wherever the pieces of the log end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'grapheme-ascii', maxLength: 5 }), { maxLength: 12 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 14 }),
        fc.integer({ min: 1, max: 9 }),
        fc.nat(100),
        async (lines, hasEnd, tailLines, pieceBytes, first) => {
          const text = lines.join('\n') + (hasEnd && lines.length > 0 ? '\n' : '');
          const found = await gather({ text, first }, { tailLines }, pieceBytes);
          await found.readOn();
          const body = text.endsWith('\n') ? text.slice(0, -1) : text;
          const wanted = body.split('\n').slice(-tailLines).join('\n') + (text.endsWith('\n') ? '\n' : '');
          expect(found.text()).toBe(wanted);
        },
      ),
    );
  });

  it('gives what was written since a time', async () => {
    const points = [
      [1_000, 4],
      [2_000, 8],
    ] as const;
    expect((await gather({ text: 'one\ntwo\nsix\n', points }, { sinceMs: 1_500 })).text()).toBe('two\nsix\n');
    expect((await gather({ text: 'one\ntwo\nsix\n', points }, { sinceMs: 2_000 })).text()).toBe('six\n');
    expect((await gather({ text: 'one\ntwo\nsix\n', points }, { sinceMs: 500 })).text()).toBe('one\ntwo\nsix\n');
    expect((await gather({ text: 'one\ntwo\nsix\n', points }, { sinceMs: 1_000, tailLines: 1 })).text()).toBe('six\n');
  });

  it('gives what was written during one call, and ends with it', async () => {
    const log = { text: `init\n${call('a', 'from a\n')}between\n${call('b', '1\n2\n3\n')}` };
    const found = await gather(log, { requestId: 'b' });
    expect(found.text()).toBe(call('b', '1\n2\n3\n'));
    expect(found.cursor.isComplete).toBe(true);
    const last = await gather(log, { requestId: 'b', tailLines: 3 });
    expect(last.text()).toBe('3\nEND RequestId: b\nREPORT RequestId: b\tDuration: 1 ms\n');
    expect(last.spans[0]?.offset).toBe(log.text.length - last.text().length);
    const none = await gather(log, { requestId: 'c' });
    expect(none.text()).toBe('');
    expect(none.cursor.isComplete).toBe(false);
  });

  it('knows the call that the last lines are of', async () => {
    const found = await gather({ text: call('a', '1\n2\n') }, { tailLines: 3 });
    expect(found.spans.map(({ requestId }) => requestId)).toEqual(['a']);
  });

  it('gives what the container before wrote', async () => {
    const log = { text: 'first\nsecond\nthird\n', begins: [0, 6, 13] };
    expect((await gather(log, { previous: true })).text()).toBe('second\n');
    expect((await gather({ ...log, first: 13, text: 'third\nmore' }, {})).text()).toBe('third\n');
    await expect(gather({ text: 'x\n', begins: [0] }, { previous: true })).rejects.toMatchObject({
      code: 'NotFound',
    });
    await expect(gather({ first: 13, text: 'third\n', begins: [0, 6, 13] }, { previous: true })).rejects.toThrow(
      'no container before',
    );
  });

  it('gives what the container before wrote, also where that had another log', async () => {
    const logs = {
      present: { text: 'present\n', begins: [0], before: 'earlier' },
      earlier: { text: 'first\nlast words\n', begins: [0, 6] },
    };
    expect(await previousOf(logs)).toBe('last words\n');
  });

  it('gives what a replacement wrote that has failed, rather than an earlier container', async () => {
    const logs = {
      present: { text: 'a\nb\n', begins: [0, 2], after: 'failed' },
      failed: { text: '1\nno module\n', begins: [0, 2] },
    };
    expect(await previousOf(logs)).toBe('no module\n');
  });

  it('gives what a replacement wrote that has failed while the next attempt has written nothing yet', async () => {
    const logs = {
      present: { text: 'a\n', begins: [0], after: 'failed' },
      failed: { text: '1\nno module\n', begins: [0, 2, 12] },
    };
    expect(await previousOf(logs)).toBe('no module\n');
  });

  it('goes on where it was, line by line, and gives a line without an end once nothing more comes', async () => {
    const log: MemoryWorkerLog = { text: 'one\ntw' };
    const found = await gather(log, {});
    expect(found.text()).toBe('one\n');
    log.text += 'o\nthree\nfo';
    await found.readOn();
    expect(found.text()).toBe('one\ntwo\nthree\n');
    await found.readOn();
    expect(found.text()).toBe('one\ntwo\nthree\nfo');
    log.text += 'ur\n';
    await found.readOn();
    expect(found.text()).toBe('one\ntwo\nthree\nfour\n');
  });

  it('tells how much was removed before it was read', async () => {
    const log: MemoryWorkerLog = { text: 'one\n' };
    const found = await gather(log, {});
    log.first = 100;
    log.text = 'later\n';
    await found.readOn();
    expect(found.spans.map(({ offset, missed }) => [offset, missed])).toEqual([
      [0, 0],
      [100, 96],
    ]);
  });

  it('begins anew with a log that was removed and begun anew', async () => {
    const log: MemoryWorkerLog = { text: 'a long first life\n' };
    const found = await gather(log, {});
    log.id = '2';
    log.text = 'second\n';
    await found.readOn();
    expect(found.text()).toBe('a long first life\nsecond\n');
    expect(found.spans.at(-1)).toMatchObject({ offset: 0, missed: 0 });
  });

  it('of a container that has none is empty until it has one', async () => {
    const logs = new Map<string, MemoryWorkerLog>();
    const texts: string[] = [];
    const sink = (span: FoundSpan): Promise<void> => {
      texts.push(span.data.toString());
      return Promise.resolve();
    };
    const cursor = new LogCursor(memoryWorkerLogs(logs), 'c', all);
    await cursor.begin(sink);
    logs.set('c', { text: 'here\n' });
    await cursor.readOn(sink);
    expect(texts).toEqual(['here\n']);
  });
});
