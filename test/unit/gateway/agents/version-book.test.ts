import { describe, expect, it } from 'vitest';
import type { EffectiveAlias, LambdaFunction } from '../../../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../../../src/api/lambda-version.ts';
import { drawOf, NO_DRAW, VersionBook, versionFor } from '../../../../src/gateway/agents/version-book.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { functionFixture, versionFixture } from '../../../support/function-fixture.ts';

const routed: EffectiveAlias = {
  name: 'live',
  version: 1,
  routing: [
    { version: 2, permille: 100 },
    { version: 3, permille: 5 },
    { version: 4, permille: 0 },
  ],
};

describe('an alias with weights', () => {
  it('gives each version exactly its part of all draws', () => {
    const draws = Array.from({ length: 1_000 }, (_none, draw) => versionFor(routed, draw));
    const counts = [1, 2, 3].map((version) => draws.filter((each) => each === version).length);
    expect(counts).toEqual([895, 100, 5]);
    expect(versionFor(routed, NO_DRAW)).toBe(1);
  });

  it('draws each number of [0, 1000) from its part of [0, 1)', () => {
    expect([0, 0.000_999, 0.001, 0.0999, 0.1, 0.999_999].map((value) => drawOf(() => value))).toEqual([
      0, 0, 1, 99, 100, 999,
    ]);
  });
});

describe('VersionBook', () => {
  const owner = functionFixture({
    spec: {
      aliases: [
        { name: 'live', version: 1 },
        { name: 'next', version: 9 },
      ],
    },
    status: { aliases: [routed] },
  });

  function book() {
    const functions = fakeInformer<LambdaFunction>([owner]);
    const versions = fakeInformer<LambdaVersion>([1, 2].map((number) => versionFixture(owner, number)));
    const changed: string[] = [];
    const made = new VersionBook({ functions, versions, onChange: (name) => changed.push(name) });
    changed.splice(0);
    const resolve = (qualifier?: string, draw = NO_DRAW) => made.resolve('hello', qualifier, () => draw);
    return { book: made, changed, functions, resolve, versions };
  }

  it('knows $LATEST, numbers, and the aliases that are in effect', () => {
    const { resolve } = book();
    expect(resolve()).toEqual({ kind: 'Latest' });
    expect(resolve('$LATEST')).toEqual({ kind: 'Latest' });
    expect(resolve('2')).toEqual({ kind: 'Version', version: 2, isNamed: true, isPublished: true });
    // Nothing is made for a version that gets none of the calls.
    expect(resolve('4')).toMatchObject({ isNamed: false });
    expect(resolve('7')).toEqual({ kind: 'Version', version: 7, isNamed: false, isPublished: false });
    expect(resolve('live')).toMatchObject({ version: 1 });
    expect(resolve('live', 99)).toMatchObject({ version: 2 });
    expect(resolve('live', 104)).toMatchObject({ version: 3, isPublished: false });
  });

  it('tells an alias that is not in effect yet from one that there is not, and reads numbers one way alone', () => {
    const { resolve } = book();
    expect(resolve('next')).toEqual({ kind: 'Coming' });
    expect(['nope', '01', '$LATEST.PUBLISHED'].map((each) => resolve(each).kind)).toEqual([
      'Unknown',
      'Unknown',
      'Unknown',
    ]);
  });

  it('goes by the function that callers name, the oldest where several resources have the name', () => {
    const { book: made, changed, functions } = book();
    const called = (name: string, seconds: number, version: number): LambdaFunction =>
      functionFixture({
        name,
        metadata: { creationTimestamp: `2026-11-01T00:00:0${seconds}Z` },
        spec: { functionName: 'other' },
        status: { aliases: [{ name: 'live', version }] },
      });
    functions.put(called('young', 5, 5));
    functions.put(called('old', 2, 2));
    expect(made.aliases('other')).toEqual([{ name: 'live', version: 2 }]);
    functions.put(called('young', 5, 6));
    expect(made.aliases('other')).toEqual([{ name: 'live', version: 2 }]);
    functions.remove({ namespace: 'default', name: 'old' });
    expect(made.aliases('other')).toEqual([{ name: 'live', version: 6 }]);
    expect(changed).toEqual(['other', 'other', 'other', 'other']);
  });

  it('forgets versions that are gone', () => {
    const { book: made, changed, versions } = book();
    expect(made.versions('hello').map(({ spec }) => spec.version)).toEqual([1, 2]);
    versions.remove({ namespace: 'default', name: 'hello-1' });
    expect(made.versions('hello').map(({ spec }) => spec.version)).toEqual([2]);
    expect(changed).toEqual(['hello']);
  });
});
