import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(import.meta.dirname, '../..');
const memoryFiles = pathToFileURL(join(import.meta.dirname, 'memory-files.ts')).href;
/** Sources that keep records and marks. */
const keepers = [join(root, 'src/agent/'), join(root, 'src/common/atomic-file.ts')].map(
  (path) => pathToFileURL(path).href,
);

/** A change of the source that the simulation has to find. */
export interface SourceChange {
  /** Below the repository. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly text: string;
  readonly by: string;
}

/**
 * Applies changes to the text of a file.
 *
 * @throws {Error} where a text does not stand there exactly once
 */
export function changedSource(source: string, changes: readonly SourceChange[]): string {
  return changes.reduce((changed, { by, file, text }) => {
    const count = changed.split(text).length - 1;
    if (count !== 1) {
      throw new Error(`'${text}' stands ${count} times in ${file}, and not once`);
    }
    return changed.replace(text, () => by);
  }, source);
}

/** From here on the agent that is imported keeps its files in memory, and is changed like this. */
export function installHooks(changes: readonly SourceChange[]): void {
  const byUrl = Map.groupBy(changes, ({ file }) => pathToFileURL(join(root, file)).href);
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === 'node:fs' || specifier === 'node:fs/promises') {
        const { parentURL = '' } = context;
        if (keepers.some((keeper) => parentURL.startsWith(keeper))) {
          return { url: memoryFiles, shortCircuit: true };
        }
      }
      return next(specifier, context);
    },
    load(url, context, next) {
      const wanted = byUrl.get(url);
      if (wanted === undefined) {
        return next(url, context);
      }
      return {
        format: 'module-typescript',
        source: changedSource(readFileSync(fileURLToPath(url), 'utf8'), wanted),
        shortCircuit: true,
      };
    },
  });
}
