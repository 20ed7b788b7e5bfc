import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mergePatch } from '../../../../src/kube/api/merge-patch.ts';
import { merged } from '../../../support/patched-object.ts';

describe('a merge patch', () => {
  it('makes of any object any other, and is none between two that are alike', () => {
    const key = fc.constantFrom('a', 'b', 'c', 'constructor');
    const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 3 },
        fc.integer(),
        fc.string(),
        fc.array(fc.integer(), { maxLength: 2 }),
        fc.dictionary(key, tie('tree'), { maxKeys: 4, noNullPrototype: true }),
      ),
    }));
    const object = fc.dictionary(key, tree, { maxKeys: 4, noNullPrototype: true });
    fc.assert(
      fc.property(object, object, (from, to) => {
        const patch = mergePatch(from, to);
        expect(merged(from, patch ?? {})).toEqual(to);
        expect(patch === undefined).toBe(isDeepStrictEqual(from, to));
      }),
      { numRuns: 500 },
    );
  });
});
