import { expect, it } from 'vitest';
import { leftOut } from '../../../../src/cli/build/left-out.ts';

it.each([
  ['.git', true],
  ['lib/__pycache__', true],
  ['lib/module.pyc', true],
  ['.esbignore', true],
  ['app.py', false],
  ['node_modules', false],
  ['gitlab/client.py', false],
  ['.config/.git', true],
  ['.cache/lib/module.pyc', true],
  ['.env', true],
  ['settings/.env.production', true],
  ['.npmrc', true],
  ['.aws', true],
  ['env.py', false],
])('without further patterns: %s is left out %s', (path, expected) => {
  expect(leftOut()(path)).toBe(expected);
});

it('packages that the image gets are left out at the top, and stay below', () => {
  const isLeftOut = leftOut('', 'node_modules');
  expect([isLeftOut('node_modules'), isLeftOut('vendor/node_modules')]).toEqual([true, false]);
});

it.each([
  ['*.md', 'pages/one.md', true],
  ['/one.md', 'pages/one.md', false],
  ['/one.md', 'one.md', true],
  ['pages/', 'pages', true],
  ['pages/*.md', 'pages/one.md', true],
  ['pages/*.md', 'other/pages/one.md', false],
  ['# tests', '# tests', false],
  ['secrets.json', '.config/secrets.json', true],
  ['*.pem', '.certs/key.pem', true],
  ['*.local', '.local', true],
  ['/data/**', 'data/.hidden/one', true],
  ['/*', '.hidden', true],
  ['*.pem', 'xpem', false],
])('the pattern %s holds for %s: %s', (pattern, path, expected) => {
  expect(leftOut(`\n${pattern}\n`)(path)).toBe(expected);
});

it('a pattern that takes others back is refused rather than misread', () => {
  expect(() => leftOut('*.md\n!README.md')).toThrow(/!README.md: patterns that take others back/);
});
