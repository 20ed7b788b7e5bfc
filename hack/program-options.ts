import { readFileSync } from 'node:fs';
import { type ParseArgsConfig, parseArgs } from 'node:util';

/** The comment that a source file begins with, without its marks; empty where there is none. */
export function headComment(text: string): string {
  const block = /^\/\*\*\n([\s\S]*?)\n \*\//.exec(text)?.[1] ?? /^(?:\/\/.*\n)+/.exec(text)?.[0] ?? '';
  return block.replaceAll(/^(?: \*|\/\/) ?/gm, '').trim();
}

/**
 * The options of a program of this repository, as `parseArgs` reads them. `--help` prints the comment that the file of
 * the program begins with, and an option that is not there its message and the same. Both end the process.
 *
 * @param file `import.meta.filename` of the program
 */
export function programOptions<T extends ParseArgsConfig>(file: string, config: T): ReturnType<typeof parseArgs<T>> {
  const help = (): string => headComment(readFileSync(file, 'utf8'));
  if ((config.args ?? process.argv.slice(2)).some((word) => word === '--help' || word === '-h')) {
    console.log(help());
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    if (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) {
      console.error(`${error.message}\n\n${help()}`);
      process.exit(2);
    }
    throw error;
  }
}
