import { expect, it } from 'vitest';
import { baseNameOf, plainHttpWith, repositoryOf } from '../../../../src/cli/deploy/place.ts';

it.each([
  ['python', undefined, '127.0.0.1:5000', '127.0.0.1:5000/python-base:latest'],
  ['node', undefined, '127.0.0.1:5000', '127.0.0.1:5000/nodejs-base:latest'],
  ['python', 'registry.example/base:1', '127.0.0.1:5000', 'registry.example/base:1'],
  ['go', undefined, undefined, 'scratch'],
  ['go', 'registry.example/base:1', undefined, 'registry.example/base:1'],
] as const)('the base of a function in %s, given %s with the instance %s, is %s', (language, given, registry, base) => {
  expect(baseNameOf(language, given, registry)).toBe(base);
});

it('without a base and an instance that has one, the way out is named', () => {
  expect(() => baseNameOf('python', undefined, undefined)).toThrow(/npm run up.*runs functions in python with --base/);
  expect(() => baseNameOf('node', 'scratch', undefined)).toThrow(/nothing that runs a function in node/);
});

it.each([
  [undefined, '127.0.0.1:5000', { registry: '127.0.0.1:5000', repository: 'hello' }],
  ['registry.example/team/hello', '127.0.0.1:5000', { registry: 'registry.example', repository: 'team/hello' }],
  ['registry.example:5000/hello', undefined, { registry: 'registry.example:5000', repository: 'hello' }],
])('the image goes to %s, with the instance %s', (given, registry, place) => {
  expect(repositoryOf('hello', given, registry)).toEqual(place);
});

it('a place that is none, or none at all, is told of', () => {
  expect(() => repositoryOf('hello', undefined, undefined)).toThrow(/--push registry.example\/team\/hello/);
  expect(() => repositoryOf('hello', 'registry.example/hello:1', undefined)).toThrow(/without tag and digest/);
  expect(() => repositoryOf('hello', `registry.example/hello@sha256:${'0'.repeat(64)}`, undefined)).toThrow(
    /without tag/,
  );
  expect(() => repositoryOf('hello', 'registry.example/Hello', undefined)).toThrow(/lower case/);
});

it.each([
  ['registry.example:5000', true, true],
  ['registry.example:5000', false, undefined],
  ['docker.io', true, undefined],
] as const)(
  'a registry that is not the one of the image gets TLS: %s, asked for none %s: %s',
  (registry, isAsked, expected) => {
    const target = { registry: 'registry.example:5000', repository: 'hello' };
    expect(plainHttpWith(registry, target, isAsked)).toBe(expected);
  },
);
