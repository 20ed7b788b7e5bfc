import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '..');

/** Titles of the tests of a file as they are written, and whether they are run. */
export function titlesOf(file: string): readonly { readonly title: string; readonly runs: boolean }[] {
  const text = readFileSync(join(folder, file), 'utf8');
  const calls = text.matchAll(/(\b(?:it|test)(?:\.\w+)*)?\(\s*(['"`])((?:\\.|(?!\2)[^\\])*)\2,/g);
  return [...calls].map(([, call = 'it', , title = '']) => ({
    title: title.replaceAll(/\\(.)/g, '$1'),
    runs: !/\.(skip|todo|only|fails)\b/.test(call),
  }));
}
