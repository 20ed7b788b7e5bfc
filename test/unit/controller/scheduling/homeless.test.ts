import { describe, expect, it } from 'vitest';
import { homelessBy } from '../../../../src/controller/scheduling/homeless.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

const worker = workerFixture({ spec: { nodeSelector: { pool: 'functions' }, ephemeralStorage: '64Mi' } });
const refused = { leaving: false, unfitArchitectures: [] };

describe('a worker that waits for a node', () => {
  it.each(['AllCordoned', 'NoneFits', 'NoneHeld', 'NoneMatches', 'NoneTolerated', 'WrongArchitecture'] as const)(
    'asks for a further one where the nodes of now are refused as %s',
    (reason) => {
      expect(homelessBy({ ...refused, reason }, worker, false)).toMatchObject({
        memoryMiB: 192,
        diskMiB: 0,
        nodeSelector: { pool: 'functions' },
      });
    },
  );

  it.each(['NoneReady', 'SpreadUnmet', 'PinnedNodeUnfit', 'QuotaExceeded'] as const)(
    'asks for none where one more would not help (%s)',
    (reason) => {
      expect(homelessBy({ ...refused, reason }, worker, false)).toBeUndefined();
    },
  );

  it('asks for none where ESB leaves each node, and for the first where there is none', () => {
    expect(homelessBy({ ...refused, reason: 'AllCordoned', leaving: true }, worker, false)).toBeUndefined();
    expect(homelessBy({ ...refused, reason: 'NoNodes', leaving: true }, worker, false)).toBeDefined();
  });

  it('asks for disk in place of memory where /tmp is on disk, and for a processor that its image is made for', () => {
    const unfitArchitectures = ['arm64'];
    const homeless = homelessBy({ ...refused, reason: 'WrongArchitecture', unfitArchitectures }, worker, true);
    expect(homeless).toMatchObject({ memoryMiB: 128, diskMiB: 64, unfitArchitectures });
  });
});
