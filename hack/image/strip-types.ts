import { stripTypeScriptTypes } from 'node:module';

/** Names of modules of the program in `import`, `export … from` and `import()`, as Biome formats them. */
const ownModule = /\b(from |import |import\()'(\.{1,2}\/[^']+)\.ts'/g;

/**
 * The JavaScript of a module of the program. Types become blanks, so that lines and columns stay. Other modules of the
 * program are named `.js`.
 */
export function stripTypes(source: string): string {
  return stripTypeScriptTypes(source, { mode: 'strip' }).replaceAll(ownModule, "$1'$2.js'");
}
