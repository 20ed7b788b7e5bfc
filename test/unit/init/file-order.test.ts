import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const root = new URL('../../../init/', import.meta.url);

const names = readdirSync(root)
  .filter((file) => file.endsWith('.c'))
  .map((file) => file.slice(0, -'.c'.length));
const texts = new Map(names.map((name) => [name, withoutComments(readFileSync(new URL(`${name}.c`, root), 'utf8'))]));
const listed = [...readFileSync(new URL('init.h', root), 'utf8').matchAll(/^\/\/ {3}(\w+)\.c /gm)].map(
  ([, name = '']) => name,
);

function withoutComments(text: string): string {
  return text.replaceAll(/\/\/.*$/gm, '');
}

/** Functions of a file that others may call. */
function offeredBy(name: string): readonly string[] {
  const heads = texts.get(name)?.matchAll(/^(?!static)\w[\w *]*?\b(\w+)\([^;{]*\)\n\{/gm) ?? [];
  return [...heads].map(([, offered = '']) => offered);
}

/** Files after this one whose functions it calls, in the order of the list. */
function calledAbove(name: string): readonly string[] {
  const words = new Set(texts.get(name)?.match(/\b\w+(?=\()/g));
  return listed.slice(listed.indexOf(name) + 1).filter((other) => offeredBy(other).some((each) => words.has(each)));
}

it('init.h lists each file of the init', () => {
  expect(listed.toSorted()).toEqual(names.toSorted());
});

it('a file of the init calls those before it in the list', () => {
  const found = listed.map((name) => [name, calledAbove(name)] as const).filter(([, above]) => above.length > 0);
  expect(found).toEqual([]);
});

it('files up to next.c include no more than the core', () => {
  const core = listed.slice(0, listed.indexOf('next') + 1);
  expect(core.filter((name) => texts.get(name)?.includes('#include "init.h"'))).toEqual([]);
});
