import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pitfalls } from '../pitfalls.ts';

const folder = join(import.meta.dirname, '..');

/** Titles of the tests of a file as they are written, and whether they are run. */
function titlesOf(file: string): readonly { readonly title: string; readonly runs: boolean }[] {
  const text = readFileSync(join(folder, file), 'utf8');
  const calls = text.matchAll(/(\b(?:it|test)(?:\.\w+)*)?\(\s*(['"`])((?:\\.|(?!\2)[^\\])*)\2,/g);
  return [...calls].map(([, call = 'it', , title = '']) => ({
    title: title.replaceAll(/\\(.)/g, '$1'),
    runs: !/\.(skip|todo|only|fails)\b/.test(call),
  }));
}

describe('each pitfall of other systems', () => {
  it('is in the index once', () => {
    const wanted = [
      ...Array.from({ length: 35 }, (_, index) => `P${index + 1}`),
      ...Array.from({ length: 21 }, (_, index) => `M${index + 1}`),
      ...Array.from({ length: 13 }, (_, index) => `G${index + 1}`),
    ];
    expect(pitfalls.map(({ id }) => id)).toEqual(wanted);
  });

  it('has tests that are there, and none that is skipped', () => {
    const missing = pitfalls.flatMap(({ id, tests }) =>
      tests
        .filter(([file, title]) => !titlesOf(file).some((found) => found.title === title && found.runs))
        .map(([file, title]) => `${id}: ${file} has no test '${title}'`),
    );
    expect(missing).toEqual([]);
    expect(pitfalls.filter(({ tests }) => tests.length === 0)).toEqual([]);
  });

  it('of gateways is shown by a test that goes through one', () => {
    const throughGateway = /\bgateway\b|^e2e\//;
    const elsewhere = pitfalls
      // An image is replaced by the agent alone.
      .filter(({ id }) => id.startsWith('G') && id !== 'G9')
      .filter(({ tests }) => !tests.some(([file]) => throughGateway.test(file)));
    expect(elsewhere).toEqual([]);
  });

  it('would be missed: a title that is not there is not found', () => {
    const file = 'unit/pitfalls.test.ts';
    expect(titlesOf(file).map(({ title }) => title)).toContain('is in the index once');
    expect(titlesOf(file).map(({ title }) => title)).not.toContain('is in the index');
  });
});
