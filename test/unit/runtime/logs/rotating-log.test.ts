import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LogLayout, LogLimits } from '../../../../src/runtime/logs/log-layout.ts';
import { type LayoutSource, layoutInFolder, readPiece } from '../../../../src/runtime/logs/log-reader.ts';
import { findLogs, RotatingLog } from '../../../../src/runtime/logs/rotating-log.ts';
import { Crash, MemoryLogFiles } from '../../../support/memory-log-files.ts';

const live = 'w.log';

/** Numbered lines of different lengths: one that is missing, doubled or torn shows. */
function lines(first: number, count: number): string {
  return Array.from(
    { length: count },
    (_, index) => `${first + index} ${'x'.repeat(((first + index) * 7) % 40)}\n`,
  ).join('');
}

async function open(files: MemoryLogFiles, limits: LogLimits): Promise<RotatingLog> {
  const { logs, rubbish } = await findLogs(files);
  for (const name of rubbish) {
    await files.remove(name);
  }
  return new RotatingLog({
    files,
    containerId: 'w',
    limits,
    found: logs.get('w') ?? { parts: [] },
    monotonic: () => 0,
  });
}

interface Span {
  readonly offset: number;
  readonly text: string;
}

/** All that there is from `offset` on, in runs without a gap. */
async function readAll(files: MemoryLogFiles, layout: LayoutSource, offset: number): Promise<Span[]> {
  const spans: Span[] = [];
  for (let at = offset; ; ) {
    const piece = await readPiece(files, 'w', layout, at, 100);
    if (piece.data.length === 0) {
      return spans;
    }
    const last = spans.at(-1);
    if (last !== undefined && last.offset + last.text.length === piece.offset) {
      spans.splice(-1, 1, { offset: last.offset, text: last.text + piece.data.toString('latin1') });
    } else {
      spans.push({ offset: piece.offset, text: piece.data.toString('latin1') });
    }
    at = piece.offset + piece.data.length;
  }
}

function fileNames(files: MemoryLogFiles): string[] {
  return [...files.files.keys()].toSorted();
}

