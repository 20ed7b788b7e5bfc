import { expect, it } from 'vitest';
import { checkLinks } from '../../../../src/cli/build/inner-links.ts';

const check = (name: string, target: string) => () =>
  checkLinks(
    [{ kind: 'link', name: `var/task/${name}`, mode: 0o777, target }],
    '/home/ada/hello',
    'var/task',
    'copy the files',
  );

it.each([
  ['lib', 'vendor/lib'],
  ['node_modules/.bin/tool', '../tool/cli.js'],
  ['one', '../task/two'],
  ['cache', '/tmp/cache'],
  ['all', '.'],
])('a link %s to %s stays', (name, target) => {
  expect(check(name, target)).not.toThrow();
});

it.each([
  ['app.py', '../shared/app.py'],
  ['node_modules/own', '../../own'],
  ['lib/deep', '../../../etc'],
  ['up', '..'],
  ['lib', '../tasks/lib'],
  ['lib', '/home/ada/hello/vendor/lib'],
])('a link %s to %s, which would lead nowhere in the image, is refused with the way out', (name, target) => {
  expect(check(name, target)).toThrow(`${name} is a link to ${target}, which the image does not have: copy the files`);
});
