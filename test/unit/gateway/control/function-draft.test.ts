import { describe, expect, it } from 'vitest';
import { KEPT_ANNOTATION, keptPropertiesOf } from '../../../../src/api/kept-properties.ts';
import { draftOf, patchTo } from '../../../../src/gateway/control/function-draft.ts';
import { tagsOf, withoutTags, withTags } from '../../../../src/gateway/control/tags.ts';
import { functionFixture } from '../../../support/function-fixture.ts';

describe('a draft', () => {
  it('is no patch of a function that only its controller has changed', () => {
    const owner = functionFixture();
    expect(patchTo(owner, draftOf(owner), 'alice', 0)).toBeUndefined();
  });
});

describe('kept properties', () => {
  it.each([undefined, '', 'null', '[]', '7', '{', '{"role":7,"tags":["a"],"aliases":{"live":7},"modified":"soon"}'])(
    'are none in the annotation %s',
    (text) => {
      const annotations = text === undefined ? {} : { [KEPT_ANNOTATION]: text };
      expect(keptPropertiesOf({ annotations })).toEqual({});
    },
  );
});

describe('tags', () => {
  const draft = draftOf(functionFixture({ metadata: { labels: { team: 'blue', 'esb.dev/x': 'y' } } }));
  const told = ({ labels, kept }: typeof draft) =>
    tagsOf({ labels, annotations: { [KEPT_ANNOTATION]: JSON.stringify(kept) } });

  it('are labels where Kubernetes takes them, and kept otherwise', () => {
    const next = withTags(draft, { 'example.com/name': 'a-b', 'aws:stack': 'x', note: 'two words', team: 'red' });
    expect(next.labels).toEqual({ 'esb.dev/x': 'y', 'example.com/name': 'a-b', team: 'red' });
    expect(next.kept.tags).toEqual({ 'aws:stack': 'x', note: 'two words' });
    expect(told(next)).toEqual({ 'example.com/name': 'a-b', 'aws:stack': 'x', note: 'two words', team: 'red' });
    // One that was a label and cannot be one any more is one tag all the same.
    expect(told(withTags(next, { team: 'red and blue' })).team).toBe('red and blue');
    expect(told(withoutTags(next, ['note', 'team', 'esb.dev/x']))).toEqual({
      'example.com/name': 'a-b',
      'aws:stack': 'x',
    });
    expect(withoutTags(next, ['esb.dev/x']).labels['esb.dev/x']).toBe('y');
  });

  it('are at most 50, of characters that Lambda takes, and none of our own labels', () => {
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`t${index}`, 'x']));
    expect(() => withTags(draft, many)).toThrow('at most 50');
    expect(() => withTags(draft, { note: '<b>' })).toThrow('characters');
    expect(() => withTags(draft, { 'esb.dev/lambda-function': 'other' })).toThrow("ESB's own labels");
  });
});
