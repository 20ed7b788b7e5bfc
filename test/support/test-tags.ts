import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Test that carries tags, as its file states them. */
export interface TaggedTest {
  /** Path from the root of the repository. */
  readonly file: string;
  readonly title: string;
  readonly tags: readonly string[];
  /** False for a test that is skipped, still to do, or expected to fail. */
  readonly runs: boolean;
}

const CALL =
  /(?<call>\b(?:it|test)(?:\.\w+)*)?\(\s*(?<quote>['"`])(?<title>(?:\\.|(?!\k<quote>)[^\\])*)\k<quote>,\s*\{\s*tags: \[(?<tags>[^\]]*)\]/g;

/** Tests with tags of all files below `test/`, in the order of their paths. */
export function taggedTests(root: string): readonly TaggedTest[] {
  return readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.ts'))
    .toSorted()
    .flatMap((path) => taggedTestsOf(`test/${path}`, readFileSync(join(root, 'test', path), 'utf8')));
}

export function taggedTestsOf(file: string, text: string): readonly TaggedTest[] {
  return [...text.matchAll(CALL)].map(({ groups = {} }) => ({
    file,
    title: (groups.title ?? '').replaceAll(/\\(.)/g, '$1'),
    tags: [...(groups.tags ?? '').matchAll(/'([^']+)'/g)].map(([, tag = '']) => tag),
    runs: !/\.(skip|todo|only|fails)\b/.test(groups.call ?? 'it'),
  }));
}

/** Tests that run, by tag. */
export function testsByTag(root: string): ReadonlyMap<string, readonly TaggedTest[]> {
  const pairs = taggedTests(root)
    .filter(({ runs }) => runs)
    .flatMap((test) => test.tags.map((tag) => [tag, test] as const));
  return new Map([...Map.groupBy(pairs, ([tag]) => tag)].map(([tag, found]) => [tag, found.map(([, test]) => test)]));
}
