import { describe, expect, it } from 'vitest';
import { completeImageName } from '../../../../src/controller/scheduling/image-name.ts';

describe('completeImageName', () => {
  it.each([
    ['python:3.12', 'docker.io/library/python:3.12'],
    ['python', 'docker.io/library/python:latest'],
    ['team/hello:1', 'docker.io/team/hello:1'],
    ['registry.example/hello', 'registry.example/hello:latest'],
    ['127.0.0.1:5000/hello:1', '127.0.0.1:5000/hello:1'],
    ['localhost/hello:1', 'localhost/hello:1'],
    ['registry.example/hello@sha256:abc', 'registry.example/hello@sha256:abc'],
  ])('of %s is %s', (reference, complete) => {
    expect(completeImageName(reference)).toBe(complete);
  });
});
