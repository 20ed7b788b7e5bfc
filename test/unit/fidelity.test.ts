import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { documentationRoot, textOf } from '../support/documentation.ts';

const PAGE = 'docs/reference/lambda-fidelity.md';
const rows = textOf(PAGE)
  .split('\n')
  .filter((line) => /^\| (?:\d+)? \|/.test(line));
const tests = [...textOf(PAGE).matchAll(/`([\w/.-]+\.test\.ts)`,\s`([^`]+)`/g)].map(
  ([, file = '', title = '']) => [file, title] as const,
);

it('the page on fidelity has each row of the audit, and names a test in each', () => {
  const numbers = rows.map((row) => Number(/^\| (\d+)/.exec(row)?.[1])).filter((number) => !Number.isNaN(number));
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
  expect(numbers).toEqual([...range(26, 37), ...range(82, 94)]);
  expect(rows.filter((row) => !/`[\w/.-]+\.test\.ts`, `[^`]+`/.test(row))).toEqual([]);
});

it.each(tests)('the page on fidelity names a test of %s that is there: %s', (file, title) => {
  const path = join(documentationRoot, file.includes('/') ? '' : 'test/integration/gateway/conformance', file);
  expect(existsSync(path)).toBe(true);
  expect(readFileSync(path, 'utf8')).toContain(title);
});
