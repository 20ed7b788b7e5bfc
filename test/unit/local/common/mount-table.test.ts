import { expect, it } from 'vitest';
import { mountPoints } from '../../../../local/common/mount-table.ts';

it('mount points are read in order, with their blanks', () => {
  const text =
    '22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n' +
    '36 22 0:33 / /home/a\\040b/nodes rw shared:9 - overlay overlay rw\n';
  expect(mountPoints(text)).toEqual(['/sys', '/home/a b/nodes']);
});
