import { expect, it } from 'vitest';
import { formatTable } from '../../../src/cli/table.ts';

it('columns are as wide as their widest cell', () => {
  expect(
    formatTable([
      ['NAME', 'PID'],
      ['etcd', '7'],
      ['apiserver', '12'],
    ]),
  ).toBe('NAME       PID\netcd       7\napiserver  12\n');
});
