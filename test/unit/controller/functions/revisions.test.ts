import { describe, expect, it } from 'vitest';
import { type Revision, revisionsAfter } from '../../../../src/controller/functions/revisions.ts';
import { functionFixture } from '../../../support/function-fixture.ts';

function kept(revisions: readonly Revision[], template: string, limit = 10): string {
  const owner = functionFixture({ spec: { revisionHistoryLimit: limit }, status: { revisions } });
  return revisionsAfter(owner, template)
    .map((each) => `${each.revision}${each.template}`)
    .join(' ');
}

const three = [
  { revision: 1, template: 'a' },
  { revision: 2, template: 'b' },
  { revision: 5, template: 'c' },
];

describe('the templates that are kept', () => {
  it('get numbers that grow', () => {
    expect(kept([], 'a')).toBe('1a');
    expect(kept(three, 'd')).toBe('1a 2b 5c 6d');
    expect(kept(three, 'c')).toBe('1a 2b 5c');
  });

  it('lose their earlier number when they come back', () => {
    expect(kept(three, 'a')).toBe('2b 5c 6a');
  });

  it('are the present one and as many earlier ones as the limit says, the latest', () => {
    expect(kept(three, 'd', 2)).toBe('2b 5c 6d');
    expect(kept(three, 'c', 1)).toBe('2b 5c');
    expect(kept(three, 'd', 0)).toBe('6d');
  });

  it('stay as they are while the function is being deleted', () => {
    const metadata = { deletionTimestamp: '2026-11-01T01:00:00Z' };
    expect(revisionsAfter(functionFixture({ metadata, status: { revisions: three } }), 'd')).toEqual(three);
  });
});
