import { expect, it } from 'vitest';
import { formatList, formatTable } from '../../../src/cli/table.ts';

it('columns are as wide as their widest cell', () => {
  expect(
    formatTable([
      ['NAME', 'PID'],
      ['etcd', '7'],
      ['apiserver', '12'],
    ]),
  ).toBe('NAME       PID\netcd       7\napiserver  12\n');
});

it('a list is a table for people, and JSON for programs', () => {
  const form = { header: ['NAME'], rowOf: (name: string) => [name], entryOf: (name: string) => ({ name }) };
  expect(formatList(['etcd'], false, form)).toBe('NAME\netcd\n');
  expect(formatList(['etcd'], true, form)).toBe('[\n  {\n    "name": "etcd"\n  }\n]\n');
  expect(formatList([], false, form)).toBe('NAME\n');
});