describe('a rotating log', () => {
  it('moves whole lines to a part that is named after their offset, and gives their space back', async () => {
    const files = new MemoryLogFiles();
    files.write(live, 'one\ntwo\nthree\nfour\n');
    const log = await open(files, { maxBytes: 12, maxFiles: 3 });
    expect(await log.look()).toBe(19);
    expect(fileNames(files)).toEqual(['w.log', 'w.log.0000000000000000']);
    expect(files.files.get('w.log.0000000000000000')?.toString()).toBe('one\ntwo\n');
    expect(files.files.get(live)?.toString()).toBe('\0\0\0\0\0\0\0\0three\nfour\n');
    files.write(live, 'five\n');
    await log.look();
    files.write(live, 'six\nseven\n');
    await log.look();
    expect(fileNames(files)).toEqual(['w.log', 'w.log.0000000000000008', 'w.log.0000000000000019']);
    expect(await readAll(files, () => log.layout, 0)).toEqual([{ offset: 8, text: 'three\nfour\nfive\nsix\nseven\n' }]);
  });

  it('cuts a line that is longer than a file', async () => {
    const files = new MemoryLogFiles();
    files.write(live, `${'x'.repeat(25)}\n`);
    const log = await open(files, { maxBytes: 10, maxFiles: 9 });
    await log.look();
    expect(log.layout.parts).toEqual([
      { start: 0, end: 10 },
      { start: 10, end: 20 },
    ]);
  });

  it('skips what would be removed at once', async () => {
    const files = new MemoryLogFiles();
    files.write(live, lines(0, 1_000));
    const log = await open(files, { maxBytes: 200, maxFiles: 3 });
    await log.look();
    expect(log.layout.parts).toHaveLength(2);
    const [span] = await readAll(files, () => log.layout, 0);
    expect(lines(0, 1_000).endsWith(span?.text ?? '?')).toBe(true);
    expect(span?.text.length).toBeGreaterThan(300);
  });

  it('keeps the part that begins where what was skipped ends', async () => {
    const files = new MemoryLogFiles();
    files.write(live, '123456789\n'.repeat(60));
    const log = await open(files, { maxBytes: 100, maxFiles: 3 });
    await log.look();
    expect(log.layout.parts.map(({ start }) => start)).toEqual([300, 400]);
    expect(fileNames(files)).toEqual(['w.log', 'w.log.0000000000000300', 'w.log.0000000000000400']);
    expect(await readAll(files, () => log.layout, 0)).toEqual([{ offset: 300, text: '123456789\n'.repeat(30) }]);
  });

  it('keeps one file alone where it may have no more, and knows after a restart where that begins', async () => {
    const files = new MemoryLogFiles();
    const limits = { maxBytes: 100, maxFiles: 1 };
    files.write(live, lines(0, 50));
    await (await open(files, limits)).look();
    const log = await open(files, limits);
    const [span] = await readAll(files, () => log.layout, 0);
    expect(lines(0, 50).endsWith(span?.text ?? '?')).toBe(true);
    expect(span?.text).toMatch(/^\d+ x*\n/);
    expect(fileNames(files)).toHaveLength(2);
  });

  it('keeps fewer files when it is told to, down to one', async () => {
    const files = new MemoryLogFiles();
    files.write(live, lines(0, 100));
    await (await open(files, { maxBytes: 300, maxFiles: 5 })).look();
    for (const maxFiles of [3, 1, 2]) {
      const log = await open(files, { maxBytes: 300, maxFiles });
      await log.look();
      expect(log.layout.parts.length).toBeLessThan(maxFiles);
      const [span, ...more] = await readAll(files, () => log.layout, 0);
      expect(more).toEqual([]);
      expect(lines(0, 100).endsWith(span?.text ?? '?')).toBe(true);
    }
  });

  it('gives up the oldest on a full disk rather than grow', async () => {
    const files = new MemoryLogFiles();
    const log = await open(files, { maxBytes: 100, maxFiles: 4 });
    for (let first = 0; first < 40; first += 4) {
      files.isFull = first > 12;
      files.write(live, lines(first, 4));
      await log.look();
      expect((files.files.get(live)?.length ?? 0) - (files.freed.get(live) ?? 0)).toBeLessThan(250);
    }
    const [span] = await readAll(files, () => log.layout, 0);
    expect(lines(0, 40).endsWith(span?.text ?? '?')).toBe(true);
    expect(fileNames(files).some((name) => name.endsWith('.unfinished'))).toBe(false);
  });

  it('takes nothing for new that somebody wrote over by cutting the file off', async () => {
    const files = new MemoryLogFiles();
    files.write(live, lines(0, 20));
    const log = await open(files, { maxBytes: 100, maxFiles: 9 });
    await log.look();
    const { head } = log.layout;
    files.files.set(live, Buffer.alloc(0));
    await log.look();
    files.write(live, 'after\n');
    const spans = await readAll(files, () => log.layout, head);
    expect(spans).toEqual([{ offset: head, text: 'after\n' }]);
  });

  it('leaves nothing when it is removed', async () => {
    const files = new MemoryLogFiles();
    files.write(live, lines(0, 100));
    files.write('v.log', 'other');
    files.write('w.log.times', 'p 1 1\n');
    const log = await open(files, { maxBytes: 100, maxFiles: 3 });
    await log.look();
    await log.remove();
    expect(fileNames(files)).toEqual(['v.log']);
    expect(await log.look()).toBeUndefined();
  });

  const limitsGiven = fc.record({
    // Twice the longest line at least: a longer one is cut.
    maxBytes: fc.integer({ min: 100, max: 400 }),
    maxFiles: fc.integer({ min: 1, max: 5 }),
  });
  const stepGiven = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('write'), count: fc.integer({ min: 1, max: 30 }) }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('look') }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('crash'),
        changes: fc.integer({ min: 1, max: 12 }),
        effect: fc.constantFrom('none', 'half', 'whole'),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('follow') }) },
  );

  it('has every line of what it keeps exactly once, whatever was written and whenever an agent died', async () => {
    await fc.assert(
      fc.asyncProperty(limitsGiven, fc.array(stepGiven, { maxLength: 40 }), async (limits, steps) => {
        const files = new MemoryLogFiles();
        let log = await open(files, limits);
        let written = '';
        let count = 0;
        let followed = 0;
        let kept = 0;
        for (const step of steps) {
          if (step.kind === 'write') {
            const text = lines(count, step.count);
            count += step.count;
            written += text;
            files.write(live, text);
          } else if (step.kind === 'crash') {
            files.changesLeft = step.changes;
            files.dyingEffect = step.effect as 'none' | 'half' | 'whole';
            await log.look().catch((error: unknown) => expect(error).toBeInstanceOf(Crash));
            files.changesLeft = undefined;
            log = await open(files, limits);
          } else if (step.kind === 'follow') {
            for (const span of await readAll(files, () => log.layout, followed)) {
              expect(span.text).toBe(written.slice(span.offset, span.offset + span.text.length));
              expect(span.offset).toBeGreaterThanOrEqual(followed);
              followed = span.offset + span.text.length;
            }
            expect(followed).toBe(written.length);
          } else {
            await log.look();
            expect(written.length - log.layout.head).toBeLessThanOrEqual(limits.maxBytes);
            const allocated = written.length - (files.freed.get(live) ?? 0);
            expect(allocated).toBeLessThanOrEqual(limits.maxBytes * 1.5);
            expect(fileNames(files).length).toBeLessThanOrEqual(Math.max(2, limits.maxFiles));
          }
          // A reader that knows only the folder sees the same.
          const spans = await readAll(files, () => log.layout, 0);
          expect(await readAll(files, () => layoutInFolder(files, 'w'), 0)).toEqual(spans);
          for (const { offset, text } of spans) {
            expect(text).toBe(written.slice(offset, offset + text.length));
            expect(offset === 0 || written[offset - 1] === '\n').toBe(true);
          }
          const last = spans.at(-1);
          expect((last?.offset ?? 0) + (last?.text.length ?? 0)).toBe(written.length);
          // Nothing within the limits is lost: lines are shorter than 60 bytes.
          const sum = spans.reduce((total, { text }) => total + text.length, 0);
          const least =
            limits.maxFiles === 1 ? Math.floor(limits.maxBytes / 2) : (limits.maxBytes - 60) * (limits.maxFiles - 1);
          kept = Math.min(written.length, least);
          expect(sum).toBeGreaterThanOrEqual(kept);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('is read right while it is rotated', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({ maxBytes: fc.integer({ min: 60, max: 200 }), maxFiles: fc.integer({ min: 2, max: 4 }) }),
        fc.infiniteStream(fc.nat(5)),
        async (limits, waits) => {
          const files = new MemoryLogFiles();
          files.yield = async () => {
            for (let wait = waits.next().value ?? 0; wait > 0; wait -= 1) {
              await Promise.resolve();
            }
          };
          const log = await open(files, limits);
          let written = '';
          let done = false;
          const write = async (): Promise<void> => {
            for (let count = 0; count < 120; count += 6) {
              written += lines(count, 6);
              files.write(live, lines(count, 6));
              await files.yield();
              await log.look();
            }
            done = true;
          };
          const follow = async (layout: LayoutSource): Promise<void> => {
            let followed = 0;
            while (!done || followed < written.length) {
              const { offset, data } = await readPiece(files, 'w', layout, followed, 90);
              expect(data.toString()).toBe(written.slice(offset, offset + data.length));
              followed = data.length === 0 ? followed : offset + data.length;
              await files.yield();
              await Promise.resolve();
            }
          };
          // Just where the head is about to be given back.
          const readAtHead = async (layout: LayoutSource): Promise<void> => {
            while (!done) {
              const { offset, data } = await readPiece(files, 'w', layout, (await layout()).head, 90);
              expect(data.toString()).toBe(written.slice(offset, offset + data.length));
              await files.yield();
              await Promise.resolve();
            }
          };
          const inFolder = (): Promise<LogLayout> => layoutInFolder(files, 'w');
          await Promise.all([
            write(),
            follow(() => log.layout),
            follow(inFolder),
            readAtHead(() => log.layout),
            readAtHead(inFolder),
          ]);
        },
      ),
      { numRuns: 100 },
    );
  });
});
