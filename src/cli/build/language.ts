import { EsbError } from '../../common/errors.ts';

export const languages = ['python', 'node', 'go'] as const;

/** Language of a function, which says how its image is made. */
export type Language = (typeof languages)[number];

/** Handler of a function whose author names none. */
const usualHandlers: Readonly<Record<Exclude<Language, 'go'>, readonly string[]>> = {
  python: ['app.handler', 'lambda_function.lambda_handler', 'lambda_function.handler'],
  node: ['index.handler'],
};

/** File that names the packages of a function, for each language. */
const packageFiles: Readonly<Record<Language, string>> = {
  python: 'requirements.txt',
  node: 'package.json',
  go: 'go.mod',
};
const sourceFiles: Readonly<Record<Language, RegExp>> = { python: /\.py$/, node: /\.[cm]?js$/, go: /\.go$/ };

/**
 * The language of a function, by the files at the top of its folder: those that name packages, else those with code.
 *
 * @throws {EsbError} `InvalidArgument` where these tell of none or several
 */
export function languageOf(folder: string, names: readonly string[]): Language {
  const byPackages = languages.filter((language) => names.includes(packageFiles[language]));
  const bySource = languages.filter((language) => names.some((name) => sourceFiles[language].test(name)));
  const found = byPackages.length > 0 ? byPackages : bySource;
  const [language] = found;
  if (language !== undefined && found.length === 1) {
    return language;
  }
  throw new EsbError(
    language === undefined
      ? `${folder} has no file in Python, JavaScript or Go: is it the folder of a function? esb init writes a first one`
      : `${folder} may be a function in ${found.join(' or in ')}: name its language with --language`,
    { code: 'InvalidArgument' },
  );
}

/**
 * The handler of a function: the given one, else the usual one that has a file. Undefined for Go, whose program has it.
 *
 * @param folder as the user has written it
 * @param exists whether there is such a file, by its path in the folder
 * @throws {EsbError} `InvalidArgument` without a file that could have the handler
 */
export function handlerOf(
  language: Language,
  folder: string,
  given: string | undefined,
  exists: (path: string) => boolean,
): string | undefined {
  if (language === 'go') {
    if (given !== undefined) {
      throw new EsbError('a function in Go has no handler: its program hands one to the runtime client', {
        code: 'InvalidArgument',
      });
    }
    return undefined;
  }
  const [usual = '', ...others] = usualHandlers[language];
  const found = given ?? [usual, ...others].find((handler) => handlerFiles(language, handler).some(exists));
  if (found === undefined) {
    throw new EsbError(
      `${folder} has none of ${[usual, ...others].flatMap((handler) => handlerFiles(language, handler)).join(', ')}: is ` +
        'it the folder of a function? If so, name the handler as FILE.FUNCTION with --handler',
      { code: 'InvalidArgument' },
    );
  }
  const files = handlerFiles(language, found);
  if (files.length === 0) {
    throw new EsbError(`--handler ${found} is not FILE.FUNCTION, such as ${usual}`, { code: 'InvalidArgument' });
  }
  if (!files.some(exists)) {
    throw new EsbError(`the handler ${found} needs a file ${files.join(' or ')}, and ${folder} has none`, {
      code: 'InvalidArgument',
    });
  }
  return found;
}

/** Files that may have a handler; none for a text that is no handler. */
function handlerFiles(language: Exclude<Language, 'go'>, handler: string): readonly string[] {
  const dot = handler.lastIndexOf('.');
  if (dot <= 0 || dot === handler.length - 1) {
    return [];
  }
  const file = handler.slice(0, dot);
  if (language === 'node') {
    return ['.js', '.mjs', '.cjs'].map((end) => file + end);
  }
  const module = file.replaceAll('.', '/');
  return [`${module}.py`, `${module}/__init__.py`];
}
