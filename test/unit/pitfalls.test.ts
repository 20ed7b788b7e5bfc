import { describe, expect, it } from 'vitest';
import { pitfalls } from '../pitfalls.ts';
import { titlesOf } from '../support/test-titles.ts';

describe('each pitfall of other systems', () => {
  it('is in the index once', () => {
    const wanted = [
      ...Array.from({ length: 35 }, (_, index) => `P${index + 1}`),
      ...Array.from({ length: 21 }, (_, index) => `M${index + 1}`),
      ...Array.from({ length: 13 }, (_, index) => `G${index + 1}`),
    ];
    expect(pitfalls.map(({ id }) => id)).toEqual(wanted);
  });

  it('has tests that are there, and none that is skipped', () => {
    const missing = pitfalls.flatMap(({ id, tests }) =>
      tests
        .filter(([file, title]) => !titlesOf(file).some((found) => found.title === title && found.runs))
        .map(([file, title]) => `${id}: ${file} has no test '${title}'`),
    );
    expect(missing).toEqual([]);
    expect(pitfalls.filter(({ tests }) => tests.length === 0)).toEqual([]);
  });

  it('of gateways is shown by a test that goes through one', () => {
    const throughGateway = /\bgateway\b|^e2e\//;
    const elsewhere = pitfalls
      // An image is replaced by the agent alone.
      .filter(({ id }) => id.startsWith('G') && id !== 'G9')
      .filter(({ tests }) => !tests.some(([file]) => throughGateway.test(file)));
    expect(elsewhere).toEqual([]);
  });

  it('would be missed: a title that is not there is not found', () => {
    const file = 'unit/pitfalls.test.ts';
    expect(titlesOf(file).map(({ title }) => title)).toContain('is in the index once');
    expect(titlesOf(file).map(({ title }) => title)).not.toContain('is in the index');
  });
});
