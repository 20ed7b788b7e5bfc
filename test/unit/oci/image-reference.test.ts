import { describe, expect, it } from 'vitest';
import { parseImageReference } from '../../../src/oci/image-reference.ts';

const digest = `sha256:${'a'.repeat(64)}`;

describe('an image reference', () => {
  it.each([
    ['python', 'docker.io/library/python:latest'],
    ['python:3.12', 'docker.io/library/python:3.12'],
    ['team/app', 'docker.io/team/app:latest'],
    ['index.docker.io/team/app', 'docker.io/team/app:latest'],
    ['docker.io/python', 'docker.io/library/python:latest'],
    ['localhost/app', 'localhost/app:latest'],
    ['127.0.0.1:5000/app', '127.0.0.1:5000/app:latest'],
    ['127.0.0.1:5000/a/b:v1', '127.0.0.1:5000/a/b:v1'],
    ['registry.example/hello:1', 'registry.example/hello:1'],
    [`registry.example/hello@${digest}`, `registry.example/hello@${digest}`],
    [`registry.example/hello:1@${digest}`, `registry.example/hello@${digest}`],
    ['public.ecr.aws/lambda/python:3.12', 'public.ecr.aws/lambda/python:3.12'],
  ])('%s means %s', (text, name) => {
    expect(parseImageReference(text).name).toBe(name);
  });

  it('keeps its parts', () => {
    expect(parseImageReference('127.0.0.1:5000/a/b:v1')).toEqual({
      name: '127.0.0.1:5000/a/b:v1',
      registry: '127.0.0.1:5000',
      repository: 'a/b',
    });
  });

  it.each([
    ['', /empty/],
    ['a b', /white space/],
    ['https://registry.example/a', /scheme/],
    ['registry.example/App', /lower case/],
    ['registry.example/a:', /is not a tag/],
    ['registry.example/a:.x', /is not a tag/],
    ['registry.example//a', /empty/],
    ['a'.repeat(64).replaceAll('a', 'b'), /bare image id/],
    ['registry.example/a@sha256:123', /./],
  ])('%j is refused with what is wrong', (text, message) => {
    expect(() => parseImageReference(text)).toThrow(message);
    expect(() => parseImageReference(text)).toThrow(expect.objectContaining({ code: 'ImageInvalid' }));
  });
});
