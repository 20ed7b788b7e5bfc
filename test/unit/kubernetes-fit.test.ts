import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { documentationRoot, textOf } from '../support/documentation.ts';

const PAGE = 'docs/reference/kubernetes-fit.md';
const VERDICTS = ['won', 'level', 'lost'] as const;

interface Row {
  readonly number: number;
  readonly before: string;
  readonly now: string;
  readonly shown: string;
}

/** Rows of the page that have a number. */
function rowsOf(page: string): readonly Row[] {
  return page.split('\n').flatMap((line) => {
    const [number = '', , , , before = '', now = '', shown = ''] = line
      .split(' | ')
      .map((cell) => cell.replace(/^\| /, ''));
    return /^\d+$/.test(number) ? [{ number: Number(number), before, now, shown }] : [];
  });
}

const page = textOf(PAGE);
const rows = rowsOf(page);
const evidence = rows.flatMap(({ number, shown }) =>
  shown
    .replace(/ \|$/, '')
    .split('; ')
    .map((each) => ({ number, each })),
);

describe('the page about ESB beside other operators', () => {
  it('has 45 rows in order, each with a verdict then and now', () => {
    expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: 45 }, (_, index) => index + 1));
    expect(rows.filter(({ before, now }) => ![before, now].every((each) => VERDICTS.includes(each as never)))).toEqual(
      [],
    );
  });

  it.each([
    ['at f91af54', ({ before }: Row) => before],
    ['now', ({ now }: Row) => now],
  ])('counts its verdicts %s', (name, verdict) => {
    const counts = VERDICTS.map((each) => rows.filter((row) => verdict(row) === each).length);
    expect(page).toContain(`\n| ${name} | ${counts.join(' | ')} |\n`);
  });

  it('names the rows that are lost, and no others, in its last chapter', () => {
    const chapter = page.split('## What is still lost')[1] ?? '';
    const named = [...chapter.matchAll(/\(([\d, ]+)\)/g)].flatMap(([, list = '']) => list.split(', ').map(Number));
    expect(named.toSorted((a, b) => a - b)).toEqual(
      rows.filter(({ now }) => now === 'lost').map(({ number }) => number),
    );
  });

  it.each(evidence)('shows row $number by a file that is there: $each', ({ each }) => {
    const [, file = '', title] = /^`([\w./-]+)`(?:, `([^`]+)`)?$/.exec(each) ?? [];
    expect(file).not.toBe('');
    expect(existsSync(join(documentationRoot, file))).toBe(true);
    expect(textOf(file)).toContain(title ?? '');
  });
});
