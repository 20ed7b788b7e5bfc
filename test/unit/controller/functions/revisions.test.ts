import { describe, expect, it } from 'vitest';
import { type Revision, revisionsAfter } from '../../../../src/controller/functions/revisions.ts';
import { functionFixture } from '../../../support/function-fixture.ts';

function kept(revisions: readonly Revision[], template: string, limit = 10, hasWorked = false): string {
  const owner = functionFixture({ spec: { revisionHistoryLimit: limit }, status: { revisions } });
  return revisionsAfter(owner, template, hasWorked)
    .map((each) => `${each.revision}${each.template}${each.worked === true ? '!' : ''}`)
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

  it('are the newest that has worked as well, whatever the limit says, until the present one has', () => {
    const worked = [{ revision: 1, template: 'a', worked: true }, ...three.slice(1)];
    expect(kept(worked, 'd', 1)).toBe('1a! 5c 6d');
    expect(kept(worked, 'd', 1, true)).toBe('5c 6d!');
    expect(kept(worked, 'd', 3)).toBe('1a! 2b 5c 6d');
    // Its word comes back with the template.
    expect(kept(worked, 'a', 0)).toBe('6a!');
  });

  it('stay as they are while the function is being deleted', () => {
    const metadata = { deletionTimestamp: '2026-11-01T01:00:00Z' };
    expect(revisionsAfter(functionFixture({ metadata, status: { revisions: three } }), 'd', false)).toEqual(three);
  });
});
