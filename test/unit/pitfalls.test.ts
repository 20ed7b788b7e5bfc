import { describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../local/common/repository.ts';
import { pitfalls } from '../pitfalls.ts';
import { taggedTests, taggedTestsOf, testsByTag } from '../support/test-tags.ts';
import { tenantAttempts } from '../tenant-attempts.ts';

const byTag = testsByTag(repositoryRoot());

describe('each pitfall of other systems', () => {
  it('is in the index once', () => {
    const wanted = [
      ...Array.from({ length: 35 }, (_, index) => `P${index + 1}`),
      ...Array.from({ length: 21 }, (_, index) => `M${index + 1}`),
      ...Array.from({ length: 13 }, (_, index) => `G${index + 1}`),
    ];
    expect(Object.keys(pitfalls)).toEqual(wanted);
  });

  it('has tests that are there, and none that is skipped', { tags: ['P35'] }, () => {
    expect(Object.keys(pitfalls).filter((tag) => !byTag.has(tag))).toEqual([]);
    expect(taggedTests(repositoryRoot()).filter(({ runs }) => !runs)).toEqual([]);
  });

  it('of gateways is shown by a test that goes through one', () => {
    const throughGateway = /\bgateway\b|^test\/e2e\//;
    const elsewhere = Object.keys(pitfalls)
      // An image is replaced by the agent alone.
      .filter((tag) => tag.startsWith('G') && tag !== 'G9')
      .filter((tag) => !(byTag.get(tag) ?? []).some(({ file }) => throughGateway.test(file)));
    expect(elsewhere).toEqual([]);
  });
});

describe('tags', () => {
  it('are all in a table', () => {
    expect([...byTag.keys()].filter((tag) => !(tag in pitfalls) && !(tag in tenantAttempts))).toEqual([]);
  });

  it('of a test that is skipped count for nothing', () => {
    // Built from parts: this file is read for tags as well.
    const text = [
      'it.',
      "skip('one', { ",
      "tags: ['P1'] }, run); it.each([1])('two %i', { ",
      "tags: ['P2', 'G1'], timeout: 1 }",
    ];
    expect(taggedTestsOf('a.test.ts', text.join(''))).toEqual([
      { file: 'a.test.ts', title: 'one', tags: ['P1'], runs: false },
      { file: 'a.test.ts', title: 'two %i', tags: ['P2', 'G1'], runs: true },
    ]);
  });
});
