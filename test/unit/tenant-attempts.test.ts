import { describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../local/common/repository.ts';
import { testsByTag } from '../support/test-tags.ts';
import { tenantAttempts } from '../tenant-attempts.ts';

describe('each attempt of a tenant', () => {
  it('has a test that is there and runs', () => {
    const byTag = testsByTag(repositoryRoot());
    expect(Object.keys(tenantAttempts).filter((tag) => !byTag.has(tag))).toEqual([]);
    expect(Object.keys(tenantAttempts).length).toBeGreaterThanOrEqual(25);
  });
});
