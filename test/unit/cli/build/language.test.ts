import { describe, expect, it } from 'vitest';
import { handlerOf, languageOf } from '../../../../src/cli/build/language.ts';

it.each([
  [['app.py'], 'python'],
  [['requirements.txt', 'package.json.md'], 'python'],
  [['index.mjs'], 'node'],
  [['package.json', 'build.py'], 'node'],
  [['go.mod', 'main.go', 'generate.py'], 'go'],
  [['main.go'], 'go'],
] as const)('%j is a function in %s', (names, language) => {
  expect(languageOf('hello', names)).toBe(language);
});

it.each([
  [[], /no file in Python, JavaScript or Go.*esb init/],
  [['README.md'], /no file in Python/],
  [['package.json', 'requirements.txt'], /python or in node: name its language with --language/],
  [['index.js', 'app.py'], /--language/],
] as const)('%j does not say which', (names, message) => {
  expect(() => languageOf('hello', names)).toThrow(message);
});

describe('the handler', () => {
  const among =
    (...files: readonly string[]) =>
    (path: string) =>
      files.includes(path);

  it.each([
    ['python', 'app.handler', ['app.py']],
    ['python', 'lambda_function.lambda_handler', ['lambda_function.py']],
    ['node', 'index.handler', ['index.cjs']],
    ['go', undefined, ['main.go']],
  ] as const)('of a function in %s is by default %s', (language, handler, files) => {
    expect(handlerOf(language, 'hello', undefined, among(...files))).toBe(handler);
  });

  it.each([
    ['python', 'lib.greet.main', 'lib/greet.py'],
    ['python', 'lib/greet.main', 'lib/greet.py'],
    ['python', 'lib.main', 'lib/__init__.py'],
    ['node', 'dist/index.main', 'dist/index.js'],
  ] as const)('in %s may be %s', (language, handler, file) => {
    expect(handlerOf(language, 'hello', handler, among(file))).toBe(handler);
  });

  it.each([
    ['python', 'other.handler', /needs a file other.py or other\/__init__.py, and hello has none/],
    ['node', 'index', /is not FILE.FUNCTION, such as index.handler/],
    ['python', undefined, /none of app.py, .*lambda_function.py.*--handler/],
    ['go', 'main.handle', /has no handler/],
  ] as const)('in %s cannot be %s', (language, handler, message) => {
    expect(() => handlerOf(language, 'hello', handler, among())).toThrow(message);
  });
});
