import { describe, expect, it } from 'vitest';
import { tmpReport } from '../../../../src/agent/node/tmp-report.ts';

const disk = (capacityMiB: number, allocatedMiB = 64) => ({ medium: 'LoopFile', capacityMiB, allocatedMiB }) as const;

describe('the /tmp that a LambdaNode shows', () => {
  it('is what was told before, until the medium was tried', () => {
    expect(tmpReport(undefined, undefined)).toBeUndefined();
    expect(tmpReport(undefined, disk(1_000))).toEqual(disk(1_000));
  });

  it('says why it is memory, whatever was told before', () => {
    expect(tmpReport({ medium: 'Tmpfs', message: 'x'.repeat(2_000) }, disk(1_000))).toEqual({
      medium: 'Tmpfs',
      message: 'x'.repeat(1_024),
    });
  });

  it('keeps its capacity while logs and images come and go, and tells of more or less then', () => {
    expect(tmpReport(disk(5_000, 64), undefined)).toEqual(disk(5_000, 64));
    expect(tmpReport(disk(5_200, 128), disk(5_000))).toEqual(disk(5_000, 128));
    expect(tmpReport(disk(4_700), disk(5_000))).toEqual(disk(4_700));
    expect(tmpReport(disk(99_000), disk(100_000))).toEqual(disk(100_000));
    expect(tmpReport(disk(96_000), disk(100_000))).toEqual(disk(96_000));
  });
});
